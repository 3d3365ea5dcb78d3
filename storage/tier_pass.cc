// Passes over a tier that an administrator asks for, and its size.
#include "storage/tier_pass.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "storage/core.h"

namespace terrace {

Status ChunkStore::verify(std::shared_ptr<VerifyPass> pass) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  const bool far = pass->tier == Tier::shared;
  const bool possible = pass->tier == Tier::dram ||
                        (pass->tier == Tier::nvme && core.nvme_works()) ||
                        (far && core.shared != nullptr && !core.shared->calls().fenced());
  if (!possible) {
    return error(StatusCode::kUnavailable, std::string("verify: no tier ") + name_of(pass->tier) +
                                               " here that answers; dram, nvme or shared");
  }
  if (core.verifying.running() || (core.verifying_shared && core.verifying_shared->running())) {
    return error(StatusCode::kResourceExhausted, "verify: another pass runs: wait for its end");
  }
  pass->expected = core.metrics.objects[static_cast<size_t>(pass->tier)].get();
  if (far) {
    core.verifying_shared->run(std::move(pass));
  } else {
    core.verifying.run(std::move(pass));
  }
  return ok_status();
}

bool ChunkStore::Core::pass_step(IndexPass* pass, uint32_t running_max,
                                 const std::function<bool(uint32_t id)>& wanted,
                                 const std::function<void(uint32_t id, Then then)>& start) {
  constexpr uint32_t kLookMax = 8192;
  const uint32_t end = index.ids_end();
  for (uint32_t looked = 0; pass->next < end && looked < kLookMax; ++looked, ++pass->next) {
    if (pass->running >= running_max || closing()) return false;
    const IndexEntry& entry = index[pass->next];
    const bool visible = entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed);
    if (!visible || !wanted(pass->next)) continue;
    ++pass->running;
    start(pass->next, [state = pass->shared_from_this()](const Status& result) {
      --state->running;
      if (result.ok()) ++state->done;
      if (!result.ok() && result.code() != StatusCode::kNotFound) ++state->failed;
    });
  }
  return pass->next >= end && pass->running == 0;
}

bool ChunkStore::drain_step(DrainPass* pass) {
  return core_->pass_step(
      pass, DrainPass::kRunningMax,
      [this](uint32_t id) { return !core_->index[id].has(IndexEntry::on_nvme); },
      [this](uint32_t id, Core::Then then) { core_->mover.make_durable(id, std::move(then)); });
}

bool ChunkStore::empty_step(EmptyPass* pass) {
  return core_->pass_step(
      pass, EmptyPass::kRunningMax,
      [this, pass](uint32_t id) {
        const IndexEntry& entry = core_->index[id];
        return entry.has(IndexEntry::on_nvme) && entry.first_extent.device == pass->place;
      },
      [this](uint32_t id, Core::Then then) { core_->relocate(id, std::move(then)); });
}

Status ChunkStore::trim(std::shared_ptr<TrimPass> pass) {
  if (core_->closing()) return error(StatusCode::kUnavailable, "the store is closing");
  if (!core_->has_nvme()) return error(StatusCode::kUnavailable, "trim: no nvme tier here");
  return core_->trimmer.run(std::move(pass));
}

void ChunkStore::Core::end_resize(const std::shared_ptr<ResizePass>& pass, uint64_t bytes,
                                  const Status& result) {
  pass->bytes = bytes;
  pass->to_leave = 0;
  pass->result = result;
  pass->over = true;
  update_gauges();
  const bool device = pass->tier == Tier::nvme;
  spdlog::info("event=resized tier={}{} bytes={} result=\"{}\"", name_of(pass->tier),
               device ? " device=" + std::to_string(pass->place) : "", bytes, result.to_string());
  if (on_resized) on_resized(*pass);
}

Status ChunkStore::Core::resize_shared(const std::shared_ptr<ResizePass>& pass) {
  if (shared == nullptr) {
    return error(StatusCode::kUnavailable, "resize: no shared tier here");
  }
  if (pass->target < kMiB) {
    return error(StatusCode::kInvalidArgument,
                 "resize: shared_bytes_max=" + std::to_string(pass->target) + ": at least 1 MiB");
  }
  shared_bytes_max = pass->target;
  end_resize(pass, pass->target, ok_status());
  return ok_status();
}

void ChunkStore::on_resized(std::function<void(const ResizePass&)> listener) {
  core_->on_resized = std::move(listener);
}

Status ChunkStore::resize(std::shared_ptr<ResizePass> pass) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  if (pass->tier == Tier::shared) return core.resize_shared(pass);
  if (pass->tier == Tier::dram) return core.dram_resizer.run(std::move(pass));
  if (pass->tier == Tier::hbm && core.hbm != nullptr) return core.hbm->resize(std::move(pass));
  if (pass->tier == Tier::nvme && core.has_nvme()) return core.nvme_resizer.run(std::move(pass));
  return error(StatusCode::kUnavailable,
               std::string("resize: no tier ") + name_of(pass->tier) + " here that can be resized");
}
}  // namespace terrace
