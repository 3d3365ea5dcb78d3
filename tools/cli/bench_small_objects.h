// tools/cli/bench_small_objects.h - many raw objects of 4 KiB whose keys and bytes follow from
// their number: stored in batches, looked up, and read back to compare. Single-threaded.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "tools/cli/bench_session.h"

namespace terrace {

class SmallObjects {
 public:
  static constexpr uint64_t kBytes = 4096;
  static constexpr uint32_t kBatch = 128;  // objects of one put

  /// `depth` puts of kBatch objects will be in flight.
  static StatusOr<std::unique_ptr<SmallObjects>> open(const Globals& globals, uint32_t connections,
                                                      uint32_t depth);
  /// Stores objects [0, count). Shows a progress bar when `visible`.
  StatusOr<LoopResult> store(uint64_t count, Durability durability, bool visible);
  /// Of all that were stored, in order.
  std::span<const ChunkKey> keys() const { return keys_; }
  /// Fetches `samples` objects drawn by `seed` and compares every byte; returns what was fetched.
  /// kDataLoss names the object.
  StatusOr<LoopResult> compare(uint64_t samples, uint64_t seed);
  BenchSession& session() { return *session_; }
  /// Their namespace, as another client sees it.
  static StatusOr<NamespaceId> open_namespace(Client* client);
  /// Ends the session and opens one with the node that `globals` names now.
  Status reconnect(const Globals& globals);

 private:
  SmallObjects(uint32_t connections, uint32_t depth)
      : connections_(connections), depth_(depth), run_(random_run()) {}
  StatusOr<OpId> put_batch(uint64_t first, uint64_t count, uint32_t slot, Durability durability);
  std::span<std::byte> memory_of(uint32_t slot);
  uint64_t seed_of(uint64_t object) const { return run_ ^ (object * 0x9E3779B97F4A7C15u); }

  static Fingerprint fingerprint();
  const uint32_t connections_;
  const uint32_t depth_;
  const uint64_t run_;
  AlignedBuffer memory_;  // a batch for every put in flight
  std::vector<ChunkKey> keys_;
  std::unique_ptr<BenchSession> session_;
};
}  // namespace terrace
