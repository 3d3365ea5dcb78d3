// Passes over a tier that an administrator asks for, and its size.
#include "storage/tier_pass.h"

#include <string>
#include <utility>

#include "storage/core.h"

namespace terrace {

Status ChunkStore::verify(std::shared_ptr<VerifyPass> pass) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  const bool possible = pass->tier == Tier::dram || (pass->tier == Tier::nvme && core.nvme_works());
  if (!possible) {
    return error(StatusCode::kUnavailable, std::string("verify: no tier ") + name_of(pass->tier) +
                                               " here that answers; dram or nvme");
  }
  if (core.verifying.running()) {
    return error(StatusCode::kResourceExhausted, "verify: another pass runs: wait for its end");
  }
  pass->expected = core.metrics.objects[static_cast<size_t>(pass->tier)].get();
  core.verifying.run(std::move(pass));
  return ok_status();
}

bool ChunkStore::drain_step(DrainPass* pass) {
  constexpr uint32_t kLookMax = 8192;
  const uint32_t end = core_->index.ids_end();
  for (uint32_t looked = 0; pass->next < end && looked < kLookMax; ++looked, ++pass->next) {
    if (pass->running >= DrainPass::kRunningMax || core_->closing()) return false;
    const IndexEntry& entry = core_->index[pass->next];
    const bool visible = entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed);
    if (!visible || entry.has(IndexEntry::on_nvme)) continue;
    ++pass->running;
    core_->mover.make_durable(pass->next, [state = pass->shared_from_this()](const Status& result) {
      --state->running;
      if (result.ok()) ++state->written;
      if (!result.ok() && result.code() != StatusCode::kNotFound) ++state->failed;
    });
  }
  return pass->next >= end && pass->running == 0;
}

Status ChunkStore::resize_shared(uint64_t bytes) {
  if (core_->shared == nullptr) {
    return error(StatusCode::kUnavailable, "resize: no shared_directory here");
  }
  if (bytes < kMiB) {
    return error(StatusCode::kInvalidArgument,
                 "resize: shared_bytes_max=" + std::to_string(bytes) + ": at least 1 MiB");
  }
  core_->shared_bytes_max = bytes;
  core_->update_gauges();
  return ok_status();
}
}  // namespace terrace
