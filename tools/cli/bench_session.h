// tools/cli/bench_session.h - a client that works as fast as it is answered: a session with its
// namespace and memory, and the closed loop that keeps operations in flight. Single-threaded.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client/terrace.h"
#include "tools/cli/bench_math.h"
#include "tools/cli/command.h"
#include "tools/cli/latencies.h"

namespace terrace {

struct SessionOptions {
  std::string ns;
  Fingerprint fingerprint;
  uint32_t connections = 2;
  bool verify = true;
  std::span<std::byte> memory;  // outlives the session; empty: none
};

/// Submits operation `n` (0, 1, 2, ...) of a run.
using Submit = std::function<StatusOr<OpId>(uint64_t n)>;
/// Sees every completion of a run, also one that failed.
using OnCompletion = std::function<void(const Completion&)>;

struct LoopOptions {
  uint32_t depth = 2;                      // operations in flight
  Nanos duration{0};                       // 0: until operations_max
  uint64_t operations_max = ~uint64_t{0};  // submitted
  bool refusals_fail = true;               // false: RESOURCE_EXHAUSTED is counted, and goes on
  OnCompletion on_completion;              // may be empty
};

/// What a run did. A run in which an operation failed is an error, not a figure. Latencies are of
/// those that were not refused.
struct LoopResult {
  uint64_t operations = 0;
  uint64_t refused = 0;  // of the operations
  uint64_t bytes = 0;
  std::array<uint64_t, kTierCount> tier_bytes{};
  double seconds = 0;
  Latencies latencies;
  /// What `other` did after it.
  void add(const LoopResult& other);
};

class BenchSession {
 public:
  /// As Client::open, open_namespace and register_memory.
  static StatusOr<std::unique_ptr<BenchSession>> open(const Globals& globals,
                                                      const SessionOptions& options);
  Client& client() { return *client_; }
  NamespaceId ns() const { return ns_; }
  RegionId region() const { return region_; }

  /// Keeps `depth` operations in flight until the time is over or the number reached, then waits
  /// for the last. The first failure ends it, once nothing is in flight any more.
  StatusOr<LoopResult> run(const LoopOptions& options, const Submit& submit);

  /// Whole objects from or to the memory: object i at i * bytes_each.
  StatusOr<OpId> fetch(const ChunkKey& key, uint64_t place, uint64_t bytes_each);
  /// Several in one operation, from place `place` on.
  StatusOr<OpId> fetch(std::span<const ChunkKey> keys, uint64_t place, uint64_t bytes_each);
  /// A whole object into these places.
  StatusOr<OpId> fetch(const ChunkKey& key, std::span<const Fragment> places);
  /// A whole chunk into these blocks of a paged pool.
  StatusOr<OpId> fetch(const ChunkKey& key, std::span<const PoolSegment> pool,
                       std::span<const uint32_t> block_ids);
  StatusOr<OpId> put(const ChunkKey& key, uint64_t place, uint64_t bytes_each,
                     Durability durability);
  /// Erases all of them; one that is gone already is fine.
  Status erase_all(std::span<const ChunkKey> keys);
  /// Looks all of them up. kFailedPrecondition names the first that is not in `tier`.
  Status expect_in(std::span<const ChunkKey> keys, Tier tier);

 private:
  BenchSession(std::unique_ptr<Client> client, milliseconds timeout)
      : client_(std::move(client)), timeout_(timeout) {}
  std::unique_ptr<Client> client_;
  milliseconds timeout_;
  NamespaceId ns_{};
  RegionId region_{};
};

/// Keys of `count` objects that no other run of a benchmark used (`run` is drawn at random).
std::vector<ChunkKey> bench_keys(uint64_t run, uint64_t first, size_t count);
uint64_t random_run();
/// Chunks of `bytes` in `layers` layers, K and V planes of bf16. kInvalidArgument when they do not
/// come out even.
StatusOr<Fingerprint> chunk_fingerprint(uint64_t bytes, uint32_t layers);
}  // namespace terrace
