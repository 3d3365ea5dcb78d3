#include "base/loop.h"

#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/cpu.h"
#include "base/ring.h"

namespace terrace {

namespace {

/// Asks for short, frequent turns on a core that is shared (Linux 6.12 and later; else nothing).
void ask_for_short_slices() {
  struct Attributes {
    uint32_t size = 0, policy = 0;
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime_ns = 0, deadline = 0, period = 0;
  } attributes;
  attributes.size = sizeof(attributes);
  attributes.nice = ::getpriority(PRIO_PROCESS, 0);
  attributes.runtime_ns = 100'000;
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);
}
}  // namespace

IoOp::~IoOp() {
  TERRACE_CHECK(pending_ == 0);  // the kernel still knows this address
}
Timer::~Timer() {
  TERRACE_CHECK(!armed());
}

/// Keeps one poll on the mailbox's eventfd in the ring, so that a post ends a waiting turn.
class Loop::Wake final : public IoOp {
 public:
  explicit Wake(Loop* loop) : loop_(loop) {}
  void arm() {
    io_uring_sqe* sqe = loop_->ring_->next();
    io_uring_prep_poll_add(sqe, loop_->mailbox_.event_fd(), POLLIN);
    loop_->ring_->track(sqe, this);
  }
  void io_done(int32_t) override {
    if (closing) return;
    loop_->mailbox_.run();
    arm();
  }
  bool closing = false;

 private:
  Loop* const loop_;
};

StatusOr<std::unique_ptr<Loop>> Loop::create(const Options& options, const Clock* clock) {
  // The kernel takes the ring's pages near the CPU that asks.
  std::vector<uint32_t> before;
  if (!options.cpus.empty()) before = cpus_of_this_thread();
  if (!options.cpus.empty()) TERRACE_RETURN_IF_ERROR(pin_this_thread(options.cpus));
  StatusOr<std::unique_ptr<Ring>> opened = Ring::open(options.ring_entries);
  if (!options.cpus.empty()) TERRACE_RETURN_IF_ERROR(pin_this_thread(before));
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<Ring> ring, std::move(opened));
  auto loop = std::unique_ptr<Loop>(new Loop(options, clock, std::move(ring)));
  loop->wake_ = std::make_unique<Wake>(loop.get());
  loop->wake_->arm();
  return loop;
}

Loop::Loop(const Options& options, const Clock* clock, std::unique_ptr<Ring> ring)
    : clock_(clock),
      cpus_(options.cpus),
      poll_for_(options.poll_for),
      mailbox_(options.mailbox_tasks_max),
      ring_(std::move(ring)) {}

Loop::~Loop() {
  wake_->closing = true;
  ring_->cancel(wake_.get());
  while (wake_->in_flight()) turn(milliseconds(10));
  turn(Nanos(0));  // the cancel request's own completion
  TERRACE_CHECK(timers_.empty());
}

void Loop::run() {
  ask_for_short_slices();
  // create() tried it: a CPU that went away since leaves the thread where it is.
  if (!cpus_.empty()) (void)pin_this_thread(cpus_);
  while (!stopping_.load(std::memory_order_acquire)) {
    const bool polling = poll_for_ > Nanos(0) && now() - last_completion_ < poll_for_;
    turn(polling ? Nanos(0) : seconds(1));
  }
}

void Loop::stop() {
  stopping_.store(true, std::memory_order_release);
  mailbox_.wake();
}

size_t Loop::turn(Nanos wait_max) {
  if (!deferred_.empty()) wait_max = Nanos(0);
  if (!timers_.empty()) {
    wait_max = std::clamp(timers_.front()->at_ - clock_->now(), Nanos(0), wait_max);
  }
  size_t ran = run_deferred();
  const size_t completed = ring_->turn(wait_max);
  if (completed > 0 && poll_for_ > Nanos(0)) last_completion_ = now();
  ran += completed;
  ran += run_timers();
  return ran;
}

size_t Loop::run_deferred() {
  std::vector<Deferred> now = std::exchange(deferred_, {});
  for (Deferred& item : now) {
    if (item.op != nullptr) item.op->done(std::move(item.result));
    if (item.task) item.task();
  }
  const size_t ran = now.size();
  if (deferred_.empty()) {  // keep the allocation
    now.clear();
    deferred_.swap(now);
  }
  return ran;
}

size_t Loop::run_timers() {
  size_t ran = 0;
  const Nanos now = clock_->now();
  // Bounded: a timer that re-arms itself in the past waits for the next turn.
  for (size_t left = timers_.size(); left > 0 && !timers_.empty(); --left) {
    Timer* timer = timers_.front();
    if (timer->at_ > now) break;
    disarm(timer);
    timer->fired_();
    ++ran;
  }
  return ran;
}

void Loop::defer(Op* op, Status result) {
  deferred_.push_back({op, std::move(result), nullptr});
}
void Loop::defer(Task task) {
  deferred_.push_back({nullptr, ok_status(), std::move(task)});
}

void Loop::read(int fd, std::span<std::byte> into, uint64_t offset, IoOp* op, int buffer_index) {
  io_uring_sqe* sqe = ring_->next();
  const auto bytes = static_cast<unsigned>(into.size());
  if (buffer_index >= 0) {
    io_uring_prep_read_fixed(sqe, fd, into.data(), bytes, offset, buffer_index);
  } else {
    io_uring_prep_read(sqe, fd, into.data(), bytes, offset);
  }
  ring_->track(sqe, op);
}

void Loop::write(int fd, std::span<const std::byte> from, uint64_t offset, IoOp* op,
                 int buffer_index) {
  io_uring_sqe* sqe = ring_->next();
  const auto bytes = static_cast<unsigned>(from.size());
  if (buffer_index >= 0) {
    io_uring_prep_write_fixed(sqe, fd, from.data(), bytes, offset, buffer_index);
  } else {
    io_uring_prep_write(sqe, fd, from.data(), bytes, offset);
  }
  ring_->track(sqe, op);
}

void Loop::sync_data(int fd, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
  ring_->track(sqe, op);
}

void Loop::receive(int fd, msghdr* message, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_recvmsg(sqe, fd, message, 0);
  ring_->track(sqe, op);
}

void Loop::send(int fd, const msghdr* message, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_sendmsg(sqe, fd, message, MSG_NOSIGNAL);
  ring_->track(sqe, op);
}

void Loop::send_zero_copy(int fd, const msghdr* message, IoOp* op) {
  TERRACE_CHECK(has_zero_copy_send());
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_sendmsg_zc(sqe, fd, message, MSG_NOSIGNAL);
  ring_->track_zero_copy(sqe, op);
}

bool Loop::has_zero_copy_send() const {
  return ring_->has_zero_copy();
}

void Loop::accept(int fd, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  ring_->track(sqe, op);
}

void Loop::connect(int fd, const sockaddr* address, socklen_t length, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_connect(sqe, fd, address, length);
  ring_->track(sqe, op);
}

void Loop::poll_readable(int fd, IoOp* op) {
  io_uring_sqe* sqe = ring_->next();
  io_uring_prep_poll_add(sqe, fd, POLLIN);
  ring_->track(sqe, op);
}

void Loop::cancel(IoOp* op) {
  ring_->cancel(op);
}

StatusOr<int> Loop::register_buffer(std::span<std::byte> memory) {
  return ring_->register_buffer(memory);
}

void Loop::unregister_buffer(int index) {
  ring_->unregister_buffer(index);
}

void Loop::arm(Timer* timer, Nanos at) {
  disarm(timer);
  timer->at_ = at;
  timer->heap_index_ = timers_.size();
  timers_.push_back(timer);
  heap_up(timer->heap_index_);
}

void Loop::disarm(Timer* timer) {
  if (!timer->armed()) return;
  const size_t hole = timer->heap_index_;
  heap_swap(hole, timers_.size() - 1);
  timers_.pop_back();
  timer->heap_index_ = Timer::kNotArmed;
  if (hole < timers_.size()) {
    heap_up(hole);
    heap_down(hole);
  }
}

void Loop::heap_swap(size_t a, size_t b) {
  std::swap(timers_[a], timers_[b]);
  timers_[a]->heap_index_ = a;
  timers_[b]->heap_index_ = b;
}

void Loop::heap_up(size_t index) {
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (timers_[parent]->at_ <= timers_[index]->at_) return;
    heap_swap(parent, index);
    index = parent;
  }
}

void Loop::heap_down(size_t index) {
  while (true) {
    size_t least = index;
    for (size_t child = 2 * index + 1; child <= 2 * index + 2 && child < timers_.size(); ++child) {
      if (timers_[child]->at_ < timers_[least]->at_) least = child;
    }
    if (least == index) return;
    heap_swap(index, least);
    index = least;
  }
}
}  // namespace terrace
