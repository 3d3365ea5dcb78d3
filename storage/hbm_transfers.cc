#include "storage/hbm_transfers.h"

#include <mutex>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/hbm_space.h"
#include "storage/object_io.h"

namespace terrace {
namespace {
constexpr Nanos kLookPeriod = milliseconds(5);
}  // namespace

/// Where the accelerator's threads say what ended.
struct HbmTransfers::Inbox {
  std::mutex mutex;
  std::vector<std::pair<uint64_t, DeviceResult>> ended;  // guarded by mutex, as all here
  HbmTransfers* reader = nullptr;                        // null: it is gone; used on the loop only
  Loop* loop = nullptr;
  bool told = false;

  static void put(const std::shared_ptr<Inbox>& inbox, uint64_t number, const DeviceResult& how) {
    const std::lock_guard lock(inbox->mutex);
    if (inbox->loop == nullptr) return;
    inbox->ended.emplace_back(number, how);
    // When the mailbox is full the timer looks.
    if (!inbox->told) inbox->told = inbox->loop->post([inbox] { open(inbox); }).ok();
  }
  static void open(const std::shared_ptr<Inbox>& inbox) {
    HbmTransfers* const reader = inbox->reader;
    if (reader != nullptr) reader->collect();
  }
};

HbmTransfers::HbmTransfers(ChunkStore::Core& core, std::string device,
                           std::function<void()> unusable)
    : core_(core),
      device_(std::move(device)),
      unusable_(std::move(unusable)),
      inbox_(std::make_shared<Inbox>()),
      timer_([this] { look(); }) {
  inbox_->reader = this;
  inbox_->loop = core.loop;
}

HbmTransfers::~HbmTransfers() {
  core_.loop->disarm(&timer_);
  const std::lock_guard lock(inbox_->mutex);
  inbox_->reader = nullptr;
  inbox_->loop = nullptr;
}

std::shared_ptr<void> HbmTransfers::leave() {
  return std::make_shared<std::map<uint64_t, Transfer>>(std::move(transfers_));
}

void HbmTransfers::start(Direction direction, DeviceSlab* slab, std::shared_ptr<HbmSpace> space,
                         uint64_t offset, std::span<const iovec> host, std::shared_ptr<void> hold,
                         Then then) {
  std::vector<IoPiece> parts;
  add_pieces(space->extents(), offset, host, &parts);
  std::vector<DeviceSlab::Piece> pieces;
  for (const IoPiece& part : parts) {
    pieces.push_back({part.offset, part.memory.data(), part.memory.size()});
  }
  const uint64_t number = ++last_;
  transfers_[number] = {core_.loop->now() + core_.config.device_timeout, std::move(space),
                        std::move(hold), std::move(then)};
  const auto ended = [inbox = inbox_, number](const DeviceResult& how) {
    Inbox::put(inbox, number, how);
  };
  const DeviceResult started =
      direction == Direction::in ? slab->copy_in(pieces, ended) : slab->copy_out(pieces, ended);
  if (!started.ok()) ended(started);
  if (!timer_.armed()) core_.loop->arm(&timer_, core_.loop->now() + kLookPeriod);
}

void HbmTransfers::collect() {
  std::vector<std::pair<uint64_t, DeviceResult>> ended;
  {
    const std::lock_guard lock(inbox_->mutex);
    ended.swap(inbox_->ended);
    inbox_->told = false;
  }
  for (const auto& [number, how] : ended) {
    auto node = transfers_.extract(number);
    TERRACE_CHECK(!node.empty());
    if (node.mapped().then == nullptr) {
      if (--hanging_ == 0) spdlog::info("event=hbm_answers_again");
      continue;
    }
    const Status result =
        how.ok() ? ok_status() : error(StatusCode::kUnavailable, device_ + ": " + how.message);
    judge(result);
    node.mapped().then(result);
  }
}

void HbmTransfers::judge(const Status& result) {
  errors_ = result.ok() ? 0 : errors_ + 1;
  if (result.ok()) return;
  core_.metrics.hbm_errors.add();
  spdlog::warn("event=hbm_copy error=\"{}\"", result.to_string());
  if (errors_ < kErrorsMax || given_up_) return;
  given_up_ = true;
  unusable_();
  spdlog::error("event=hbm_given_up device=\"{}\" errors={}: restart the node to use it again",
                device_, errors_);
}

void HbmTransfers::look() {
  collect();
  const Nanos now = core_.loop->now();
  std::vector<Then> late;
  for (auto& [number, transfer] : transfers_) {
    if (transfer.deadline > now) break;
    if (transfer.then == nullptr) continue;
    late.push_back(std::exchange(transfer.then, nullptr));
    ++hanging_;
  }
  if (!late.empty()) {
    core_.metrics.hbm_errors.add(late.size());
    spdlog::warn("event=hbm_hangs device=\"{}\" copies={}", device_, hanging_);
    unusable_();
  }
  for (const Then& then : late) then(error(StatusCode::kDeadlineExceeded, "hbm hangs"));
  if (!transfers_.empty()) core_.loop->arm(&timer_, now + kLookPeriod);
}
}  // namespace terrace
