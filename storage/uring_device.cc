#include "storage/uring_device.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <future>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr uint64_t kRequestBytesMax = kGiB;  // of one kernel request
constexpr uint32_t kRetriesMax = 8;          // of a request that the kernel could not take now
constexpr Nanos kUnblockPeriod = microseconds(500);
constexpr int kTrialTimeouts = 2;  // between requests that a hung device is tried with

/// `what` names the request.
Status media_status(int error_number, const std::string& what) {
  switch (error_number) {
    case ENODATA:    // a critical medium error
    case EILSEQ:     // the device's own checksum
    case EREMOTEIO:  // a critical target error
      return error(StatusCode::kDataLoss, errno_status(error_number, what).message());
    case ECANCELED:
    case EAGAIN:
    case EINTR:
    case ENOTCONN:
    case ESHUTDOWN:
    case EBADF:
      return error(StatusCode::kUnavailable, errno_status(error_number, what).message());
    default:
      return errno_status(error_number, what);
  }
}
}  // namespace

struct UringDevice::Io final : IoOp {
  UringDevice* device = nullptr;  // null: nobody waits any more
  Kind kind = Kind::read;
  uint64_t offset = 0;
  std::span<std::byte> memory;  // of a write: only read from
  uint64_t moved = 0;           // bytes that are through
  uint32_t retries = 0;
  Op* op = nullptr;  // null: timed out
  Nanos since{0};    // asked for; then: given to the kernel
  IoList::iterator self;
  std::string name() const {
    static constexpr const char* kNames[] = {"read", "write", "sync"};
    return std::string(kNames[static_cast<size_t>(kind)]) + " of " + std::to_string(memory.size()) +
           " @ " + std::to_string(offset);
  }
  void io_done(int32_t result) override {
    if (device != nullptr) device->answered(this, result);
  }
};

/// Between the thread that changes the file and the loop.
struct UringDevice::Resizing {
  std::atomic<bool> cancelled{false};
  Status result;               // of the thread until it is through
  std::promise<void> through;  // the file is touched no more
};

UringDevice::UringDevice(DataFile* file, Loop* loop, const DeviceOptions& options)
    : UringDevice(file->fd(), file->size_bytes(), loop, options) {
  file_ = file;
  guard_ = file->fill_guard();
  if (file->block_device()) discarder_ = std::make_unique<Discarder>(loop, file->fd());
}

UringDevice::UringDevice(int fd, uint64_t bytes, Loop* loop, const DeviceOptions& options)
    : fd_(fd),
      bytes_(bytes / kSectorBytes * kSectorBytes),
      loop_(loop),
      options_(options),
      deadline_([this] { expire(); }),
      unblock_([this] { retry_blocked(); }) {
  TERRACE_CHECK(options.reads_in_flight_max > 0 && options.writes_in_flight_max > 0);
  TERRACE_CHECK(options.timeouts_until_hung > 0 && options.io_timeout > Nanos(0));
  lanes_[0].in_flight_max = options.reads_in_flight_max;
  lanes_[1].in_flight_max = options.writes_in_flight_max;
}

UringDevice::~UringDevice() {
  loop_->disarm(&deadline_);
  loop_->disarm(&unblock_);
  TERRACE_CHECK(running_.empty());
  for (const Lane& lane : lanes_) TERRACE_CHECK(lane.waiting.empty());
  if (resizing_ != nullptr) {
    cancel_resize();
    resizing_->through.get_future().wait();  // the file is about to go
    resizer_->give_up();
  }
  static auto* const kept = new IoList;  // reachable, so no leak is reported
  for (std::unique_ptr<Io>& io : late_) {
    io->device = nullptr;
    loop_->cancel(io.get());
  }
  kept->splice(kept->end(), late_);
}

void UringDevice::expect_memory(std::span<std::byte> memory) {
  while (!memory.empty()) {
    const std::span<std::byte> piece = memory.first(std::min<size_t>(memory.size(), kGiB));
    const StatusOr<int> index = loop_->register_buffer(piece);
    if (!index.ok()) return;  // requests there are counted as unregistered
    const Registered fresh{piece.data(), piece.data() + piece.size(), *index};
    const auto by_address = [](const Registered& a, const Registered& b) {
      return a.begin < b.begin;
    };
    registered_.insert(std::upper_bound(registered_.begin(), registered_.end(), fresh, by_address),
                       fresh);
    memory = memory.subspan(piece.size());
  }
}

void UringDevice::forget_memory(std::span<std::byte> memory) {
  const std::byte* const begin = memory.data();
  const std::byte* const end = begin + memory.size();
  std::erase_if(registered_, [&](const Registered& buffer) {
    if (buffer.end <= begin || buffer.begin >= end) return false;
    loop_->unregister_buffer(buffer.index);
    return true;
  });
}

void UringDevice::read(uint64_t offset, std::span<std::byte> into, Op* op) {
  start(Kind::read, offset, into, op);
}
void UringDevice::write(uint64_t offset, std::span<const std::byte> from, Op* op) {
  // One type of request for both: a write's memory is only read from.
  start(Kind::write, offset, {const_cast<std::byte*>(from.data()), from.size()}, op);
}
void UringDevice::sync(Op* op) {
  start(Kind::sync, 0, {}, op);
}

void UringDevice::discard(uint64_t offset, uint64_t bytes, Op* op) {
  TERRACE_CHECK(offset % kSectorBytes == 0 && bytes % kSectorBytes == 0);
  TERRACE_CHECK(bytes > 0 && bytes <= kDiscardBytesMax);
  if (discarder_ == nullptr) {
    return loop_->defer(op, error(StatusCode::kFailedPrecondition,
                                  "a file is reserved whole, so none of it is given back: only "
                                  "block devices are trimmed"));
  }
  if (offset > bytes_ || bytes > bytes_ - offset) {
    return loop_->defer(op, error(StatusCode::kOutOfRange, "discard past the end of the device"));
  }
  discarder_->discard(offset, bytes, op);
}

void UringDevice::resize(uint64_t bytes, Op* op) {
  TERRACE_CHECK(bytes > 0 && bytes % kSectorBytes == 0);
  if (file_ == nullptr) {
    return loop_->defer(op, error(StatusCode::kFailedPrecondition,
                                  "only a data file or block device of a node can be resized"));
  }
  if (resizer_ == nullptr) resizer_ = std::make_unique<Workers>(loop_, 1);
  const auto resizing = std::make_shared<Resizing>();
  resizing_ = resizing;
  resizer_->add(
      [file = file_, bytes, resizing] {
        resizing->result = file->resize(bytes, [&] { return !resizing->cancelled.load(); });
        resizing->through.set_value();
      },
      [this, resizing, op](const Status& began) {
        if (!began.ok()) resizing->result = began;
        guard_ = nullptr;  // the filler has stopped
        bytes_ = file_->size_bytes();
        resizing_.reset();
        op->done(std::move(resizing->result));
      });
}

void UringDevice::cancel_resize() {
  if (resizing_ != nullptr) resizing_->cancelled = true;
}

void UringDevice::start(Kind kind, uint64_t offset, std::span<std::byte> memory, Op* op) {
  const auto refuse = [&](StatusCode code, const std::string& why) {
    metrics_.refused.add();
    loop_->defer(op, error(code, why));
  };
  if (kind != Kind::sync) {
    TERRACE_CHECK(offset % kSectorBytes == 0 && memory.size() % kSectorBytes == 0);
    TERRACE_CHECK(!memory.empty());
    TERRACE_CHECK(reinterpret_cast<uintptr_t>(memory.data()) % kSectorBytes == 0);
    if (offset > bytes_ || memory.size() > bytes_ - offset) {
      return refuse(StatusCode::kOutOfRange, "device: " + std::to_string(memory.size()) + " @ " +
                                                 std::to_string(offset) + " of " +
                                                 std::to_string(bytes_));
    }
  }
  if (hung()) {
    if (loop_->now() < next_trial_) return refuse(StatusCode::kUnavailable, "the device hangs");
    next_trial_ = loop_->now() + kTrialTimeouts * options_.io_timeout;
  }
  Lane& lane = lane_of(kind);
  if (lane.waiting.size() >= options_.pending_max) {
    return refuse(StatusCode::kResourceExhausted,
                  "device: " + std::to_string(lane.waiting.size()) + " requests wait already");
  }
  auto io = std::make_unique<Io>();
  io->device = this;
  io->kind = kind;
  io->offset = offset;
  io->memory = memory;
  io->op = op;
  io->since = loop_->now();
  lane.waiting.push_back(std::move(io));
  pump(&lane);
  watch();
}

void UringDevice::pump(Lane* lane) {
  while (!lane->waiting.empty() && lane->in_flight < lane->in_flight_max) {
    running_.push_back(std::move(lane->waiting.front()));
    lane->waiting.pop_front();
    ++lane->in_flight;
    Io* const io = running_.back().get();
    io->self = std::prev(running_.end());
    io->since = loop_->now();
    launch(io);
  }
}

void UringDevice::launch(Io* io) {
  if (io->kind == Kind::write && guard_ != nullptr &&
      !guard_->claim(io->offset, io->memory.size())) {
    blocked_.push_back(io);
    if (!unblock_.armed()) loop_->arm(&unblock_, loop_->now() + kUnblockPeriod);
    return;
  }
  submit(io);
}

/// The filler writes a MiB at a time: those who wait for it have their turn soon.
void UringDevice::retry_blocked() {
  const std::vector<Io*> blocked = std::exchange(blocked_, {});
  for (Io* io : blocked) launch(io);
}

void UringDevice::submit(Io* io) {
  if (io->kind == Kind::sync) return loop_->sync_data(fd_, io);
  const uint64_t left = io->memory.size() - io->moved;
  const std::span<std::byte> rest = io->memory.subspan(
      static_cast<size_t>(io->moved), static_cast<size_t>(std::min(left, kRequestBytesMax)));
  const int index = registered_index(rest);
  if (index < 0) metrics_.unregistered.add();
  if (io->kind == Kind::read) {
    loop_->read(fd_, rest, io->offset + io->moved, io, index);
  } else {
    loop_->write(fd_, rest, io->offset + io->moved, io, index);
  }
}

/// -1: in none.
int UringDevice::registered_index(std::span<const std::byte> memory) const {
  const auto after = std::upper_bound(
      registered_.begin(), registered_.end(), memory.data(),
      [](const std::byte* at, const Registered& buffer) { return at < buffer.begin; });
  if (after == registered_.begin()) return -1;
  const Registered& buffer = *std::prev(after);
  return memory.data() + memory.size() <= buffer.end ? buffer.index : -1;
}

void UringDevice::answered(Io* io, int32_t result) {
  timeouts_in_row_ = 0;  // it lives
  if (io->op == nullptr) return came_late(io);
  if (goes_on(io, result)) return;
  if (result < 0) return finish(io, media_status(-result, io->name()));
  if (io->moved == io->memory.size()) return finish(io, ok_status());
  metrics_.short_transfers.add();
  finish(io, error(StatusCode::kDataLoss,
                   io->name() + ": the device ends after " + std::to_string(io->moved) + " bytes"));
}

/// A short transfer is continued, a busy kernel asked again. True: submitted.
bool UringDevice::goes_on(Io* io, int32_t result) {
  if (result == -EAGAIN || result == -EINTR) {
    if (++io->retries > kRetriesMax) return false;
    submit(io);
    return true;
  }
  if (result <= 0 || io->kind == Kind::sync) return false;
  const auto whole = static_cast<uint64_t>(result) / kSectorBytes * kSectorBytes;
  io->moved += whole;
  if (whole == 0 || io->moved == io->memory.size()) return false;
  submit(io);
  return true;
}

void UringDevice::finish(Io* io, Status result) {
  Lane& lane = lane_of(io->kind);
  --lane.in_flight;
  switch (io->kind) {
    case Kind::read:
      metrics_.reads.add();
      metrics_.read_bytes.add(io->moved);
      break;
    case Kind::write:
      metrics_.writes.add();
      metrics_.write_bytes.add(io->moved);
      break;
    case Kind::sync:
      metrics_.syncs.add();
      break;
  }
  if (!result.ok()) metrics_.errors.add();
  Op* const op = io->op;
  running_.erase(io->self);
  pump(&lane);
  op->done(std::move(result));
}

/// The kernel let go of a request that nobody waits for: its memory is free now.
void UringDevice::came_late(Io* io) {
  Lane& lane = lane_of(io->kind);
  --lane.in_flight;
  const std::span<const std::byte> memory = io->memory;
  late_.erase(io->self);
  pump(&lane);
  if (!memory.empty() && released_) released_(memory);
}

/// Arms the timer for the oldest request, unless it is.
void UringDevice::watch() {
  if (deadline_.armed()) return;
  Nanos first = Nanos::max();
  if (!running_.empty()) first = running_.front()->since;
  for (const Lane& lane : lanes_) {
    if (!lane.waiting.empty()) first = std::min(first, lane.waiting.front()->since);
  }
  if (first != Nanos::max()) loop_->arm(&deadline_, first + options_.io_timeout);
}

void UringDevice::expire() {
  const Nanos limit = loop_->now() - options_.io_timeout;
  std::vector<std::pair<Op*, std::string>> timed_out;
  while (!running_.empty() && running_.front()->since <= limit) {
    Io* const io = running_.front().get();
    metrics_.timeouts.add();
    if (std::erase(blocked_, io) > 0) {  // the kernel never had it
      finish(io, error(StatusCode::kUnavailable, io->name() + ": the device hangs"));
      continue;
    }
    ++timeouts_in_row_;
    timed_out.emplace_back(std::exchange(io->op, nullptr), io->name());
    late_.splice(late_.end(), running_, running_.begin());  // keeps its place in flight
    io->self = std::prev(late_.end());
  }
  if (!timed_out.empty()) next_trial_ = loop_->now() + kTrialTimeouts * options_.io_timeout;
  refuse_waiting(hung() ? Nanos::max() : limit);
  for (auto& [op, name] : timed_out) {
    op->done(error(StatusCode::kDeadlineExceeded, name + ": no answer from the device"));
  }
  watch();
}

/// Ends the requests that waited since `older_than` or longer; their memory was never lent.
void UringDevice::refuse_waiting(Nanos older_than) {
  for (Lane& lane : lanes_) {
    while (!lane.waiting.empty() && lane.waiting.front()->since <= older_than) {
      const std::unique_ptr<Io> io = std::move(lane.waiting.front());
      lane.waiting.pop_front();
      metrics_.refused.add();
      loop_->defer(io->op, error(StatusCode::kUnavailable, io->name() + ": the device hangs"));
    }
  }
}
}  // namespace terrace
