// Opening and closing a store.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/recovery.h"
#include "storage/take_back.h"

namespace terrace {

Status ChunkStore::Core::open_memory(SlabKeeping* keeping) {
  TERRACE_ASSIGN_OR_RETURN(arena,
                           Arena::create(config, keeping->keeper == nullptr ? nullptr : keeping));
  if (!has_nvme()) return ok_status();
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool pool,
      BufferPool::create(config.staging_bytes / Staging::kBufferBytes, Staging::kBufferBytes));
  staging = std::make_unique<Staging>(loop, std::move(pool), config.device_timeout);
  return ok_status();
}

Status ChunkStore::Core::open_media(const SlabKeeping& keeping) {
  const uint64_t bytes = std::min(device->size_bytes(), config.nvme_bytes);
  if (config.nvme_bytes == 0 || bytes < 2 * NvmeMap::kReservedBytes) {
    return error(StatusCode::kInvalidArgument, "nvme_bytes=" + std::to_string(config.nvme_bytes) +
                                                   " with a device of " +
                                                   std::to_string(device->size_bytes()) + " bytes");
  }
  nvme = std::make_unique<NvmeMap>(bytes);
  queue = std::make_unique<DeviceQueue>(device, loop, config, &metrics);
  rows = std::make_unique<RowQueue>(metadata, loop, &calls);
  persister = std::make_unique<Persister>(*this);
  TERRACE_RETURN_IF_ERROR(Recovery(*this).run());
  if (keeping.keeper != nullptr) TERRACE_RETURN_IF_ERROR(TakeBack(*this, keeping).run());
  device->expect_memory(staging->whole());
  return ok_status();
}

Status ChunkStore::Core::open(SlabKeeping keeping) {
  TERRACE_RETURN_IF_ERROR(open_memory(&keeping));
  if (has_nvme()) TERRACE_RETURN_IF_ERROR(open_media(keeping));
  registry.start();
  if (has_nvme()) {
    nvme->on_freed([this] { evictor.kick(); });
    evictor.kick();
  }
  scrubber.start();
  retainer.start();
  if (shared != nullptr) {
    shared->start();
    demoter->start();
    sweeper->start();
  }
  update_gauges();
  return ok_status();
}

/// Waits, without spinning, until nothing of ours runs any more.
class ChunkStore::Core::Closing {
 public:
  Closing(Core* core, Op* op) : core_(core), op_(op), timer_([this] { look(); }) {}
  ~Closing() { core_->loop->disarm(&timer_); }
  void begin() {
    core_->scrubber.stop();
    core_->verifying.stop();
    core_->retainer.stop();
    if (core_->shared != nullptr) {
      core_->generations->stop();
      core_->sweeper->stop();
      core_->demoter->stop();
      core_->shared->stop();
    }
    core_->mover.stop_promotions();
    const bool keep = core_->config.demote_on_close && core_->nvme_works();
    if (keep) core_->mover.write_back_all();
    core_->loop->arm(&timer_, core_->loop->now());
  }

 private:
  void look() {
    const Core& core = *core_;
    const bool media = core.queue == nullptr ||
                       (core.queue->idle() && core.rows->idle() && core.persister->idle());
    const bool far = core.shared == nullptr || (core.shared->idle() && core.demoter->idle());
    if (media && far && core.mover.idle() && core.scrubber.idle() && core.verifying.idle() &&
        core.calls.outstanding() == 0) {
      if (core_->nvme != nullptr) core_->nvme->on_freed(nullptr);
      core_->loop->defer(op_, ok_status());
      return;
    }
    core_->loop->arm(&timer_, core_->loop->now() + milliseconds(1));
  }
  Core* const core_;
  Op* const op_;
  Timer timer_;
};

void ChunkStore::Core::close(Op* op) {
  gate.close([this, op] {
    closing_ = std::make_shared<Closing>(this, op);
    closing_->begin();
  });
}
}  // namespace terrace
