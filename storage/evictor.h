// storage/evictor.h - keeps a little of each tier free, and makes room when an allocation fails.
// Thread-confined.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "storage/arena.h"
#include "storage/chunk_store.h"
#include "storage/policy/evict_plan.h"

namespace terrace {

class Evictor {
 public:
  explicit Evictor(ChunkStore::Core& core) : core_(core) {}

  /// Arena space, won by eviction if need be; null when what is left is in use, or must be written
  /// to nvme first (which then begins). For a `put` the oldest of those are dropped all the same
  /// while the device does not keep up: it must not refuse what is new for what is old.
  std::shared_ptr<ArenaSpace> dram_space(uint64_t bytes, bool put);
  /// Objects over objects_max less the watermark's share of it, at least one.
  uint64_t surplus_objects() const;
  /// Looks at the watermarks on a later turn.
  void kick();

 private:
  static constexpr uint32_t kScanMax = 4096;  // candidates looked at per step
  static constexpr uint32_t kRowsMax = 2048;  // deletions that nvme eviction waits for

  void step();
  bool step_dram();
  bool step_nvme();
  /// Plans over the policy's order, at most kScanMax candidates, until they are worth `need` bytes
  /// or `victims_max` of them could go.
  EvictPlan plan(Tier tier, uint64_t need, uint64_t victims_max, bool may_demote) const;
  /// Return the bytes that are won, at once or when the rows are gone. Without `may_demote` what
  /// nvme has not got is dropped.
  uint64_t evict_dram(uint64_t need, bool may_demote, uint64_t victims_max = ~uint64_t{0});
  uint64_t evict_nvme(uint64_t need, uint64_t victims_max);
  uint64_t watermark(uint64_t capacity) const;

  ChunkStore::Core& core_;
  bool kicked_ = false;
  uint64_t dram_wanted_ = 0;   // an allocation of this size failed; evict until one succeeds
  uint64_t nvme_pending_ = 0;  // bytes whose rows are being deleted
  uint64_t nvme_goal_ = 0;     // grows while freed bytes do not fit who waits
  uint32_t rows_pending_ = 0;
};
}  // namespace terrace
