#include "storage/dram_resizer.h"

#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "storage/core.h"

namespace terrace {
namespace {

/// Of what the machine says is available: the rest is for everybody else.
constexpr uint64_t kSpareParts = 16;

Status machine_has(uint64_t more) {
  const std::optional<uint64_t> available = available_memory_bytes();
  if (!available || more <= *available - *available / kSpareParts) return ok_status();
  return error(StatusCode::kResourceExhausted,
               "resize: dram would take " + std::to_string(more) + " bytes more, and of the " +
                   std::to_string(*available) +
                   " that the machine has available a sixteenth is left for others");
}
}  // namespace

DramResizer::DramResizer(ChunkStore::Core& core) : core_(core), timer_([this] { look(); }) {}

Status DramResizer::run(std::shared_ptr<ResizePass> pass) {
  const Arena& arena = *core_.arena;
  if (pass_ != nullptr) {
    return error(StatusCode::kResourceExhausted, "resize: another one of dram runs: wait for it");
  }
  if (!core_.registry.knows_all()) {
    return error(StatusCode::kUnavailable,
                 "resize: dram is not populated yet: try again when it is");
  }
  const uint64_t slab = arena.slab_bytes();
  if (pass->target < slab || pass->target > arena.capacity_max()) {
    return error(StatusCode::kInvalidArgument,
                 "resize: dram_bytes=" + std::to_string(pass->target) + ": at least a slab, " +
                     std::to_string(slab) + ", and at most " +
                     std::to_string(arena.capacity_max()));
  }
  const uint64_t now = arena.capacity_bytes();
  if (pass->target > now) {
    pass->target = now + (pass->target - now + slab - 1) / slab * slab;
    TERRACE_RETURN_IF_ERROR(machine_has(pass->target - now));
  }
  pass_ = std::move(pass);
  progress_ = core_.loop->now();
  failures_ = arena.replace_failures();
  spdlog::info("event=resize tier=dram from={} to={}", now, pass_->target);
  look();
  return ok_status();
}

void DramResizer::stop() {
  if (pass_ != nullptr) end(error(StatusCode::kUnavailable, "resize: the store closes"));
}

void DramResizer::look() {
  const uint64_t now = core_.arena->capacity_bytes();
  if (now != pass_->bytes) progress_ = core_.loop->now();
  pass_->bytes = now;
  if (pass_->cancelled) return end(error(StatusCode::kCancelled, "resize: it was called off"));
  const uint64_t slab = core_.arena->slab_bytes();
  // A smaller one may be left over of a size that is not whole slabs.
  const bool larger = now + core_.arena->slab_bytes() <= pass_->target;
  const bool smaller = now > pass_->target && now > slab;
  if (!larger && !smaller) return end(ok_status());
  const Status going = larger ? grow() : shrink();
  if (!going.ok()) return end(going);
  core_.loop->arm(&timer_, core_.loop->now() + kLook);
}

Status DramResizer::grow() {
  Arena& arena = *core_.arena;
  if (arena.replace_failures() > failures_) {
    return error(StatusCode::kResourceExhausted,
                 "resize: the machine has no memory for another slab of " +
                     std::to_string(arena.slab_bytes()) + " bytes");
  }
  const uint64_t missing = (pass_->target - arena.capacity_bytes()) / arena.slab_bytes();
  while (arena.replacing() < std::min(missing, kAddingMax)) {
    TERRACE_RETURN_IF_ERROR(machine_has(arena.slab_bytes()));
    if (!core_.registry.add()) {
      return error(StatusCode::kResourceExhausted, "resize: no addresses for another slab");
    }
  }
  return ok_status();
}

Status DramResizer::shrink() {
  Arena& arena = *core_.arena;
  pass_->to_leave = core_.balancer.shedding_bytes();
  while (arena.capacity_bytes() > pass_->target + core_.balancer.shedding_bytes()) {
    if (!core_.balancer.shed()) break;
  }
  if (core_.loop->now() - progress_ < kPatience) return ok_status();
  return error(StatusCode::kUnavailable, "resize: what lies in dram is in use; it stays at " +
                                             std::to_string(arena.capacity_bytes()) +
                                             " bytes: try again");
}

void DramResizer::end(const Status& result) {
  core_.loop->disarm(&timer_);
  core_.balancer.stop_shedding();
  core_.end_resize(std::exchange(pass_, nullptr), core_.arena->capacity_bytes(), result);
}
}  // namespace terrace
