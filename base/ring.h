// base/ring.h - io_uring as this project uses it. The only home of <liburing.h>. Thread-confined;
// base/loop.h is what other rooms use.
#pragma once
#include <liburing.h>

#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"

namespace terrace {

class Ring {
 public:
  static StatusOr<std::unique_ptr<Ring>> open(uint32_t entries);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// A request to fill in with io_uring_prep_*; then track() it. Never null: a full queue is
  /// submitted first.
  io_uring_sqe* next();
  /// Binds `op` to the request; call after io_uring_prep_*, which may clear user_data.
  void track(io_uring_sqe* sqe, IoOp* op);
  void track_zero_copy(io_uring_sqe* sqe, IoOp* op);
  void cancel(IoOp* op);
  StatusOr<int> register_buffer(std::span<std::byte> memory);
  void unregister_buffer(int index);
  /// Submits, waits at most `wait_max` for one completion, runs those that are there.
  size_t turn(Nanos wait_max);
  bool has_zero_copy() const { return has_zero_copy_; }

 private:
  Ring() = default;
  size_t reap();
  void complete(IoOp* op, const io_uring_cqe& cqe);

  io_uring ring_{};
  bool open_ = false;
  bool enabled_ = true;  // false until the first turn when the ring was created disabled
  bool has_zero_copy_ = false;
  size_t in_flight_ = 0;
  int buffers_ = -1;               // slots used so far; -1: the kernel has no table of ours yet
  std::vector<int> buffers_free_;  // slots below that which are empty again
};
}  // namespace terrace
