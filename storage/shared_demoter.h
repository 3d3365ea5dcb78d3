// storage/shared_demoter.h - copies what eviction will take next to the shared tier, ahead of time.
// Eviction never waits for it: what was not copied in time is dropped and counted
// (evictions_unshared). Thread-confined.
#pragma once
#include <cstdint>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"

namespace terrace {

class SharedDemoter {
 public:
  explicit SharedDemoter(ChunkStore::Core& core);
  ~SharedDemoter();
  void start();
  void stop();
  /// Something was evicted that the shared tier has not got.
  void kick();
  bool idle() const { return running_ == 0; }

 private:
  static constexpr Nanos kPeriod = milliseconds(100);
  static constexpr Nanos kRest = seconds(1);  // after a failure
  static constexpr uint32_t kRunningMax = 4;
  static constexpr uint64_t kBytesMax = uint64_t{256} << 20;  // that run; one object at least
  static constexpr uint32_t kScanMax = 512;                   // of the next to go
  static constexpr uint64_t kRoom = 8;  // copying begins when less than 1/8 of the tier is free
  void step();
  void step_list(Tier tier, uint32_t list);
  bool may_start() const;
  void copy(uint32_t id);

  ChunkStore::Core& core_;
  Timer timer_;
  bool stopped_ = true;
  uint32_t running_ = 0;
  uint64_t running_bytes_ = 0;
  Nanos rests_until_{0};
};
}  // namespace terrace
