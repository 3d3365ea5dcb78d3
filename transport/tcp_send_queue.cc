#include "transport/tcp_send_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "transport/transfer_check.h"

namespace terrace {
namespace {

constexpr size_t kPiecesPerSendMax = 256;

/// The frame gives its memory back; the frame itself may stay.
EndedFrame give_back(OutFrame* frame, Status result) {
  return {.op = std::exchange(frame->op, nullptr),
          .pinned = std::exchange(frame->pinned, {}),
          .answered_read = false,
          .result = std::move(result)};
}

/// The frame is through, or never will be.
EndedFrame end_frame(OutFrame* frame, Status result) {
  EndedFrame ended = give_back(frame, std::move(result));
  ended.answered_read = frame->type == FrameType::read_data || frame->type == FrameType::read_error;
  return ended;
}

bool borrows_nothing(const OutFrame& frame) {
  return frame.op == nullptr && frame.pinned.empty();
}

/// Copies what was not sent yet, so that the memory behind it is free.
void adopt_rest(OutFrame* frame) {
  std::vector<std::byte> rest(frame->bytes() - frame->sent);
  std::byte* to = rest.data();
  size_t skip = frame->sent;
  const auto take = [&](const void* from, size_t bytes) {
    const size_t skipped = std::min(skip, bytes);
    skip -= skipped;
    if (bytes == skipped) return;
    std::memcpy(to, static_cast<const std::byte*>(from) + skipped, bytes - skipped);
    to += bytes - skipped;
  };
  take(frame->head.data(), frame->head.size());
  for (const iovec& piece : frame->payload) take(piece.iov_base, piece.iov_len);
  TERRACE_CHECK(to == rest.data() + rest.size());
  frame->head = std::move(rest);
  frame->payload.clear();
  frame->payload_bytes = 0;
  frame->sent = 0;
}
}  // namespace

OutFrame make_frame(const FrameHeader& header, std::span<const RemoteSpan> spans,
                    std::span<const std::byte> body) {
  OutFrame frame;
  frame.type = header.type;
  frame.tag = header.tag;
  const size_t table = spans.size() * kRemoteSpanBytes;
  TERRACE_CHECK(header.body_bytes == table + body.size());
  frame.head.resize(kFrameHeaderBytes + table + body.size());
  const FrameHeaderBytes bytes = encode(header);
  std::memcpy(frame.head.data(), bytes.data(), bytes.size());
  if (table > 0) encode(spans, std::span(frame.head).subspan(kFrameHeaderBytes, table));
  if (!body.empty()) {
    std::memcpy(frame.head.data() + kFrameHeaderBytes + table, body.data(), body.size());
  }
  return frame;
}

void TcpSendQueue::push(OutFrame frame) {
  bytes_ += frame.bytes();
  if (frame.type == FrameType::write) write_bytes_ += frame.bytes();
  frames_.push_back(std::move(frame));
}

std::span<iovec> TcpSendQueue::gather(size_t bytes_max) {
  TERRACE_CHECK(with_kernel_ == 0);
  pieces_.clear();
  size_t room = bytes_max;
  const auto add = [&](const void* base, size_t bytes, size_t* skip) {
    const size_t skipped = std::min(*skip, bytes);
    *skip -= skipped;
    if (bytes == skipped) return;
    const size_t length = std::min(bytes - skipped, room);
    // sendmsg does not write through iov_base.
    pieces_.push_back(
        {const_cast<std::byte*>(static_cast<const std::byte*>(base)) + skipped, length});
    room -= length;
  };
  for (const OutFrame& frame : frames_) {
    if (room == 0 || pieces_.size() == kPiecesPerSendMax) break;
    ++with_kernel_;
    size_t skip = frame.sent;
    // Heads are small and come on top, so that payload is cut where it is aligned: copies between
    // addresses of unlike alignment cost the kernel half as much again.
    room += frame.head.size() - std::min(skip, frame.head.size());
    add(frame.head.data(), frame.head.size(), &skip);
    for (const iovec& piece : frame.payload) {
      if (room == 0 || pieces_.size() == kPiecesPerSendMax) break;
      add(piece.iov_base, piece.iov_len, &skip);
    }
  }
  return pieces_;
}

void TcpSendQueue::account(const OutFrame& frame, size_t count) {
  bytes_ -= count;
  if (frame.type == FrameType::write) write_bytes_ -= count;
}

void TcpSendQueue::advance(size_t count, std::vector<EndedFrame>* ended) {
  with_kernel_ = 0;
  while (count > 0) {
    TERRACE_CHECK(!frames_.empty());
    OutFrame& frame = frames_.front();
    const size_t taken = std::min(count, frame.bytes() - frame.sent);
    frame.sent += taken;
    count -= taken;
    account(frame, taken);
    if (frame.sent < frame.bytes()) break;
    ended->push_back(end_frame(&frame, ok_status()));
    frames_.pop_front();
  }
  end_stopped(0, ended);
}

bool TcpSendQueue::stop(const std::function<bool(const OutFrame&)>& which,
                        std::vector<EndedFrame>* ended) {
  bool held = false;
  for (size_t i = 0; i < frames_.size(); ++i) {
    OutFrame& frame = frames_[i];
    if (borrows_nothing(frame) || !which(frame)) continue;
    frame.stop = true;
    held |= i < with_kernel_;
  }
  end_stopped(with_kernel_, ended);
  return held;
}

void TcpSendQueue::end_stopped(size_t first, std::vector<EndedFrame>* ended) {
  for (size_t i = first; i < frames_.size();) {
    OutFrame& frame = frames_[i++];
    if (!std::exchange(frame.stop, false)) continue;
    if (frame.sent > 0) {
      ended->push_back(give_back(&frame, ok_status()));
      adopt_rest(&frame);
      continue;
    }
    ended->push_back(give_back(&frame, StatusCode::kCancelled));
    account(frame, frame.bytes());
    if (frame.type == FrameType::read_data) {
      // Answers come in the order of their questions: this question needs one all the same.
      frame = make_frame({.type = FrameType::read_error,
                          .tag = frame.tag,
                          .immediate = static_cast<uint32_t>(StatusCode::kCancelled)},
                         {}, {});
      bytes_ += frame.bytes();
    } else {
      frames_.erase(frames_.begin() + static_cast<ptrdiff_t>(--i));
    }
  }
}

bool TcpSendQueue::stopping(const std::function<bool(const OutFrame&)>& which) const {
  return std::any_of(frames_.begin(), frames_.end(),
                     [&](const OutFrame& frame) { return frame.stop && which(frame); });
}

bool TcpSendQueue::holds(const Op* op) const {
  return std::any_of(frames_.begin(), frames_.end(),
                     [op](const OutFrame& frame) { return frame.op == op && !frame.stop; });
}

bool TcpSendQueue::borrows(std::span<const std::byte> memory) const {
  return std::any_of(frames_.begin(), frames_.end(),
                     [memory](const OutFrame& frame) { return overlaps(frame.payload, memory); });
}

void TcpSendQueue::clear(const Status& why, std::vector<EndedFrame>* ended) {
  for (OutFrame& frame : frames_) ended->push_back(end_frame(&frame, why));
  frames_.clear();
  with_kernel_ = 0;
  bytes_ = 0;
  write_bytes_ = 0;
}
}  // namespace terrace
