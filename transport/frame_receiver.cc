#include "transport/frame_receiver.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/limits.h"
#include "transport/shm_format.h"

namespace terrace {
namespace {

constexpr size_t kPiecesPerReceiveMax = 256;
constexpr size_t kMessagesAheadBytes = 32 * kKiB;  // many small messages in one receive
constexpr size_t kDataAheadBytesMax = 8 * kKiB;
constexpr size_t kDataAheadBytesFirst = 512;
constexpr size_t kBodyKeptBytesMax = 256 * kKiB;

Status misplaced(const FrameHeader& header, const char* why) {
  return error(StatusCode::kInvalidArgument,
               "frame of type " + std::to_string(static_cast<int>(header.type)) + ": " + why);
}

Status check_spans(const FrameHeader& header) {
  if (header.kind > kFramesFragmentsMax) return misplaced(header, "too many fragments");
  if (header.kind * kRemoteSpanBytes > header.body_bytes) {
    return misplaced(header, "fragment table longer than the body");
  }
  return ok_status();
}

/// The same for the frames of a shared-memory session.
Status check_shm_shape(const FrameHeader& header) {
  if (header.payload_bytes != 0) return misplaced(header, "payload over shared memory");
  switch (header.type) {
    case FrameType::shm_write:
    case FrameType::shm_read:
    case FrameType::shm_read_data:
      return ok_status();
    case FrameType::shm_map:
      if (header.body_bytes != kShmFileFactsBytes) return misplaced(header, "bad size");
      return ok_status();
    default:
      return header.body_bytes != 0 ? misplaced(header, "bad size") : ok_status();
  }
}

/// What can be told from the header alone, before anything is allocated for the frame.
Status check_shape(const FrameHeader& header, FrameLane lane) {
  const bool messages = lane == FrameLane::messages || lane == FrameLane::shm;
  const bool data = lane == FrameLane::data;
  const bool has_payload = header.payload_bytes != 0;
  switch (header.type) {
    case FrameType::hello:
      if (lane != FrameLane::hello) return misplaced(header, "out of place");
      if (header.body_bytes != kHelloBytes || has_payload) return misplaced(header, "bad size");
      return ok_status();
    case FrameType::hello_ok:
      if (lane != FrameLane::hello_ok) return misplaced(header, "out of place");
      if (header.body_bytes != 0 || has_payload) return misplaced(header, "bad size");
      return ok_status();
    case FrameType::message:
      if (!messages) return misplaced(header, "out of place");
      return has_payload ? misplaced(header, "a message has no payload") : ok_status();
    case FrameType::write:
      if (!data) return misplaced(header, "out of place");
      return check_spans(header);
    case FrameType::read:
      if (!data) return misplaced(header, "out of place");
      if (has_payload || header.kind == 0 || header.immediate > kFramePayloadBytesMax ||
          header.body_bytes != header.kind * kRemoteSpanBytes) {
        return misplaced(header, "bad size");
      }
      return check_spans(header);
    case FrameType::read_data:
      if (!data) return misplaced(header, "out of place");
      return header.body_bytes != 0 || !has_payload ? misplaced(header, "bad size") : ok_status();
    case FrameType::read_error:
      if (!data) return misplaced(header, "out of place");
      if (header.body_bytes != 0 || has_payload || header.immediate == 0) {
        return misplaced(header, "bad size or code");
      }
      return ok_status();
    case FrameType::shm_write:
    case FrameType::shm_read:
    case FrameType::shm_read_data:
    case FrameType::shm_read_error:
    case FrameType::shm_done:
    case FrameType::shm_cancel:
    case FrameType::shm_map:
    case FrameType::shm_unmap:
      return lane == FrameLane::shm ? check_shm_shape(header) : misplaced(header, "out of place");
  }
  return misplaced(header, "unknown");
}
}  // namespace

FrameReceiver::FrameReceiver(FrameSink* sink, std::span<std::byte> discard)
    : sink_(sink), discard_(discard) {
  TERRACE_CHECK(!discard.empty());
}

/// How much to read beyond what is placed already: on the data lane just the next header and a body
/// like the last one, because payload read too early has to be copied once more.
size_t FrameReceiver::ahead_bytes() const {
  if (lane_ == FrameLane::messages || lane_ == FrameLane::shm) return kMessagesAheadBytes;
  if (frame_number_ <= 1) return kDataAheadBytesFirst;
  return std::min(kFrameHeaderBytes + header_.body_bytes, kDataAheadBytesMax);
}

std::span<iovec> FrameReceiver::want(size_t bytes_max) {
  TERRACE_CHECK(lane_ != FrameLane::paused && bytes_max > 0);
  wanted_.clear();
  if (state_ == State::body) {
    wanted_.push_back(
        {body_.data() + body_filled_, std::min(body_.size() - body_filled_, bytes_max)});
    return wanted_;
  }
  if (state_ == State::payload) {
    size_t room = bytes_max;
    for (size_t i = place_; i < places_.size(); ++i) {
      if (room == 0 || wanted_.size() == kPiecesPerReceiveMax) return wanted_;
      const size_t bytes = std::min(places_[i].iov_len, room);
      wanted_.push_back({places_[i].iov_base, bytes});
      room -= bytes;
      if (bytes < places_[i].iov_len) return wanted_;
    }
  }
  if (begin_ > 0) {
    std::memmove(ahead_.data(), ahead_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const size_t ahead = std::max(ahead_bytes(), end_ + kFrameHeaderBytes);
  if (ahead_.size() < ahead) ahead_.resize(ahead);
  wanted_.push_back({ahead_.data() + end_, ahead - end_});
  return wanted_;
}

Status FrameReceiver::received(size_t count) {
  if (state_ == State::body) {
    TERRACE_CHECK(count <= body_.size() - body_filled_);
    body_filled_ += count;
    return parse();
  }
  if (state_ == State::payload) {
    const size_t placed = std::min(count, payload_left_);
    take_payload(placed);
    count -= placed;
  }
  end_ += count;
  TERRACE_CHECK(end_ <= ahead_.size());
  return parse();
}

Status FrameReceiver::parse() {
  while (true) {
    switch (state_) {
      case State::header:
        if (lane_ == FrameLane::paused || end_ - begin_ < kFrameHeaderBytes) {
          if (lane_ == FrameLane::nothing && end_ > begin_) {
            return error(StatusCode::kInvalidArgument, "bytes before the session was agreed");
          }
          return ok_status();
        }
        TERRACE_RETURN_IF_ERROR(parse_header());
        break;
      case State::body:
        if (body_filled_ < body_.size()) return ok_status();
        TERRACE_RETURN_IF_ERROR(begin_frame(body_));
        break;
      case State::payload:
        copy_ahead_payload();
        if (payload_left_ > 0) return ok_status();
        TERRACE_RETURN_IF_ERROR(end_frame());
        break;
    }
  }
}

/// Takes the header; a body that is all here and needs no keeping is used where it lies.
Status FrameReceiver::parse_header() {
  TERRACE_ASSIGN_OR_RETURN(
      header_, decode_header(std::span(ahead_).subspan(begin_).first<kFrameHeaderBytes>()));
  TERRACE_RETURN_IF_ERROR(check_shape(header_, lane_));
  ++frame_number_;
  begin_ += kFrameHeaderBytes;
  const std::span<const std::byte> here =
      std::span(ahead_).subspan(begin_, std::min<size_t>(end_ - begin_, header_.body_bytes));
  if (here.size() == header_.body_bytes && header_.payload_bytes == 0) {
    TERRACE_RETURN_IF_ERROR(begin_frame(here));
    TERRACE_RETURN_IF_ERROR(sink_->frame_ends(header_, here));
    begin_ += here.size();
    state_ = State::header;
    return ok_status();
  }
  body_.resize(header_.body_bytes);
  if (!here.empty()) std::memcpy(body_.data(), here.data(), here.size());
  body_filled_ = here.size();
  begin_ += here.size();
  state_ = State::body;
  return ok_status();
}

Status FrameReceiver::begin_frame(std::span<const std::byte> body) {
  places_.clear();
  place_ = 0;
  payload_left_ = header_.payload_bytes;
  TERRACE_RETURN_IF_ERROR(sink_->frame_begins(header_, body, &places_));
  if (places_.empty()) drop_places(payload_left_);
  size_t total = 0;
  for (const iovec& place : places_) total += place.iov_len;
  TERRACE_CHECK(total == payload_left_);
  state_ = State::payload;
  return ok_status();
}

Status FrameReceiver::end_frame() {
  state_ = State::header;
  const Status status = sink_->frame_ends(header_, body_);
  if (body_.capacity() > kBodyKeptBytesMax) std::vector<std::byte>().swap(body_);
  return status;
}

void FrameReceiver::drop_places(size_t bytes) {
  while (bytes > 0) {
    const size_t piece = std::min(bytes, discard_.size());
    places_.push_back({discard_.data(), piece});
    bytes -= piece;
  }
}

void FrameReceiver::take_payload(size_t count) {
  payload_left_ -= count;
  while (count > 0) {
    iovec& place = places_[place_];
    const size_t bytes = std::min(count, place.iov_len);
    place.iov_base = static_cast<std::byte*>(place.iov_base) + bytes;
    place.iov_len -= bytes;
    count -= bytes;
    if (place.iov_len == 0) ++place_;
  }
}

/// Payload that came along with its header.
void FrameReceiver::copy_ahead_payload() {
  while (payload_left_ > 0 && begin_ < end_) {
    const iovec& place = places_[place_];
    const size_t bytes = std::min(end_ - begin_, place.iov_len);
    std::memcpy(place.iov_base, ahead_.data() + begin_, bytes);
    begin_ += bytes;
    take_payload(bytes);
  }
  if (begin_ == end_) begin_ = end_ = 0;
}

void FrameReceiver::discard_payload() {
  if (state_ != State::payload) return;
  places_.clear();
  place_ = 0;
  drop_places(payload_left_);
}
}  // namespace terrace
