#include "storage/trimmer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.h"
#include "storage/core.h"

namespace terrace {
namespace {

constexpr int kLooksMax = 64;  // at runs of free space, per turn
constexpr Nanos kRestMin = milliseconds(1);
}  // namespace

struct Trimmer::Piece final : Op {
  Trimmer* trimmer = nullptr;  // null: it is gone, and so is the store
  Extent extent;
  Nanos since{0};
  void done(Status result) override {
    if (trimmer != nullptr) trimmer->ended(this, result);
  }
};

Trimmer::Trimmer(ChunkStore::Core& core)
    : core_(core), interval_([this] { run_by_itself(); }), timer_([this] { tick(); }) {}

/// The device may still answer what hangs, so it is kept.
Trimmer::~Trimmer() {
  stop();
  core_.loop->disarm(&timer_);
  static auto* const kept = new std::vector<std::unique_ptr<Piece>>;  // reachable: no leak
  if (piece_ != nullptr) hanging_.push_back(std::move(piece_));
  for (std::unique_ptr<Piece>& piece : hanging_) {
    piece->trimmer = nullptr;
    kept->push_back(std::move(piece));
  }
}

void Trimmer::start() {
  const std::chrono::hours interval(core_.config.nvme_trim_interval_hours);
  if (core_.has_nvme() && interval.count() > 0) {
    core_.loop->arm(&interval_, core_.loop->now() + interval);
  }
}

/// When an administrator's pass runs just now, that one will do.
void Trimmer::run_by_itself() {
  (void)run(std::make_shared<TrimPass>());
  start();
}

Status Trimmer::run(std::shared_ptr<TrimPass> pass) {
  if (pass_ != nullptr || piece_ != nullptr) {
    return error(StatusCode::kResourceExhausted, "trim: another pass runs: wait for its end");
  }
  if (pass->place) TERRACE_RETURN_IF_ERROR(core_.nvme->may_trim(*pass->place));
  for (const DeviceStatus& each : core_.nvme->status()) {
    if (pass->place && each.place != *pass->place) continue;
    pass->devices.push_back({each.place, each.path, 0, ok_status()});
  }
  pass_ = std::move(pass);
  device_ = 0;
  next_mib_ = 0;
  core_.loop->arm(&timer_, core_.loop->now());
  return ok_status();
}

void Trimmer::stop() {
  core_.loop->disarm(&interval_);
  end_pass();
}

void Trimmer::end_pass() {
  if (pass_ != nullptr) pass_->over = true;
  pass_.reset();
  if (piece_ == nullptr) core_.loop->disarm(&timer_);
}

void Trimmer::tick() {
  if (piece_ != nullptr) return hangs();
  step();
}

void Trimmer::step() {
  if (pass_ == nullptr) return;
  if (pass_->cancelled || device_ == pass_->devices.size()) return end_pass();
  const uint16_t place = pass_->devices[device_].place;
  if (const Status may = core_.nvme->may_trim(place); !may.ok()) return next_device(may);
  if (hangs_at(place)) {
    return next_device(error(StatusCode::kUnavailable, "an earlier trim of it still hangs"));
  }
  Extent extent;
  const bool wanted = core_.persister->wanted_bytes() > 0;  // who waits for space goes first
  for (int looks = 0; !wanted && looks < kLooksMax && extent.blocks == 0; ++looks) {
    if (core_.nvme->take_untrimmed(place, &next_mib_, &extent)) return next_device(ok_status());
  }
  if (extent.blocks > 0) return begin(extent);
  core_.loop->arm(&timer_, core_.loop->now() + kRestMin);
}

void Trimmer::begin(const Extent& extent) {
  piece_ = std::make_unique<Piece>();
  piece_->trimmer = this;
  piece_->extent = extent;
  piece_->since = core_.loop->now();
  core_.loop->arm(&timer_, piece_->since + core_.config.device_timeout);
  core_.nvme->device_at(extent.device)->discard(extent.offset(), extent.bytes(), piece_.get());
}

/// Half of the time belongs to others.
void Trimmer::ended(Piece* piece, const Status& result) {
  const Extent extent = piece->extent;
  if (piece != piece_.get()) {
    std::erase_if(hanging_, [piece](const auto& each) { return each.get() == piece; });
    return core_.nvme->hung_trim_ended(extent);
  }
  const Nanos took = core_.loop->now() - piece->since;
  piece_.reset();
  core_.loop->disarm(&timer_);
  core_.nvme->end_trim(extent, result);
  if (pass_ == nullptr) return;
  if (!result.ok()) return next_device(result);
  pass_->devices[device_].bytes += extent.bytes();
  core_.loop->arm(&timer_, core_.loop->now() + std::max(took, kRestMin));
}

void Trimmer::hangs() {
  core_.nvme->trim_hangs(piece_->extent);
  hanging_.push_back(std::move(piece_));
  if (pass_ != nullptr) {
    next_device(error(StatusCode::kDeadlineExceeded, "no answer to a trim from the device"));
  }
}

void Trimmer::next_device(const Status& result) {
  TrimPass::OfDevice& device = pass_->devices[device_++];
  device.result = result;
  spdlog::info("event=trimmed path={} bytes={} result=\"{}\"", device.path, device.bytes,
               result.to_string());
  next_mib_ = 0;
  core_.loop->arm(&timer_, core_.loop->now());
}

bool Trimmer::hangs_at(uint16_t place) const {
  return std::any_of(hanging_.begin(), hanging_.end(),
                     [place](const auto& each) { return each->extent.device == place; });
}
}  // namespace terrace
