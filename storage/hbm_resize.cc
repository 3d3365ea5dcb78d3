// Another size of the hbm tier: its copies go, and its memory is made anew.
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/hbm_tier.h"

namespace terrace {
namespace {
constexpr Nanos kLook = milliseconds(5);
constexpr uint64_t kUnit = 2 * kMiB;  // below it CUDA shares allocations, and so their handles
constexpr uint64_t kBytesMax = uint64_t{1} << 40;
}  // namespace

Status HbmTier::resize(std::shared_ptr<ResizePass> pass) {
  if (resizing_ != nullptr) {
    return error(StatusCode::kResourceExhausted, "resize: another one of hbm runs: wait for it");
  }
  if (!works()) {
    return error(StatusCode::kUnavailable, "resize: the device of the hbm tier does not answer");
  }
  if (pass->target < kUnit || pass->target > kBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "resize: hbm_bytes=" + std::to_string(pass->target) + ": 2 MiB to 1 TiB");
  }
  pass->target -= pass->target % kUnit;
  pass->bytes = capacity_bytes();
  resizing_ = std::move(pass);
  drop_all();
  take_back();
  resize_when_idle();
  return ok_status();
}

/// Copies that run touch the memory that is there; so do readers that have it in view, or open.
void HbmTier::resize_when_idle() {
  if (resizing_->cancelled) {
    return end_resize(error(StatusCode::kCancelled, "resize: it was called off"));
  }
  if (!works()) {
    return end_resize(error(StatusCode::kUnavailable, "resize: a copy of the hbm tier hangs"));
  }
  if (transfers_.running() > 0 || map_.use_count() > 1 || lent_.use_count() > 1) {
    const bool held = map_.use_count() > 1;  // else what is left of it is withheld as damaged
    resizing_->to_leave = held ? map_->capacity_bytes() - map_->free_bytes() : 0;
    core_.loop->arm(&resize_timer_, core_.loop->now() + kLook);
    return;
  }
  const uint64_t before = slab_->size_bytes();
  slab_.reset();  // the device may not have both
  const Status made = make_slab(resizing_->target);
  if (!made.ok() && !make_slab(before).ok()) {
    map_.reset();
    transfers_.give_up();
    spdlog::error("event=hbm_given_up device=\"{}\": it does not give back what it had",
                  accelerator_->name());
  }
  end_resize(made);
}

void HbmTier::end_resize(const Status& result) {
  core_.loop->disarm(&resize_timer_);
  core_.end_resize(std::exchange(resizing_, nullptr), capacity_bytes(), result);
}

void HbmTier::stop() {
  stopped_ = true;
  take_back();
  if (resizing_ != nullptr) {
    end_resize(error(StatusCode::kUnavailable, "resize: the store closes"));
  }
}
}  // namespace terrace
