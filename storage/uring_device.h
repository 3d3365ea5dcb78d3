// storage/uring_device.h - a data file or block device, through the loop's io_uring.
// Thread-confined to its loop.
//
// Bounded in every direction: requests in the kernel, requests that wait, and time. A request that
// the kernel does not answer within `io_timeout` ends with kDeadlineExceeded while its memory stays
// with the kernel (Device::on_released). After `timeouts_until_hung` of them without an answer in
// between the device counts as hung: everything new ends at once with kUnavailable, until an answer
// comes. Now and then one request is tried all the same: what never returns may be those alone.
#pragma once
#include <sys/uio.h>

#include <array>
#include <deque>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "base/counter.h"
#include "base/loop.h"
#include "base/workers.h"
#include "storage/data_file.h"
#include "storage/device.h"
#include "storage/discarder.h"

namespace terrace {

struct DeviceOptions {
  uint32_t reads_in_flight_max = 64;
  uint32_t writes_in_flight_max = 32;  // syncs count as writes
  uint32_t pending_max = 65536;        // of each kind, waiting for a place
  Nanos io_timeout = seconds(5);
  uint32_t timeouts_until_hung = 3;
};

/// Written by the loop's thread, read by any.
struct DeviceMetrics {
  Counter reads, writes, syncs;  // finished, of whatever result
  Counter read_bytes, write_bytes;
  Counter errors, timeouts, refused, short_transfers;
  Counter unregistered;  // requests whose memory lies in no registered buffer
};

class UringDevice final : public Device {
 public:
  /// `file` and `loop` outlive this.
  UringDevice(DataFile* file, Loop* loop, const DeviceOptions& options);
  /// Any descriptor, `bytes` long.
  UringDevice(int fd, uint64_t bytes, Loop* loop, const DeviceOptions& options);
  /// Nothing may wait or run, except requests that timed out: those are cancelled, and what they
  /// need is kept until the process ends. A resize that runs is called off and waited for, which is
  /// soon unless the file system hangs; its op is never done.
  ~UringDevice() override;

  void read(uint64_t offset, std::span<std::byte> into, Op* op) override;
  void write(uint64_t offset, std::span<const std::byte> from, Op* op) override;
  void sync(Op* op) override;
  void discard(uint64_t offset, uint64_t bytes, Op* op) override;
  /// Of a data file: on a thread of its own.
  void resize(uint64_t bytes, Op* op) override;
  void cancel_resize() override;
  uint64_t size_bytes() const override { return bytes_; }
  /// Registers it with the loop's ring, when the memlock limit allows. Other memory works too.
  void expect_memory(std::span<std::byte> memory) override;
  /// The ring lets go of the pages.
  void forget_memory(std::span<std::byte> memory) override;
  void on_released(Released released) override { released_ = std::move(released); }

  bool hung() const { return timeouts_in_row_ >= options_.timeouts_until_hung; }
  /// Requests that timed out and that the kernel still has.
  size_t late() const { return late_.size(); }
  const DeviceMetrics& metrics() const { return metrics_; }

 private:
  enum class Kind : uint8_t { read = 0, write = 1, sync = 2 };
  struct Io;
  struct Lane {  // reads; writes and syncs
    std::deque<std::unique_ptr<Io>> waiting;
    uint32_t in_flight = 0;
    uint32_t in_flight_max = 0;
  };
  struct Resizing;
  struct Registered {
    const std::byte* begin;
    const std::byte* end;
    int index;
  };
  Lane& lane_of(Kind kind) { return lanes_[kind == Kind::read ? 0 : 1]; }
  using IoList = std::list<std::unique_ptr<Io>>;
  void start(Kind kind, uint64_t offset, std::span<std::byte> memory, Op* op);
  void pump(Lane* lane);
  void launch(Io* io);
  void submit(Io* io);
  void answered(Io* io, int32_t result);
  bool goes_on(Io* io, int32_t result);
  void finish(Io* io, Status result);
  void came_late(Io* io);
  void refuse_waiting(Nanos older_than);
  void watch();
  void expire();
  void retry_blocked();
  int registered_index(std::span<const std::byte> memory) const;

  const int fd_;
  uint64_t bytes_;
  Loop* const loop_;
  const DeviceOptions options_;
  DataFile* file_ = nullptr;
  FillGuard* guard_ = nullptr;
  std::array<Lane, 2> lanes_;
  IoList running_;                      // in the kernel or blocked, oldest first
  IoList late_;                         // timed out, still in the kernel
  std::vector<Io*> blocked_;            // the filler is just writing there
  std::vector<Registered> registered_;  // by address
  uint32_t timeouts_in_row_ = 0;
  Nanos next_trial_{0};  // while it counts as hung
  Released released_;
  std::unique_ptr<Discarder> discarder_;  // null: nothing is given back
  std::unique_ptr<Workers> resizer_;      // begins with the first
  std::shared_ptr<Resizing> resizing_;    // null: none runs
  Timer deadline_;
  Timer unblock_;
  DeviceMetrics metrics_;
};
}  // namespace terrace
