#include "transport/tcp_peer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "transport/transfer_check.h"

namespace terrace {
namespace {

const Status& not_open() {
  static const Status status = error(StatusCode::kUnavailable, "the peer is not connected");
  return status;
}
}  // namespace

TcpPeer::TcpPeer(PeerId id, TcpShared* shared, Host* host)
    : id_(id), shared_(shared), host_(host), deadline_([this] {
        close(CloseReason::handshake,
              error(StatusCode::kDeadlineExceeded, "no session by the deadline"));
      }) {
  shared_->metrics.peers.add();
}

TcpPeer::~TcpPeer() {
  TERRACE_CHECK(state_ == State::finished);
  shared_->metrics.peers.sub();
}

Status TcpPeer::connect(const SocketAddress& address, const std::array<std::byte, 16>& secret,
                        uint32_t connections, Nanos deadline, Op* op) {
  std::vector<Fd> sockets;
  for (uint32_t i = 0; i < connections; ++i) {
    StatusOr<Fd> fd = make_tcp_socket(address);
    if (!fd.ok()) {
      state_ = State::finished;
      return std::move(fd).status();
    }
    sockets.push_back(*std::move(fd));
  }
  secret_ = secret;
  connect_op_ = op;
  lines_.resize(connections);
  for (uint32_t i = 0; i < connections; ++i) {
    lines_[i].connection = std::make_unique<TcpConnection>(shared_, std::move(sockets[i]), i, this);
    lines_[i].connection->connect(address);
  }
  shared_->loop->arm(&deadline_, deadline);
  return ok_status();
}

void TcpPeer::connected(TcpConnection* connection) {
  const Hello hello{.secret = secret_,
                    .connection = connection->index(),
                    .connections = static_cast<uint32_t>(lines_.size())};
  connection->push(
      make_frame({.type = FrameType::hello, .body_bytes = kHelloBytes}, {}, encode(hello)));
  connection->pump();
  connection->receive(Lane::hello_ok);
}

void TcpPeer::open(Connections connections) {
  state_ = State::open;
  was_open_ = true;
  lines_.resize(connections.size());
  for (size_t i = 0; i < connections.size(); ++i) {
    lines_[i].connection = std::move(connections[i]);
    TcpConnection& connection = *lines_[i].connection;
    connection.set_owner(this);
    connection.set_lane(i == 0 ? Lane::messages : Lane::data);
    connection.push(make_frame({.type = FrameType::hello_ok}, {}, {}));
  }
  schedule_pump();
}

void TcpPeer::end_connect(Status result) {
  shared_->loop->disarm(&deadline_);
  if (Op* op = std::exchange(connect_op_, nullptr)) op->done(std::move(result));
}

Status TcpPeer::send_message(const Message& message) {
  if (state_ != State::open) return not_open();
  if (message.body.size() > kBodyBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "message of " + std::to_string(message.body.size()) + " bytes");
  }
  TcpConnection& connection = *lines_[0].connection;
  if (connection.queue().frames() >= shared_->options.message_queue_max ||
      connection.queue().bytes() >= shared_->options.send_queue_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer does not read its messages");
  }
  connection.push(make_frame({.type = FrameType::message,
                              .kind = message.kind,
                              .tag = message.tag,
                              .body_bytes = static_cast<uint32_t>(message.body.size())},
                             {}, message.body));
  if (message.urgent) shared_->urgent_until = shared_->loop->now() + shared_->options.urgent_time;
  shared_->metrics.messages_out.add();
  schedule_pump();
  return ok_status();
}

Status TcpPeer::write(const Transport::Write& write, Op* op) {
  if (state_ != State::open) return not_open();
  std::vector<iovec> payload;
  const size_t bytes = copy_pieces(write.from, &payload);
  TERRACE_RETURN_IF_ERROR(check_transfer(write.targets, payload.size(), bytes));
  const size_t table = write.targets.size() * kRemoteSpanBytes;
  if (write.body.size() > kBodyBytesMax - table) {
    return error(StatusCode::kInvalidArgument, "the body of a write is too long");
  }
  const uint64_t queued = queued_bytes();
  if (queued > 0 && queued + bytes > shared_->options.send_queue_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer's send queue is full");
  }
  OutFrame frame = make_frame({.type = FrameType::write,
                               .kind = static_cast<uint16_t>(write.targets.size()),
                               .tag = write.tag,
                               .body_bytes = static_cast<uint32_t>(table + write.body.size()),
                               .payload_bytes = static_cast<uint32_t>(bytes),
                               .immediate = write.immediate},
                              write.targets, write.body);
  frame.payload = std::move(payload);
  frame.payload_bytes = bytes;
  frame.op = op;
  shortest_data_line()->connection->push(std::move(frame));
  schedule_pump();
  return ok_status();
}

Status TcpPeer::read(const Transport::Read& read, Op* op) {
  if (state_ != State::open) return not_open();
  PendingRead pending;
  pending.op = op;
  pending.tag = read.tag;
  pending.bytes = copy_pieces(read.into, &pending.into);
  TERRACE_RETURN_IF_ERROR(check_transfer(read.sources, pending.into.size(), pending.bytes));
  if (pending.bytes == 0) return error(StatusCode::kInvalidArgument, "a read of no bytes");
  if (reads_outstanding_ >= kReadsOutstandingMax) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(kReadsOutstandingMax) + " reads are outstanding");
  }
  Line* line = shortest_data_line();
  line->connection->push(
      make_frame({.type = FrameType::read,
                  .kind = static_cast<uint16_t>(read.sources.size()),
                  .tag = read.tag,
                  .body_bytes = static_cast<uint32_t>(read.sources.size() * kRemoteSpanBytes),
                  .immediate = static_cast<uint32_t>(pending.bytes)},
                 read.sources, {}));
  line->reads.push_back(std::move(pending));
  ++reads_outstanding_;
  schedule_pump();
  return ok_status();
}

/// Of equally long queues the one with the fewest reads, whose answers will come in there.
TcpPeer::Line* TcpPeer::shortest_data_line() {
  return &*std::min_element(lines_.begin() + 1, lines_.end(), [](const Line& a, const Line& b) {
    const uint64_t a_bytes = a.connection->queue().bytes();
    const uint64_t b_bytes = b.connection->queue().bytes();
    return a_bytes != b_bytes ? a_bytes < b_bytes : a.reads.size() < b.reads.size();
  });
}

bool TcpPeer::cancel(Op* op) {
  for (Line& line : lines_) {
    for (PendingRead& read : line.reads) {
      if (read.op != op) continue;
      const bool coming = &read == &line.reads.front() &&
                          line.incoming.type == FrameType::read_data && !line.incoming.dropped;
      if (coming) {
        read.cancel = true;
        if (!line.connection->release_payload()) return true;
        line.incoming.dropped = true;
      }
      read.op = nullptr;
      read.into.clear();
      shared_->loop->defer(op, StatusCode::kCancelled);
      return true;
    }
    if (line.connection->queue().holds(op)) {
      in_call_ = true;
      line.connection->stop_frames([op](const OutFrame& frame) { return frame.op == op; });
      in_call_ = false;
      return true;
    }
  }
  return false;
}

void TcpPeer::quiesce(uint64_t tag, Op* op) {
  for (Line& line : lines_) {
    Incoming& incoming = line.incoming;
    if (incoming.type == FrameType::write && incoming.tag == tag && !incoming.dropped) {
      incoming.dropped = true;
      incoming.releasing = !line.connection->release_payload();
      if (!incoming.releasing) unpin(&incoming);
    }
    in_call_ = true;
    line.connection->stop_frames([tag](const OutFrame& frame) {
      return frame.type == FrameType::read_data && frame.tag == tag;
    });
    in_call_ = false;
  }
  if (touches(tag)) {
    quiesces_.push_back({.tag = tag, .op = op});
  } else {
    shared_->loop->defer(op, ok_status());
  }
}

bool TcpPeer::touches(uint64_t tag) const {
  return std::any_of(lines_.begin(), lines_.end(), [tag](const Line& line) {
    return (line.incoming.releasing && line.incoming.tag == tag) ||
           line.connection->queue().stopping([tag](const OutFrame& frame) {
             return frame.type == FrameType::read_data && frame.tag == tag;
           });
  });
}

void TcpPeer::settle_quiesces() {
  std::erase_if(quiesces_, [this](const Quiesce& quiesce) {
    if (touches(quiesce.tag)) return false;
    shared_->loop->defer(quiesce.op, ok_status());
    return true;
  });
}

void TcpPeer::payload_released(TcpConnection* connection) {
  Line& line = lines_[connection->index()];
  Incoming& incoming = line.incoming;
  if (incoming.releasing) {
    incoming.releasing = false;
    unpin(&incoming);
  }
  if (!line.reads.empty() && line.reads.front().cancel) {
    PendingRead& read = line.reads.front();
    read.cancel = false;
    read.into.clear();
    incoming.dropped = true;
    if (Op* op = std::exchange(read.op, nullptr)) shared_->loop->defer(op, StatusCode::kCancelled);
  }
  settle_quiesces();
}

void TcpPeer::frames_ended(std::span<EndedFrame> ended) {
  for (EndedFrame& frame : ended) {
    shared_->regions.unpin(frame.pinned);
    if (frame.answered_read) --reads_serving_;
    if (frame.op == nullptr) continue;
    if (in_call_) {
      shared_->loop->defer(frame.op, std::move(frame.result));
    } else {
      frame.op->done(std::move(frame.result));
    }
  }
  settle_quiesces();
}

uint64_t TcpPeer::queued_bytes() const {
  uint64_t bytes = 0;
  for (const Line& line : lines_) bytes += line.connection->queue().write_bytes();
  return bytes;
}

bool TcpPeer::borrows(std::span<const std::byte> memory) const {
  return std::any_of(lines_.begin(), lines_.end(), [memory](const Line& line) {
    if (line.connection->queue().borrows(memory)) return true;
    return std::any_of(line.reads.begin(), line.reads.end(),
                       [memory](const PendingRead& read) { return overlaps(read.into, memory); });
  });
}

void TcpPeer::schedule_pump() {
  host_->schedule_pump(this);
}

void TcpPeer::pump_messages() {
  lines_[0].connection->pump();
}

void TcpPeer::pump_data() {
  for (size_t i = 1; i < lines_.size(); ++i) lines_[i].connection->pump();
}

void TcpPeer::failed(TcpConnection* connection, CloseReason reason, Status why) {
  close(reason, error(why.code(),
                      "connection " + std::to_string(connection->index()) + ": " + why.message()));
}

void TcpPeer::close(CloseReason reason, Status why) {
  if (state_ == State::closing || state_ == State::finished) return;
  state_ = State::closing;
  why_ = std::move(why);
  shared_->loop->disarm(&deadline_);
  shared_->metrics.closes[static_cast<size_t>(reason)].add();
  for (Line& line : lines_) line.connection->begin_close();
  if (drained()) host_->schedule_finish();
}

bool TcpPeer::drained() const {
  return state_ == State::closing && std::all_of(lines_.begin(), lines_.end(), [](const Line& l) {
           return l.connection->idle();
         });
}

void TcpPeer::closed(TcpConnection*) {
  if (drained()) host_->schedule_finish();
}

void TcpPeer::finish() {
  TERRACE_CHECK(drained());
  state_ = State::finished;
  const Status gone = error(StatusCode::kUnavailable, "the peer is gone: " + why_.message());
  std::vector<EndedFrame> ended;
  for (Line& line : lines_) {
    line.connection->clear_queue(gone, &ended);
    unpin(&line.incoming);
  }
  for (EndedFrame& frame : ended) {
    shared_->regions.unpin(frame.pinned);
    if (frame.op != nullptr) frame.op->done(gone);
  }
  for (Line& line : lines_) {
    for (PendingRead& read : std::exchange(line.reads, {})) {
      if (read.op != nullptr) read.op->done(gone);
    }
  }
  for (const Quiesce& quiesce : std::exchange(quiesces_, {})) quiesce.op->done(ok_status());
  if (was_open_) return shared_->handler->on_peer_closed(id_, why_);
  const bool late = why_.code() == StatusCode::kDeadlineExceeded;
  end_connect(late ? why_ : gone);
}

void TcpPeer::tick(Nanos interval) {
  if (state_ == State::closing || state_ == State::finished) return;
  for (Line& line : lines_) {
    const TcpConnection::Stall stall = line.connection->tick();
    if (stall.send_ticks * interval > shared_->options.send_stall_timeout) {
      return close(CloseReason::stalled,
                   error(StatusCode::kUnavailable, "the peer stopped reading"));
    }
    if (stall.receive_ticks * interval > shared_->options.receive_stall_timeout) {
      return close(CloseReason::stalled,
                   error(StatusCode::kUnavailable, "the peer stopped in the middle of a frame"));
    }
  }
}
}  // namespace terrace
