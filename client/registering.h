// client/registering.h - one register_memory(): on the loop from the region's number to the moment
// when every transport has prepared it, while the thread that asked waits, and may give up.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/op.h"
#include "client/regions.h"
#include "transport/transport.h"

namespace terrace {

class Registering final : public Op {
 public:
  explicit Registering(std::span<std::byte> memory) : memory_(memory) {}
  /// On the loop, once. `transport` and `regions` outlive what the transport has begun, which also
  /// keeps `self`. A region that comes too late or not at all goes again.
  void start(std::shared_ptr<Registering> self, Transport* transport, MemoryTable* regions);
  /// On the thread that asked. kDeadlineExceeded: `timeout` was too short, and nothing is left.
  StatusOr<RegionId> wait(Nanos timeout);

 private:
  void done(Status result) override;
  void finish(StatusOr<RegionId> result);

  const std::span<std::byte> memory_;
  std::shared_ptr<Registering> self_;  // while the transport has us
  Transport* transport_ = nullptr;
  MemoryTable* regions_ = nullptr;
  RegionId region_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool abandoned_ = false;                     // guarded by mutex_
  std::optional<StatusOr<RegionId>> outcome_;  // guarded by mutex_
};
}  // namespace terrace
