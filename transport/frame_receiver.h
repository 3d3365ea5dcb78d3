// transport/frame_receiver.h - the receiving half of a connection as a state machine without a
// socket: it says where the next bytes of the stream go, and is told how many arrived. Payload goes
// straight to its destination, and the next frame's header is asked for in the same receive.
// Everything a peer sends is checked here first. Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "transport/wire_format.h"

namespace terrace {

/// What a connection may carry now.
enum class FrameLane : uint8_t {
  hello,     // one hello
  hello_ok,  // one hello_ok
  nothing,   // any byte is a mistake
  paused,    // keeps what came, parses nothing, asks for nothing
  messages,
  data,
  shm,  // messages, and transfers that carry no payload
};

/// What to do with frames. A non-OK answer ends the connection. Calls come from received() only.
class FrameSink {
 public:
  /// Header and body are there and fit the lane. Appends where the payload goes, `payload_bytes` in
  /// all; leaves `places` empty to have it dropped. `body` is valid during the call.
  virtual Status frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                              std::vector<iovec>* places) = 0;
  /// The payload is in place (or dropped). `body` is the same bytes as before.
  virtual Status frame_ends(const FrameHeader& header, std::span<const std::byte> body) = 0;

 protected:
  ~FrameSink() = default;
};

class FrameReceiver {
 public:
  /// `discard` takes dropped payload and may be shared: nobody reads it.
  FrameReceiver(FrameSink* sink, std::span<std::byte> discard);

  /// Takes effect with the next frame; after paused call received(0) to go on.
  void set_lane(FrameLane lane) { lane_ = lane; }
  FrameLane lane() const { return lane_; }
  /// Where the next bytes go: about `bytes_max` at most, never nothing. Valid until the next call
  /// of any method. Not while paused.
  std::span<iovec> want(size_t bytes_max);
  /// `count` bytes arrived where want() said. The first error of the peer or of the sink; after
  /// one the stream is of no use any more.
  Status received(size_t count);

  /// Whether a frame has begun and not ended.
  bool mid_frame() const { return state_ != State::header || end_ > begin_; }
  /// Payload of the frame under way that has not arrived.
  size_t payload_left() const { return state_ == State::payload ? payload_left_ : 0; }
  /// Counts frames: names the one under way.
  uint64_t frame_number() const { return frame_number_; }
  /// Sends what is left of the payload under way to the discard buffer. No receive may be under
  /// way.
  void discard_payload();

 private:
  enum class State : uint8_t { header, body, payload };
  Status parse();
  Status parse_header();
  Status begin_frame(std::span<const std::byte> body);
  Status end_frame();
  void drop_places(size_t bytes);
  void take_payload(size_t count);
  void copy_ahead_payload();
  size_t ahead_bytes() const;

  FrameSink* const sink_;
  const std::span<std::byte> discard_;
  FrameLane lane_ = FrameLane::nothing;
  State state_ = State::header;
  FrameHeader header_;
  uint64_t frame_number_ = 0;

  std::vector<std::byte> ahead_;  // the stream's bytes [begin_, end_) that are not parsed yet
  size_t begin_ = 0;
  size_t end_ = 0;
  std::vector<std::byte> body_;  // of the frame under way; reused
  size_t body_filled_ = 0;
  std::vector<iovec> places_;  // of the payload under way; reused
  size_t place_ = 0;           // first place that is not full
  size_t payload_left_ = 0;
  std::vector<iovec> wanted_;
};
}  // namespace terrace
