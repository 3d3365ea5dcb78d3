// transport/tcp_send_queue.h - the frames that wait to be sent on one connection, in order. Knows
// where each byte lies, how far the kernel got, and who waits for the memory; knows no socket.
// Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "base/op.h"
#include "base/region.h"
#include "transport/wire_format.h"

namespace terrace {

/// One frame on its way out. Header, fragment table and body are ours, the payload is borrowed.
struct OutFrame {
  FrameType type = FrameType::message;
  uint64_t tag = 0;
  std::vector<std::byte> head;
  std::vector<iovec> payload;
  size_t payload_bytes = 0;
  Op* op = nullptr;                // done when the payload is free again
  std::vector<RemoteSpan> pinned;  // regions that the payload of a served read lies in
  uint64_t order = 0;              // among the frames of all connections
  size_t sent = 0;                 // bytes of head and payload that the kernel has
  bool stop = false;               // its memory is wanted back

  size_t bytes() const { return head.size() + payload_bytes; }
};

/// A frame with `body`, and nothing yet for the payload that `header` announces.
OutFrame make_frame(const FrameHeader& header, std::span<const RemoteSpan> spans,
                    std::span<const std::byte> body);

/// The end of a frame, or of its hold on borrowed memory.
struct EndedFrame {
  Op* op = nullptr;
  std::vector<RemoteSpan> pinned;
  bool answered_read = false;  // the whole answer to a read of the peer left the queue
  Status result;
};

class TcpSendQueue {
 public:
  void push(OutFrame frame);
  bool empty() const { return frames_.empty(); }
  size_t frames() const { return frames_.size(); }
  /// Of the frame to be sent next, and what is left of it; 0 when there is none.
  uint64_t front_order() const { return frames_.empty() ? 0 : frames_.front().order; }
  size_t front_left() const {
    return frames_.empty() ? 0 : frames_.front().bytes() - frames_.front().sent;
  }
  /// Not yet taken by the kernel, heads included.
  uint64_t bytes() const { return bytes_; }
  /// The part of bytes() that belongs to write frames.
  uint64_t write_bytes() const { return write_bytes_; }

  /// The next pieces to send, about `bytes_max`; valid until the queue changes. Remembers that the
  /// frames they lie in are with the kernel until advance().
  std::span<iovec> gather(size_t bytes_max);
  /// The kernel took `count` bytes of what gather() gave, and holds nothing any more. Frames that
  /// are through are appended to `ended`.
  void advance(size_t count, std::vector<EndedFrame>* ended);

  /// Wants the borrowed memory of the frames that `which` picks back. What the kernel does not hold
  /// is ended at once: a frame not begun is taken out (kCancelled; a read's answer becomes an
  /// error), of one begun the rest is copied (OK: it will arrive). Whether some are with the
  /// kernel: then advance() ends them.
  bool stop(const std::function<bool(const OutFrame&)>& which, std::vector<EndedFrame>* ended);
  /// Whether a frame that stop() picked is still with the kernel.
  bool stopping(const std::function<bool(const OutFrame&)>& which) const;
  /// Whether `op` waits for a frame that stop() was not asked for.
  bool holds(const Op* op) const;
  /// Whether a frame borrows memory of `memory`.
  bool borrows(std::span<const std::byte> memory) const;
  /// Takes all frames out; the kernel holds nothing.
  void clear(const Status& why, std::vector<EndedFrame>* ended);

 private:
  void end_stopped(size_t first, std::vector<EndedFrame>* ended);
  void account(const OutFrame& frame, size_t count);

  std::deque<OutFrame> frames_;
  size_t with_kernel_ = 0;  // frames that gather() touched
  uint64_t bytes_ = 0;
  uint64_t write_bytes_ = 0;
  std::vector<iovec> pieces_;
};
}  // namespace terrace
