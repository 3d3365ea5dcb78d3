// base/loop.h - one thread's event loop: io_uring, timers, and the way in from other threads.
//
// Thread-confined: everything except post() and stop() belongs to the thread that runs turn(). The
// starter owns every IoOp, Timer and Task object and keeps it in place until it ran.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/op.h"
#include "base/status.h"

struct io_uring_sqe;

namespace terrace {

class Ring;

/// One kernel request. `io_done` runs once per request, on the loop thread, never inside the call
/// that started it. `result` is the kernel's: bytes, a descriptor, or -errno. A short transfer is
/// not an error here; the layer above decides.
class IoOp {
 public:
  IoOp() = default;
  IoOp(const IoOp&) = delete;
  IoOp& operator=(const IoOp&) = delete;
  virtual void io_done(int32_t result) = 0;
  bool in_flight() const { return pending_ != 0; }

 protected:
  ~IoOp();

 private:
  friend class Ring;
  int32_t result_ = 0;
  uint8_t pending_ = 0;  // completions still to come: 2 for a zero-copy send
  bool zero_copy_copied_ = false;

 public:
  /// After a zero-copy send: the kernel had to copy all the same (loopback), so do not ask again.
  bool zero_copy_copied() const { return zero_copy_copied_; }
};

/// An IoOp that calls a method of its owner.
template <class T, void (T::*Method)(int32_t)>
class MethodOp final : public IoOp {
 public:
  explicit MethodOp(T* owner) : owner_(owner) {}
  void io_done(int32_t result) override { (owner_->*Method)(result); }

 private:
  T* const owner_;
};

/// A deadline. Owned by its user; disarmed on destruction by its user.
class Timer {
 public:
  explicit Timer(std::function<void()> fired) : fired_(std::move(fired)) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer();
  bool armed() const { return heap_index_ != kNotArmed; }

 private:
  friend class Loop;
  static constexpr size_t kNotArmed = ~size_t{0};
  std::function<void()> fired_;
  Nanos at_{0};
  size_t heap_index_ = kNotArmed;
};

class Loop {
 public:
  struct Options {
    uint32_t ring_entries = 1024;  // power of two
    uint32_t mailbox_tasks_max = 4096;
    /// run() pins its thread to these, and the ring lies near them; none: anywhere.
    std::vector<uint32_t> cpus{};
    /// So long after the last completion run() asks the kernel again and again before it sleeps: it
    /// reacts sooner, for a core that is never idle meanwhile.
    Nanos poll_for{0};
  };
  /// kUnavailable when the kernel refuses io_uring (the message says what to check);
  /// kInvalidArgument when it has none of the CPUs.
  static StatusOr<std::unique_ptr<Loop>> create(const Options& options, const Clock* clock);
  ~Loop();

  /// Turns until stop(). Call on the thread that is to own the loop.
  void run();
  /// One turn: submits, waits at most `wait_max` (less when a timer or a deferred task is due),
  /// runs what finished. Returns how many callbacks ran.
  size_t turn(Nanos wait_max);
  /// Thread-safe.
  void stop();
  /// Thread-safe: runs `task` on the loop thread. kResourceExhausted when the mailbox is full.
  Status post(Task task) { return mailbox_.post(std::move(task)); }

  const Clock& clock() const { return *clock_; }
  Nanos now() const { return clock_->now(); }

  // I/O. `buffer_index` >= 0 names a registered buffer that contains the memory.
  void read(int fd, std::span<std::byte> into, uint64_t offset, IoOp* op, int buffer_index = -1);
  void write(int fd, std::span<const std::byte> from, uint64_t offset, IoOp* op,
             int buffer_index = -1);
  /// fdatasync.
  void sync_data(int fd, IoOp* op);
  /// One receive or send; `message` and what it points to live until `op` ran. May be short.
  void receive(int fd, msghdr* message, IoOp* op);
  void send(int fd, const msghdr* message, IoOp* op);
  /// As send, without copying when the kernel can; `op` runs when the memory is free again.
  void send_zero_copy(int fd, const msghdr* message, IoOp* op);
  /// Whether this kernel has send_zero_copy.
  bool has_zero_copy_send() const;
  void accept(int fd, IoOp* op);
  /// `address` lives until `op` ran.
  void connect(int fd, const sockaddr* address, socklen_t length, IoOp* op);
  void poll_readable(int fd, IoOp* op);
  /// Asks the kernel to end `op` early. It still completes once: -ECANCELED, or what it had.
  void cancel(IoOp* op);
  /// Registers memory (at most 1 GiB, the kernel's bound) for read() and write() and returns its
  /// index. The kernel keeps the pages that lie there now: memory that is mapped anew at the same
  /// address is other memory. kResourceExhausted: over the memlock limit, or too many; go on
  /// unregistered.
  StatusOr<int> register_buffer(std::span<std::byte> memory);
  /// `index` came from register_buffer(); nothing that runs or starts later names it.
  void unregister_buffer(int index);

  /// Re-arming moves the deadline.
  void arm(Timer* timer, Nanos at);
  void disarm(Timer* timer);
  /// Completes `op` with `result` on the next turn: how a call that failed at once keeps the
  /// promise of never calling back inside itself. Bounded by the operations that exist.
  void defer(Op* op, Status result);
  /// Runs `task` on the next turn.
  void defer(Task task);

 private:
  Loop(const Options& options, const Clock* clock, std::unique_ptr<Ring> ring);
  class Wake;
  size_t run_deferred();
  size_t run_timers();
  void heap_swap(size_t a, size_t b);
  void heap_up(size_t index);
  void heap_down(size_t index);

  const Clock* const clock_;
  const std::vector<uint32_t> cpus_;
  const Nanos poll_for_;
  Nanos last_completion_{0};  // kept only to poll
  Mailbox mailbox_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<Wake> wake_;
  std::vector<Timer*> timers_;  // binary heap by deadline
  struct Deferred {
    Op* op;
    Status result;
    Task task;
  };
  std::vector<Deferred> deferred_;
  std::atomic<bool> stopping_{false};
};
}  // namespace terrace
