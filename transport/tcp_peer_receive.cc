// What the frames of a peer do: the half of TcpPeer that runs on what came in. Shapes were checked
// by FrameReceiver; here every span and every answer is checked against what we know.
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "transport/tcp_peer.h"

namespace terrace {
namespace {

// An honest peer has at most kReadsOutstandingMax; it may hear of an answer before we see that its
// last byte left.
constexpr uint32_t kReadsServingMax = 2 * TcpPeer::kReadsOutstandingMax;

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}
}  // namespace

Status TcpPeer::still_open() const {
  return state_ == State::open ? ok_status() : Status(StatusCode::kUnavailable);
}

Status TcpPeer::frame_begins(TcpConnection* connection, const FrameHeader& header,
                             std::span<const std::byte> body, std::vector<iovec>* places) {
  Line* line = &lines_[connection->index()];
  switch (header.type) {
    case FrameType::hello_ok:
      return hello_answered(connection);
    case FrameType::message:
      return message_begins(header, body);
    case FrameType::write:
      return write_begins(line, header, body, places);
    case FrameType::read:
      return read_asked(line, header, body);
    case FrameType::read_data:
      return read_data_begins(line, header, places);
    case FrameType::read_error:
      return read_refused(line, header);
    default:
      break;
  }
  return broken("a frame out of place");
}

Status TcpPeer::frame_ends(TcpConnection* connection, const FrameHeader& header,
                           std::span<const std::byte> body) {
  Line* line = &lines_[connection->index()];
  if (header.type == FrameType::write) return write_ends(line, header, body);
  if (header.type == FrameType::read_data) return read_data_ends(line, header);
  return ok_status();
}

/// Nothing is delivered before all hellos were answered and the caller of connect() knows.
Status TcpPeer::hello_answered(TcpConnection* connection) {
  connection->set_lane(FrameLane::paused);
  if (++answered_ < lines_.size()) return ok_status();
  state_ = State::open;
  was_open_ = true;
  end_connect(ok_status());
  for (Line& line : lines_) {
    if (state_ != State::open) break;
    TcpConnection* each = line.connection.get();
    const FrameLane lane = each->index() == 0 ? FrameLane::messages : FrameLane::data;
    // This connection is in the middle of its own receive and goes on by itself.
    if (each == connection) {
      each->set_lane(lane);
    } else {
      each->receive(lane);
    }
  }
  return still_open();
}

Status TcpPeer::message_begins(const FrameHeader& header, std::span<const std::byte> body) {
  shared_->metrics.messages_in.add();
  shared_->handler->on_message(id_, {.kind = header.kind, .tag = header.tag, .body = body});
  return still_open();
}

IncomingWrite TcpPeer::incoming_write(const Line& line, const FrameHeader& header,
                                      std::span<const std::byte> body) const {
  return {.tag = header.tag,
          .immediate = header.immediate,
          .targets = line.incoming.targets,
          .body = body.subspan(header.kind * kRemoteSpanBytes),
          .bytes = header.payload_bytes,
          .run_crcs = {}};
}

Status TcpPeer::write_begins(Line* line, const FrameHeader& header, std::span<const std::byte> body,
                             std::vector<iovec>* places) {
  Incoming& incoming = line->incoming;
  TERRACE_CHECK(!incoming.pinned);
  incoming.targets.resize(header.kind);
  incoming.dropped = false;
  TERRACE_RETURN_IF_ERROR(decode_spans(body, incoming.targets, header.payload_bytes));
  const Status resolved = shared_->regions.resolve(incoming.targets, places);
  // A region that is gone: its owner quiesced the operation, and this frame was on its way.
  if (!resolved.ok() && resolved.code() != StatusCode::kNotFound) return resolved;
  if (resolved.ok()) {
    shared_->regions.pin(incoming.targets);
    incoming.pinned = true;
    shared_->crc_runs.clear();  // nobody's: the kernel copies
    const bool wanted = shared_->handler->accept_write(id_, incoming_write(*line, header, body),
                                                       &shared_->crc_runs);
    TERRACE_RETURN_IF_ERROR(still_open());
    if (!wanted) unpin(&incoming);
  }
  if (!incoming.pinned) {
    places->clear();
    incoming.dropped = true;
    shared_->metrics.writes_dropped.add();
  }
  incoming.type = FrameType::write;
  incoming.tag = header.tag;
  return ok_status();
}

Status TcpPeer::write_ends(Line* line, const FrameHeader& header, std::span<const std::byte> body) {
  Incoming& incoming = line->incoming;
  unpin(&incoming);
  incoming.type = FrameType::message;
  incoming.releasing = false;
  if (!std::exchange(incoming.dropped, false)) {
    shared_->handler->on_write(id_, incoming_write(*line, header, body));
  }
  return still_open();
}

void TcpPeer::unpin(Incoming* incoming) {
  if (std::exchange(incoming->pinned, false)) shared_->regions.unpin(incoming->targets);
}

Status TcpPeer::read_asked(Line* line, const FrameHeader& header, std::span<const std::byte> body) {
  if (++reads_serving_ > kReadsServingMax) {
    return error(StatusCode::kResourceExhausted, "the peer has too many reads outstanding");
  }
  spans_.resize(header.kind);
  TERRACE_RETURN_IF_ERROR(decode_spans(body, spans_, header.immediate));
  std::vector<iovec> payload;
  Status status = shared_->regions.resolve(spans_, &payload);
  if (status.code() == StatusCode::kOutOfRange) return status;
  if (status.ok()) {
    shared_->regions.pin(spans_);
    std::vector<RemoteSpan> pinned(spans_.begin(), spans_.end());
    status = shared_->handler->accept_read(id_, header.tag, pinned);
    if (status.ok() && state_ == State::open) {
      OutFrame frame = make_frame(
          {.type = FrameType::read_data, .tag = header.tag, .payload_bytes = header.immediate}, {},
          {});
      frame.payload = std::move(payload);
      frame.payload_bytes = header.immediate;
      frame.pinned = std::move(pinned);
      line->connection->push(std::move(frame));
      schedule_pump();
      return ok_status();
    }
    shared_->regions.unpin(pinned);
    TERRACE_RETURN_IF_ERROR(still_open());
  }
  line->connection->push(make_frame({.type = FrameType::read_error,
                                     .tag = header.tag,
                                     .immediate = static_cast<uint32_t>(status.code())},
                                    {}, {}));
  schedule_pump();
  return ok_status();
}

Status TcpPeer::read_data_begins(Line* line, const FrameHeader& header,
                                 std::vector<iovec>* places) {
  if (line->reads.empty()) return broken("an answer to no read");
  const PendingRead& read = line->reads.front();
  if (read.tag != header.tag || header.payload_bytes > read.bytes - read.received) {
    return broken("an answer to another read, or a longer one");
  }
  line->incoming.type = FrameType::read_data;
  line->incoming.tag = header.tag;
  line->incoming.dropped = read.op == nullptr || read.cancel;
  if (line->incoming.dropped) return ok_status();
  size_t skip = read.received;
  size_t room = header.payload_bytes;
  for (const iovec& piece : read.into) {
    const size_t skipped = std::min(skip, piece.iov_len);
    skip -= skipped;
    const size_t bytes = std::min(piece.iov_len - skipped, room);
    if (bytes == 0) continue;
    places->push_back({static_cast<std::byte*>(piece.iov_base) + skipped, bytes});
    room -= bytes;
  }
  return ok_status();
}

Status TcpPeer::read_data_ends(Line* line, const FrameHeader& header) {
  line->incoming.type = FrameType::message;
  line->incoming.dropped = false;
  PendingRead& read = line->reads.front();
  read.received += header.payload_bytes;
  if (read.received < read.bytes) return ok_status();
  Op* const op = read.op;
  line->reads.pop_front();
  --reads_outstanding_;
  if (op != nullptr) op->done(ok_status());
  return still_open();
}

Status TcpPeer::read_refused(Line* line, const FrameHeader& header) {
  if (line->reads.empty() || line->reads.front().tag != header.tag) {
    return broken("an answer to no read");
  }
  Op* const op = line->reads.front().op;
  line->reads.pop_front();
  --reads_outstanding_;
  const StatusCode code = status_code_of(static_cast<int32_t>(header.immediate));
  if (op != nullptr) op->done(error(code, "the peer refused the read"));
  return still_open();
}
}  // namespace terrace
