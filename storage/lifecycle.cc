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
  if (hbm != nullptr) TERRACE_RETURN_IF_ERROR(hbm->open());
  if (!has_nvme()) return ok_status();
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool pool,
      BufferPool::create(config.staging_bytes / Staging::kBufferBytes, Staging::kBufferBytes));
  staging = std::make_unique<Staging>(loop, std::move(pool), config.device_timeout, devices.size());
  return ok_status();
}

Status ChunkStore::Core::open_media(const SlabKeeping& keeping) {
  for (const NvmeDevice& each : devices) {
    if (each.device == nullptr) continue;
    const uint64_t size = each.device->size_bytes();
    if (size >= 2 * NvmeMap::kReservedBytes && size <= ExtentMap::kBytesMax) continue;
    return error(StatusCode::kInvalidArgument,
                 "device " + each.path + " of the nvme tier has " + std::to_string(size) +
                     " bytes: 2 MiB to 16 TiB of a device can be used (nvme_bytes)");
  }
  nvme = std::make_unique<NvmeTier>(devices, loop, config, &metrics);
  rows = std::make_unique<RowQueue>(metadata, loop, &calls);
  persister = std::make_unique<Persister>(*this);
  TERRACE_RETURN_IF_ERROR(Recovery(*this).run());
  if (keeping.keeper != nullptr) {
    TERRACE_RETURN_IF_ERROR(TakeBack(*this, keeping).run());
  } else {  // a keeper that does not answer today may do so tomorrow
    TERRACE_RETURN_IF_ERROR(metadata->set_kept_after(generation_));
  }
  nvme->expect_memory(staging->whole());
  return ok_status();
}

Status ChunkStore::Core::open(SlabKeeping keeping) {
  TERRACE_RETURN_IF_ERROR(open_memory(&keeping));
  use_recorder.recall();
  if (has_nvme()) TERRACE_RETURN_IF_ERROR(open_media(keeping));
  policy->recall_over();
  if (hbm != nullptr && staging != nullptr) hbm->host_memory(staging->whole(), true);
  registry.start();
  if (has_nvme()) {
    nvme->on_freed([this] { evictor.kick(); });
    evictor.kick();
  }
  scrubber.start();
  retainer.start();
  trimmer.start();
  use_recorder.start();
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
    if (core_->hbm != nullptr) core_->hbm->stop();
    if (core_->nvme != nullptr) core_->nvme->stop();
    core_->verifying.stop();
    core_->trimmer.stop();
    core_->dram_resizer.stop();
    core_->nvme_resizer.stop();
    core_->retainer.stop();
    core_->use_recorder.stop();
    if (core_->shared != nullptr) {
      core_->generations->stop();
      core_->verifying_shared->stop();
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
    const bool media =
        core.nvme == nullptr || (core.nvme->idle() && core.rows->idle() && core.persister->idle());
    const bool far = core.shared == nullptr || (core.shared->idle() && core.demoter->idle());
    const bool near = core.hbm == nullptr || core.hbm->idle();
    if (media && far && near && core.mover.idle() && core.scrubber.idle() &&
        core.verifying.idle() && core.trimmer.idle() && core.nvme_resizer.idle() &&
        core.use_recorder.idle() && core.calls.outstanding() == 0) {
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
