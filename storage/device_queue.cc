#include "storage/device_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {

/// One request to the device; lives inside its transfer.
struct DeviceQueue::Request final : Op {
  DeviceQueue* queue = nullptr;
  Transfer* transfer = nullptr;
  IoPiece piece;
  Nanos since{0};
  bool again = false;  // a read that failed once
  void done(Status result) override { queue->finished(this, std::move(result)); }
};

struct DeviceQueue::Transfer {
  IoKind kind = IoKind::read;
  IoPriority priority = IoPriority::foreground;
  std::unique_ptr<Request[]> requests;
  size_t unfinished = 0;
  size_t hanging = 0;
  bool over = false;  // `done` was called
  Status status;
  std::vector<std::shared_ptr<void>> holds;
  std::function<void(Status)> done;
};

class DeviceQueue::SyncOp final : public Op {
 public:
  explicit SyncOp(DeviceQueue* queue) : queue_(queue) {}
  void done(Status result) override {
    if (!result.ok()) queue_->metrics_->device_errors.add();
    if (!result.ok()) queue_->counts_->errors.add();
    queue_->sync_running_ = false;
    std::vector<std::function<void(Status)>> served = std::exchange(queue_->sync_served_, {});
    if (!queue_->sync_waiting_.empty()) queue_->start_sync();
    for (std::function<void(Status)>& each : served) each(result);
  }

 private:
  DeviceQueue* const queue_;
};

DeviceQueue::DeviceQueue(Device* device, Loop* loop, const StoreConfig& config,
                         StoreMetrics* metrics, NvmeDeviceMetrics* counts)
    : device_(device),
      loop_(loop),
      metrics_(metrics),
      counts_(counts),
      timeout_(config.device_timeout),
      sync_op_(std::make_unique<SyncOp>(this)),
      expiry_([this] { expire(); }) {
  lanes_[static_cast<size_t>(IoKind::read)].in_flight_max = config.device_reads_in_flight_max;
  lanes_[static_cast<size_t>(IoKind::write)].in_flight_max = config.device_writes_in_flight_max;
  device_->on_released([this](std::span<const std::byte> memory) { released(memory); });
}

DeviceQueue::~DeviceQueue() {
  device_->on_released(nullptr);
  loop_->disarm(&expiry_);
  TERRACE_CHECK(idle());
  // What still hangs belongs to the kernel: its memory must outlive us, so it is given up.
  static auto* const kept = new std::deque<std::unique_ptr<Transfer>>;
  for (auto& [raw, transfer] : transfers_) kept->push_back(std::move(transfer));
}

void DeviceQueue::transfer(TransferSpec spec) {
  TERRACE_CHECK(!spec.pieces.empty());
  auto owned = std::make_unique<Transfer>();
  Transfer* const transfer = owned.get();
  transfer->kind = spec.kind;
  transfer->priority = spec.priority;
  transfer->holds = std::move(spec.holds);
  transfer->done = std::move(spec.done);
  transfer->unfinished = spec.pieces.size();
  transfer->requests = std::make_unique<Request[]>(spec.pieces.size());
  transfers_.emplace(transfer, std::move(owned));
  ++running_;
  Lane& lane = lanes_[static_cast<size_t>(spec.kind)];
  for (size_t i = 0; i < spec.pieces.size(); ++i) {
    Request& request = transfer->requests[i];
    request.queue = this;
    request.transfer = transfer;
    request.piece = spec.pieces[i];
    request.since = loop_->now();
    if (spec.kind == IoKind::write) queued_write_bytes_ += request.piece.memory.size();
    lane.waiting[static_cast<size_t>(spec.priority)].push_back(&request);
  }
  pump(spec.kind);
  arm_expiry();
}

void DeviceQueue::pump(IoKind kind) {
  Lane& lane = lanes_[static_cast<size_t>(kind)];
  for (std::deque<Request*>& waiting : lane.waiting) {
    while (!waiting.empty() && lane.in_flight < lane.in_flight_max) {
      Request* const request = waiting.front();
      waiting.pop_front();
      ++lane.in_flight;
      start(request);
    }
  }
  tell(kind);
}

/// The figures are of all devices together.
void DeviceQueue::tell(IoKind kind) {
  Lane& lane = lanes_[static_cast<size_t>(kind)];
  Counter& in_flight = metrics_->device_in_flight[static_cast<size_t>(kind)];
  Counter& waiting = metrics_->device_waiting[static_cast<size_t>(kind)];
  in_flight.set(in_flight.get() - lane.told_in_flight + lane.in_flight);
  lane.told_in_flight = lane.in_flight;
  const uint64_t now = lane.waiting[0].size() + lane.waiting[1].size();
  waiting.set(waiting.get() - lane.told_waiting + now);
  lane.told_waiting = now;
}

void DeviceQueue::measure(const Request& request, uint64_t us) {
  constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
  const uint64_t bytes = request.piece.memory.size();
  if (request.transfer->kind == IoKind::read) {
    read_us_ += (static_cast<double>(us) - read_us_) / 16;
    metrics_->read_latency[kNvme].record_us(us);
    metrics_->reads[kNvme].add();
    metrics_->read_bytes[kNvme].add(bytes);
    counts_->read_bytes.add(bytes);
    return;
  }
  if (writes_measured_ == 0) write_us_ = static_cast<double>(us);
  write_us_ += (static_cast<double>(us) - write_us_) / 16;
  if (writes_measured_ < kWritesMeasured) ++writes_measured_;
  metrics_->write_latency[kNvme].record_us(us);
  metrics_->writes[kNvme].add();
  metrics_->write_bytes[kNvme].add(bytes);
  counts_->write_bytes.add(bytes);
}

void DeviceQueue::start(Request* request) {
  request->since = loop_->now();
  const IoPiece& piece = request->piece;
  if (request->transfer->kind == IoKind::read) {
    device_->read(piece.offset, piece.memory, request);
  } else {
    device_->write(piece.offset, piece.memory, request);
  }
}

void DeviceQueue::finished(Request* request, Status result) {
  Transfer* const transfer = request->transfer;
  const IoKind kind = transfer->kind;
  const Nanos took = loop_->now() - request->since;
  const auto us = static_cast<uint64_t>(std::max<int64_t>(0, took.count() / 1000));
  if (result.ok()) {
    progress_ = loop_->now();
    measure(*request, us);
  }
  if (result.code() == StatusCode::kDeadlineExceeded) {
    // The kernel may still touch the memory: the request keeps its place in flight, so that a dead
    // device cannot be fed memory without bound.
    metrics_->device_timeouts.add();
    counts_->timeouts.add();
    ++transfer->hanging;
    hanging_.emplace(request->piece.memory.data(), request);
  } else {
    if (!result.ok()) metrics_->device_errors.add();
    if (!result.ok()) counts_->errors.add();
    --lanes_[static_cast<size_t>(kind)].in_flight;
  }
  // Who asks takes a medium error for the loss of what lies there. A controller that is reset, or
  // a path that is changed, fails what was on its way the same way.
  const bool once = kind == IoKind::read && result.code() == StatusCode::kDataLoss &&
                    !std::exchange(request->again, true);
  if (once) {
    lanes_[static_cast<size_t>(kind)].waiting[static_cast<size_t>(transfer->priority)].push_back(
        request);
  } else {
    complete(transfer, request, result);
  }
  pump(kind);
}

void DeviceQueue::complete(Transfer* transfer, Request* request, const Status& result) {
  if (transfer->kind == IoKind::write) queued_write_bytes_ -= request->piece.memory.size();
  transfer->status.update(result);
  if (--transfer->unfinished > 0) return;
  transfer->over = true;
  --running_;
  const std::function<void(Status)> done = std::move(transfer->done);
  const Status status = transfer->status;
  forget_if_over(transfer);
  done(status);
}

void DeviceQueue::released(std::span<const std::byte> memory) {
  const auto it = hanging_.find(memory.data());
  if (it == hanging_.end()) return;
  Transfer* const transfer = it->second->transfer;
  const IoKind kind = transfer->kind;
  hanging_.erase(it);
  --lanes_[static_cast<size_t>(kind)].in_flight;
  --transfer->hanging;
  progress_ = loop_->now();
  forget_if_over(transfer);
  pump(kind);
}

void DeviceQueue::forget_if_over(Transfer* transfer) {
  if (transfer->over && transfer->hanging == 0) transfers_.erase(transfer);
}

void DeviceQueue::sync(std::function<void(Status)> done) {
  sync_waiting_.push_back(std::move(done));
  if (!sync_running_) start_sync();
}

void DeviceQueue::start_sync() {
  sync_running_ = true;
  sync_served_ = std::exchange(sync_waiting_, {});
  device_->sync(sync_op_.get());
}

bool DeviceQueue::healthy() const {
  return hanging_.empty() || loop_->now() - progress_ < timeout_;
}

uint32_t DeviceQueue::read_us() const {
  const Lane& lane = lanes_[static_cast<size_t>(IoKind::read)];
  const double queue = static_cast<double>(lane.waiting[0].size()) / lane.in_flight_max;
  return static_cast<uint32_t>(std::min(read_us_ * (1 + queue), 4e9));
}

/// Requests that could not start because all places are taken by hanging ones end here.
void DeviceQueue::expire() {
  const Nanos now = loop_->now();
  std::vector<Request*> late;
  if (now - progress_ >= timeout_ && !hanging_.empty()) {
    for (Lane& lane : lanes_) {
      for (std::deque<Request*>& waiting : lane.waiting) {
        while (!waiting.empty() && now - waiting.front()->since >= timeout_) {
          late.push_back(waiting.front());
          waiting.pop_front();
        }
      }
    }
  }
  tell(IoKind::read);
  tell(IoKind::write);
  for (Request* request : late) {
    metrics_->device_timeouts.add();
    counts_->timeouts.add();
    complete(request->transfer, request,
             error(StatusCode::kDeadlineExceeded, "the device hangs: request never started"));
  }
  if (running_ > 0) arm_expiry();
}

void DeviceQueue::arm_expiry() {
  if (!expiry_.armed()) loop_->arm(&expiry_, loop_->now() + timeout_ / 4);
}
}  // namespace terrace
