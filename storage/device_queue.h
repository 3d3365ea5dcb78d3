// storage/device_queue.h - bounded, ordered access to a device: how many requests run, who goes
// first, and what happens to memory that a hanging device may still write to. Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/loop.h"
#include "storage/device.h"
#include "storage/device_choice.h"
#include "storage/store_config.h"
#include "storage/store_metrics.h"

namespace terrace {

enum class IoKind : uint8_t { read = 0, write = 1 };
/// Loads and puts that a client waits for go before promotion, write-back and scrubbing.
enum class IoPriority : uint8_t { foreground = 0, background = 1 };

/// One request: at most 1 MiB, sector-aligned on both sides.
struct IoPiece {
  uint64_t offset = 0;  // on the device
  std::span<std::byte> memory;
  uint16_t device = 0;  // its place; of one transfer all are the same
};

struct TransferSpec {
  IoKind kind = IoKind::read;
  IoPriority priority = IoPriority::foreground;
  std::vector<IoPiece> pieces;
  /// Owns the memory and, for a write, the space on the device. Kept until the device let go of
  /// all of it, which after a timeout is later than `done`.
  std::vector<std::shared_ptr<void>> holds;
  /// Called once, on a later turn, with the first error or OK. A read's medium error (kDataLoss)
  /// was seen twice.
  std::function<void(Status)> done;
};

class DeviceQueue {
 public:
  /// `counts` are of this device, `metrics` of all together.
  DeviceQueue(Device* device, Loop* loop, const StoreConfig& config, StoreMetrics* metrics,
              NvmeDeviceMetrics* counts);
  ~DeviceQueue();

  void transfer(TransferSpec spec);
  /// `done(OK)`: what was written before this call survives a power cut. Concurrent calls share.
  void sync(std::function<void(Status)> done);

  /// False while requests hang and none makes progress.
  bool healthy() const;
  /// Nothing runs or waits, but for requests that timed out.
  bool idle() const { return running_ == 0 && !sync_running_ && sync_waiting_.empty(); }
  /// Requests that timed out and that the kernel has not let go of.
  size_t hanging() const { return hanging_.size(); }
  /// Microseconds that a read takes now, its wait included.
  uint32_t read_us() const;
  /// Of writes that run or wait.
  uint64_t queued_write_bytes() const { return queued_write_bytes_; }
  /// What was measured of its writes lately; nothing before there were some, or after
  /// forget_pace().
  DevicePace write_pace() const { return {write_us_, writes_measured_ >= kWritesMeasured}; }
  void forget_pace() { writes_measured_ = 0; }

 private:
  struct Transfer;
  struct Request;
  class SyncOp;
  struct Lane {
    std::deque<Request*> waiting[2];  // by IoPriority
    uint32_t in_flight = 0;
    uint32_t in_flight_max = 0;
    uint64_t told_in_flight = 0;  // its share of the metrics
    uint64_t told_waiting = 0;
  };
  void pump(IoKind kind);
  void tell(IoKind kind);
  void measure(const Request& request, uint64_t us);
  void start(Request* request);
  void finished(Request* request, Status result);
  void complete(Transfer* transfer, Request* request, const Status& result);
  void released(std::span<const std::byte> memory);
  void forget_if_over(Transfer* transfer);
  void start_sync();
  void expire();
  void arm_expiry();

  Device* const device_;
  Loop* const loop_;
  StoreMetrics* const metrics_;
  NvmeDeviceMetrics* const counts_;
  const Nanos timeout_;
  Lane lanes_[2];       // by IoKind
  size_t running_ = 0;  // transfers whose `done` is to come
  Nanos progress_{0};   // last time a request ended well
  double read_us_ = 100;
  static constexpr uint32_t kWritesMeasured = 16;  // enough to be believed
  double write_us_ = 0;
  uint32_t writes_measured_ = 0;
  uint64_t queued_write_bytes_ = 0;
  std::unordered_map<Transfer*, std::unique_ptr<Transfer>> transfers_;
  std::unordered_map<const std::byte*, Request*> hanging_;
  std::vector<std::function<void(Status)>> sync_waiting_;
  std::vector<std::function<void(Status)>> sync_served_;
  bool sync_running_ = false;
  std::unique_ptr<SyncOp> sync_op_;
  Timer expiry_;
};
}  // namespace terrace
