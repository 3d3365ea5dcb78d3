#include "client/registering.h"

#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {

void Registering::start(std::shared_ptr<Registering> self, Transport* transport,
                        MemoryTable* regions) {
  transport_ = transport;
  regions_ = regions;
  const StatusOr<RegionId> region = transport->register_region(memory_);
  if (!region.ok()) return finish(region.status());
  region_ = *region;
  self_ = std::move(self);
  transport->when_prepared(region_, this);
}

void Registering::done(Status result) {
  const std::shared_ptr<Registering> self = std::move(self_);
  if (result.ok()) return finish(region_);
  TERRACE_CHECK(transport_->unregister_region(region_).ok());  // nobody ever named it
  finish(std::move(result));
}

void Registering::finish(StatusOr<RegionId> result) {
  const std::lock_guard lock(mutex_);
  if (result.ok() && abandoned_) {
    TERRACE_CHECK(transport_->unregister_region(region_).ok());
  } else if (result.ok()) {
    regions_->add(region_, memory_);
  }
  outcome_ = std::move(result);
  changed_.notify_all();
}

StatusOr<RegionId> Registering::wait(Nanos timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return outcome_.has_value(); });
  if (outcome_.has_value()) return *outcome_;
  abandoned_ = true;
  return error(StatusCode::kDeadlineExceeded,
               "registering " + std::to_string(memory_.size()) + " bytes took longer than " +
                   std::to_string(timeout.count() / 1'000'000) +
                   " ms: raise open_timeout, or register smaller parts");
}
}  // namespace terrace
