#include "base/ring.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/check.h"

// Debian 12's headers are older than the kernels we run on; the numbers are kernel ABI.
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

namespace terrace {
namespace {

constexpr unsigned kBuffersMax = 16384;  // the kernel's own limit
constexpr uint64_t kNobody = 0;          // user_data of requests whose result nobody wants

/// Debian 12's liburing declares io_uring_enable_rings and does not export it.
void enable(const io_uring& ring) {
  const long rc =
      ::syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  TERRACE_CHECK(rc == 0);
}

__kernel_timespec to_timespec(Nanos wait) {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(wait);
  return {.tv_sec = whole.count(), .tv_nsec = (wait - whole).count()};
}
}  // namespace

StatusOr<std::unique_ptr<Ring>> Ring::open(uint32_t entries) {
  auto ring = std::unique_ptr<Ring>(new Ring);
  // One thread submits, and completions are delivered when it asks: fewer interrupts. Created
  // disabled, because the thread that opens a loop need not be the one that runs it.
  const unsigned wanted = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                          IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
  ring->enabled_ = false;
  int rc = io_uring_queue_init(entries, &ring->ring_, wanted);
  if (rc == -EINVAL) {
    ring->enabled_ = true;
    rc = io_uring_queue_init(entries, &ring->ring_, IORING_SETUP_CLAMP);
  }
  if (rc < 0) {
    return error(StatusCode::kUnavailable,
                 errno_status(-rc, "io_uring_queue_init").message() +
                     "; check kernel.io_uring_disabled, seccomp and RLIMIT_MEMLOCK");
  }
  ring->open_ = true;
  if (io_uring_probe* probe = io_uring_get_probe_ring(&ring->ring_)) {
    ring->has_zero_copy_ = io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC) != 0;
    io_uring_free_probe(probe);
  }
  return ring;
}

Ring::~Ring() {
  TERRACE_CHECK(in_flight_ == 0);  // the gates above us drained
  if (open_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Ring::next() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    if (!enabled_) {
      enable(ring_);
      enabled_ = true;
    }
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  TERRACE_CHECK(sqe != nullptr);
  return sqe;
}

void Ring::track(io_uring_sqe* sqe, IoOp* op) {
  TERRACE_CHECK(op->pending_ == 0);
  op->pending_ = 1;
  op->zero_copy_copied_ = false;
  ++in_flight_;
  io_uring_sqe_set_data(sqe, op);
}

void Ring::track_zero_copy(io_uring_sqe* sqe, IoOp* op) {
  sqe->ioprio = static_cast<uint16_t>(sqe->ioprio | IORING_SEND_ZC_REPORT_USAGE);
  track(sqe, op);
}

void Ring::cancel(IoOp* op) {
  if (op->pending_ == 0) return;
  io_uring_sqe* sqe = next();
  io_uring_prep_cancel(sqe, op, 0);
  io_uring_sqe_set_data64(sqe, kNobody);
  ++in_flight_;
}

StatusOr<int> Ring::register_buffer(std::span<std::byte> memory) {
  if (buffers_ < 0) {
    const int rc = io_uring_register_buffers_sparse(&ring_, kBuffersMax);
    if (rc < 0) return errno_status(-rc, "io_uring_register_buffers_sparse");
    buffers_ = 0;
  }
  if (buffers_free_.empty() && buffers_ == static_cast<int>(kBuffersMax)) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(kBuffersMax) + " buffers are registered, the limit");
  }
  const int slot = buffers_free_.empty() ? buffers_ : buffers_free_.back();
  const iovec buffer{memory.data(), memory.size()};
  const int rc = io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(slot), &buffer,
                                                      nullptr, 1);
  if (rc == 1) {
    if (buffers_free_.empty()) {
      ++buffers_;
    } else {
      buffers_free_.pop_back();
    }
    return slot;
  }
  return errno_status(rc < 0 ? -rc : EIO, "registering " + std::to_string(memory.size()) +
                                              " bytes with io_uring (RLIMIT_MEMLOCK)");
}

void Ring::unregister_buffer(int index) {
  const iovec nothing{nullptr, 0};
  const int rc = io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(index),
                                                      &nothing, nullptr, 1);
  // A slot that kept its pages must not be used again: I/O there would miss the mapped memory.
  TERRACE_CHECK(rc == 1);
  buffers_free_.push_back(index);
}

size_t Ring::turn(Nanos wait_max) {
  if (!enabled_) {
    enable(ring_);
    enabled_ = true;
  }
  __kernel_timespec wait = to_timespec(wait_max);
  io_uring_cqe* first = nullptr;
  const unsigned wanted = wait_max.count() > 0 ? 1 : 0;
  const int rc =
      io_uring_submit_and_wait_timeout(&ring_, &first, wanted, wanted ? &wait : nullptr, nullptr);
  TERRACE_CHECK(rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
  // With deferred task running, completions are only produced when the ring is asked for events.
  if (wanted == 0) io_uring_get_events(&ring_);
  return reap();
}

size_t Ring::reap() {
  constexpr unsigned kBatch = 256;  // a turn is bounded
  size_t ran = 0;
  io_uring_cqe* cqe = nullptr;
  while (ran < kBatch && io_uring_peek_cqe(&ring_, &cqe) == 0) {
    const io_uring_cqe copy = *cqe;
    io_uring_cqe_seen(&ring_, cqe);
    if (copy.user_data == kNobody) {
      --in_flight_;
      continue;
    }
    ++ran;
    complete(reinterpret_cast<IoOp*>(copy.user_data), copy);
  }
  return ran;
}

void Ring::complete(IoOp* op, const io_uring_cqe& cqe) {
  if ((cqe.flags & IORING_CQE_F_NOTIF) != 0) {  // the second half of a zero-copy send
    op->zero_copy_copied_ = (static_cast<uint32_t>(cqe.res) & IORING_NOTIF_USAGE_ZC_COPIED) != 0;
  } else {
    op->result_ = cqe.res;
    if ((cqe.flags & IORING_CQE_F_MORE) != 0) return;  // a notification will follow
  }
  --in_flight_;
  op->pending_ = 0;
  op->io_done(op->result_);
}
}  // namespace terrace
