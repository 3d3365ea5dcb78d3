// storage/departures.h - what left a tier lately, when and why: for people who ask after a key that
// is gone, and for counting misses by their reason. Bounded: newer ones take the place of the
// oldest. Thread-confined.
#pragma once
#include <cstdint>
#include <vector>

#include "base/chunk_key.h"
#include "base/clock.h"

namespace terrace {

enum class DepartReason : uint8_t {
  evicted,      // its value was below the price of its place
  expired,      // the time it was to be kept for is over
  erased,       // a client erased it
  quarantined,  // its bytes failed a checksum, or its medium failed
  cleared,      // an administrator cleared the namespace
  moved,        // an administrator moved it to another tier
  lost,         // what recovery found of it could not be used
  swept,        // of the shared tier: its sweeper took it, or another node erased it
};
inline constexpr size_t kDepartReasons = 8;
const char* name_of(DepartReason reason);

struct Departure {
  ChunkKey key;
  NamespaceId ns{};
  Tier tier = Tier::dram;
  DepartReason reason = DepartReason::evicted;
  bool last = false;  // no copy was left on this node
  Nanos at{0};        // of the store's clock
  uint64_t bytes = 0;
  float value = 0;  // of the object then, and what its place cost (policy/placement_policy.h)
  float price = 0;
  uint32_t misses = 0;  // of the key since then, while this was the last that is known of it
  Nanos last_miss{0};
};

class Departures {
 public:
  /// Takes about `bytes` when it is full; 0: remembers nothing.
  explicit Departures(uint64_t bytes);
  void add(const Departure& departure);
  /// The newest first, at most `limit`.
  std::vector<Departure> of(NamespaceId ns, const ChunkKey& key, size_t limit) const;
  /// The newest; null: none is remembered. Valid until the next add().
  Departure* newest(NamespaceId ns, const ChunkKey& key);
  size_t size() const { return ring_.size(); }
  size_t capacity() const { return capacity_; }

 private:
  struct Slot {
    Departure what;
    uint64_t before = 0;  // number of the one before it in its chain; 0: none
  };
  static constexpr uint64_t kBytesEach = sizeof(Slot) + sizeof(uint64_t);
  /// So that a walk ends soon; who looks further back finds nothing.
  static constexpr int kStepsMax = 64;
  size_t head_of(NamespaceId ns, const ChunkKey& key) const;
  /// Null: forgotten, and so are those before it.
  const Slot* slot(uint64_t number) const;
  template <class Visit>
  void walk(NamespaceId ns, const ChunkKey& key, const Visit& visit) const;

  const size_t capacity_;
  const uint64_t secret_;        // clients choose keys: none that share a chain
  std::vector<Slot> ring_;       // number n lies at (n - 1) % capacity
  std::vector<uint64_t> heads_;  // by hash: the newest number
  uint64_t count_ = 0;           // numbers given out
};
}  // namespace terrace
