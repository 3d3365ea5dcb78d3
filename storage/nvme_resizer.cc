#include "storage/nvme_resizer.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "storage/core.h"

namespace terrace {

struct NvmeResizer::Change final : Op {
  NvmeResizer* resizer = nullptr;  // null: it is gone, and so is the store
  uint16_t place = 0;
  uint64_t bytes = 0;
  void done(Status result) override {
    if (resizer != nullptr) resizer->changed(result);
  }
};

NvmeResizer::NvmeResizer(ChunkStore::Core& core) : core_(core), timer_([this] { look(); }) {}

/// The device may still answer what runs, so it is kept.
NvmeResizer::~NvmeResizer() {
  static auto* const kept = new std::vector<std::unique_ptr<Change>>;  // reachable: no leak
  if (change_ == nullptr) return;
  change_->resizer = nullptr;
  kept->push_back(std::move(change_));
}

Status NvmeResizer::run(std::shared_ptr<ResizePass> pass) {
  if (pass_ != nullptr || change_ != nullptr) {
    return error(StatusCode::kResourceExhausted,
                 "resize: another one of nvme runs: wait for its end");
  }
  TERRACE_RETURN_IF_ERROR(core_.nvme->may_resize(pass->place));
  if (pass->target < ExtentMap::kRegionBytes || pass->target > ExtentMap::kBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "resize: " + std::to_string(pass->target) +
                     " bytes of a device of the nvme tier: 64 MiB to 16 TiB");
  }
  pass->target -= pass->target % ExtentMap::kRegionBytes;
  pass->bytes = core_.nvme->device_bytes(pass->place);
  pass_ = std::move(pass);
  progress_ = core_.loop->now();
  spdlog::info("event=resize tier=nvme device={} from={} to={}", pass_->place, pass_->bytes,
               pass_->target);
  if (pass_->target == pass_->bytes) {
    end(ok_status());
  } else if (pass_->target > pass_->bytes) {
    change_device();
  } else {
    core_.nvme->bar_from(pass_->place, pass_->target);
    pass_->to_leave = core_.nvme->barred_used_bytes(pass_->place);
    look();
  }
  return ok_status();
}

void NvmeResizer::stop() {
  if (pass_ == nullptr) return;
  const Status why = error(StatusCode::kUnavailable, "resize: the store closes");
  if (change_ == nullptr) return call_off(why);
  core_.nvme->device_at(change_->place)->cancel_resize();
  end(why);
}

/// Only a file that becomes longer takes long; it has its old size when it was called off.
void NvmeResizer::look_at_change() {
  if (pass_->cancelled) core_.nvme->device_at(change_->place)->cancel_resize();
  core_.loop->arm(&timer_, core_.loop->now() + kLook);
}

void NvmeResizer::look() {
  if (change_ != nullptr) return look_at_change();
  const bool empty = emptied();
  if (pass_->cancelled) return call_off(error(StatusCode::kCancelled, "resize: it was called off"));
  if (empty) return change_device();
  if (const Status may = core_.nvme->may_resize(pass_->place); !may.ok()) return call_off(may);
  // Only after a look at everything.
  if (moving_ == nullptr && core_.loop->now() - progress_ >= kPatience) {
    return call_off(
        error(StatusCode::kUnavailable,
              "resize: " + std::to_string(pass_->to_leave) +
                  " bytes at the end of the device stay: in use, pinned, withheld as damaged, or "
                  "no room for them in dram or on nvme; try again"));
  }
  core_.loop->arm(&timer_, core_.loop->now() + kLook);
}

void NvmeResizer::call_off(const Status& why) {
  core_.nvme->unbar(pass_->place);
  end(why);
}

/// The next objects leave. True: nothing is left there.
bool NvmeResizer::emptied() {
  if (moving_ == nullptr) moving_ = std::make_shared<IndexPass>();
  const bool through = core_.pass_step(
      moving_.get(), kRunningMax,
      [this](uint32_t id) {
        const IndexEntry& entry = core_.index[id];
        return entry.has(IndexEntry::on_nvme) && entry.first_extent.device == pass_->place &&
               core_.nvme->barred(core_.index.extents(id));
      },
      [this](uint32_t id, ChunkStore::Core::Then then) {
        const uint64_t bytes = ExtentMap::allocated_bytes(core_.index[id].stored_bytes());
        if (bytes <= core_.nvme->object_bytes_max()) return core_.relocate(id, std::move(then));
        core_.evictor.evict_from_nvme(id, std::move(then));  // it fits nowhere: alone, not with all
      });
  if (through) moving_.reset();  // and once more: what was in use, or came in between
  const uint64_t left = core_.nvme->barred_used_bytes(pass_->place);
  if (left < pass_->to_leave) progress_ = core_.loop->now();
  pass_->to_leave = left;
  return left == 0 && core_.trimmer.idle();
}

void NvmeResizer::change_device() {
  change_ = std::make_unique<Change>();
  change_->resizer = this;
  change_->place = pass_->place;
  change_->bytes = pass_->target;
  core_.nvme->device_at(pass_->place)->resize(pass_->target, change_.get());
  look_at_change();
}

void NvmeResizer::changed(const Status& result) {
  const std::unique_ptr<Change> change = std::move(change_);
  if (result.ok()) core_.nvme->resized(change->place, change->bytes);
  // Nobody knows which size it has: what is barred stays so until a restart knows.
  const bool open = result.code() == StatusCode::kDataLoss;
  if (!result.ok() && !open) core_.nvme->unbar(change->place);
  if (pass_ != nullptr) end(result);
}

void NvmeResizer::end(const Status& result) {
  core_.loop->disarm(&timer_);
  moving_.reset();
  const std::shared_ptr<ResizePass> pass = std::exchange(pass_, nullptr);
  core_.end_resize(pass, core_.nvme->device_bytes(pass->place), result);
}
}  // namespace terrace
