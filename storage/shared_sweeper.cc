#include "storage/shared_sweeper.h"

#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "storage/core.h"

namespace terrace {

/// One thread has it at a time; after a call that was late it is left to that thread.
struct SharedSweeper::Pass {
  std::unique_ptr<SharedSweep> sweep;
  SweepResult result;  // copied when a step is over
  bool over = false;
};

SharedSweeper::SharedSweeper(ChunkStore::Core& core) : core_(core), timer_([this] { begin(); }) {}

SharedSweeper::~SharedSweeper() {
  core_.loop->disarm(&timer_);
}

void SharedSweeper::start() {
  stopped_ = false;
  wait();
}

void SharedSweeper::stop() {
  stopped_ = true;
  core_.loop->disarm(&timer_);
  if (lease_ == nullptr) return;
  SharedCall call;  // so that another node need not wait for it to run out
  call.work = [medium = core_.shared->medium(), lease = std::exchange(lease_, nullptr)] {
    release_lease(medium.get(), *lease);
    return ok_status();
  };
  call.then = [](const Status&) {};
  (void)core_.shared->calls().start(std::move(call));
}

void SharedSweeper::wait() {
  core_.metrics.shared.sweeper.set(lease_ != nullptr ? 1 : 0);
  if (!stopped_) core_.loop->arm(&timer_, core_.loop->now() + core_.config.shared_sweep_period);
}

void SharedSweeper::begin() {
  if (stopped_) return;
  if (lease_ == nullptr) return claim();
  SweepOptions options;
  options.bytes_max = core_.shared_bytes_max;
  options.grace = core_.config.shared_grace;
  options.lease = 3 * Nanos(core_.config.shared_sweep_period);
  options.step = Nanos(core_.config.shared_timeout) / 4;
  const auto pass = std::make_shared<Pass>();
  pass->sweep =
      std::make_unique<SharedSweep>(core_.shared->medium(), options, *lease_, &core_.loop->clock());
  go_on(pass);
}

void SharedSweeper::claim() {
  const auto claimed = std::make_shared<SharedLease>();
  SharedCall call;
  call.lane = SharedLane::background;
  call.work = [medium = core_.shared->medium(), claimed,
               ttl = 3 * Nanos(core_.config.shared_sweep_period)]() -> Status {
    TERRACE_ASSIGN_OR_RETURN(*claimed, claim_lease(medium.get(), kSweeperLease, ttl));
    return ok_status();
  };
  call.then = [this, claimed](const Status& result) {
    if (!result.ok()) return wait();
    lease_ = claimed;
    spdlog::info("event=shared_sweeper token={}", claimed->token);
    begin();
  };
  if (!core_.shared->calls().start(std::move(call)).ok()) wait();
}

void SharedSweeper::go_on(const std::shared_ptr<Pass>& pass) {
  if (stopped_) return;
  SharedCall call;
  call.lane = SharedLane::background;
  // A step begins nothing late, but what it moves last may be large, and a listing has many pages.
  if (core_.shared->medium()->copies()) call.bytes = kObjectBytesMax;
  call.work = [pass] {
    Status result = pass->sweep->step();
    pass->result = pass->sweep->result();
    pass->over = pass->sweep->over();
    return result;
  };
  call.then = [this, pass](const Status& result) { stepped(pass, result); };
  if (!core_.shared->calls().start(std::move(call)).ok()) {
    core_.metrics.shared.sweep_failures.add();
    wait();
  }
}

void SharedSweeper::stepped(const std::shared_ptr<Pass>& pass, const Status& result) {
  SharedMetrics& metrics = core_.metrics.shared;
  if (result.code() == StatusCode::kDeadlineExceeded) {
    // The thread may still be at it: what the pass did is not known.
    metrics.sweep_failures.add();
    return wait();
  }
  const bool ended = !result.ok() || pass->over;
  if (!ended) return go_on(pass);
  const SweepResult& done = pass->result;
  metrics.swept_objects.add(done.swept_objects);
  metrics.swept_bytes.add(done.swept_bytes);
  metrics.trash_emptied.add(done.trash_emptied);
  metrics.leftovers_removed.add(done.leftovers_removed);
  if (result.ok()) {
    metrics.sweeps.add();
    metrics.directory_bytes.set(done.bytes - done.swept_bytes);
    metrics.directory_objects.set(done.objects - done.swept_objects);
  } else if (result.code() == StatusCode::kAborted) {
    metrics.sweeps_lost.add();
    lease_.reset();
  } else {
    metrics.sweep_failures.add();
  }
  wait();
}
}  // namespace terrace
