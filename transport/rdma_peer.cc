#include "transport/rdma_peer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr size_t kBareFrames = 4;  // acknowledgements and goodbyes under way
// Steps that an honest peer, which reads, leaves waiting: a window of requests, and of grants.
constexpr size_t kStepBytesMax = 16 * kMiB;
constexpr uint64_t kTellAfter = kRdmaFrameWindow / 2;

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}

const Status& not_open() {
  static const Status status = error(StatusCode::kUnavailable, "the peer is not connected");
  return status;
}
}  // namespace

RdmaPeer::RdmaPeer(PeerId id, RdmaShared* shared, Host* host, const Secret& secret, bool accepted)
    : id_(id),
      shared_(shared),
      host_(host),
      secret_(secret),
      accepted_(accepted),
      transfers_(shared, this),
      grants_(shared, this),
      deadline_([this] {
        if (state_ == State::closing) {
          goodbye_over_ = true;
          return host_->schedule_finish();
        }
        close(CloseReason::handshake,
              error(StatusCode::kDeadlineExceeded, "no session by the deadline"));
      }),
      release_timer_([this] { release_fired(); }) {
  shared_->metrics.peers.add();
}

RdmaPeer::~RdmaPeer() {
  TERRACE_CHECK(state_ == State::finished);
  shared_->metrics.peers.sub();
}

Status RdmaPeer::connect(const RdmaEndpoint& remote, Nanos deadline, Op* op) {
  while (paths_.size() > remote.paths.size()) {
    drop_path(paths_.size() - 1);
    paths_.pop_back();
  }
  const Nanos limit = shared_->options.dead_peer_timeout;
  for (size_t i = 0; i < paths_.size(); ++i) {
    Path& path = paths_[i];
    path.remote = remote.paths[i];
    TERRACE_RETURN_IF_ERROR(path.message->connect(path.remote, path.remote.message_qpn,
                                                  path.remote.message_psn, limit));
    TERRACE_RETURN_IF_ERROR(
        path.data->connect(path.remote, path.remote.data_qpn, path.remote.data_psn, limit));
    path.data_connected = true;
  }
  connect_op_ = op;
  state_ = State::greeting;
  shared_->loop->arm(&deadline_, deadline);
  if (!accepted_) {
    out_.push_step({.type = RdmaRecordType::hello}, secret_);
    schedule_pump();
  }
  return ok_status();
}

void RdmaPeer::end_connect(Status result) {
  if (Op* op = std::exchange(connect_op_, nullptr)) op->done(std::move(result));
}

Status RdmaPeer::send_message(const Message& message) {
  if (state_ != State::open) return not_open();
  if (message.body.size() > kBodyBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "message of " + std::to_string(message.body.size()) + " bytes");
  }
  if (out_.messages() >= shared_->options.message_queue_max ||
      out_.message_bytes() >= shared_->options.send_queue_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer does not read its messages");
  }
  out_.push_message({.type = RdmaRecordType::message, .count = message.kind, .tag = message.tag},
                    message.body);
  shared_->metrics.messages_out.add();
  schedule_pump();
  return ok_status();
}

Status RdmaPeer::write(const Transport::Write& write, Op* op) {
  if (state_ != State::open) return not_open();
  const bool empty =
      write.targets.empty() && std::all_of(write.from.begin(), write.from.end(),
                                           [](const iovec& piece) { return piece.iov_len == 0; });
  if (!empty) return transfers_.write(write, op);
  if (write.body.size() > kBodyBytesMax) {
    return error(StatusCode::kInvalidArgument, "the body of a write is too long");
  }
  if (out_.messages() >= shared_->options.message_queue_max ||
      out_.message_bytes() >= shared_->options.send_queue_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer's send queue is full");
  }
  out_.push_message({.type = RdmaRecordType::signal, .tag = write.tag, .argument = write.immediate},
                    write.body);
  schedule_pump();
  shared_->loop->defer(op, ok_status());
  return ok_status();
}

Status RdmaPeer::read(const Transport::Read& read, Op* op) {
  return state_ == State::open ? transfers_.read(read, op) : not_open();
}

void RdmaPeer::quiesce(uint64_t tag, Op* op) {
  grants_.quiesce(tag, op);
}

void RdmaPeer::send_step(RdmaRecord record, std::span<const std::byte> body,
                         std::span<const std::byte> body_rest) {
  if (state_ != State::open) return;
  record.unfinished = transfers_.unfinished();
  if (out_.step_bytes() > kStepBytesMax) {
    return close(CloseReason::full,
                 error(StatusCode::kResourceExhausted, "the peer asks and does not read"));
  }
  out_.push_step(record, body, body_rest);
  schedule_pump();
}

void RdmaPeer::pump() {
  if (state_ == State::open && transfers_.pump()) schedule_pump();
  if (state_ == State::open || state_ == State::greeting) pump_frames();
}

RdmaPeer::Path* RdmaPeer::message_path() {
  const auto it = std::find_if(paths_.begin(), paths_.end(), [](const Path& p) { return p.alive; });
  return it == paths_.end() ? nullptr : &*it;
}

void RdmaPeer::pump_frames() {
  while (sent_ - acknowledged_ < kRdmaFrameWindow && !out_.empty()) {
    Path* path = message_path();
    if (path == nullptr || path->message->room() < 2) return;
    const size_t index = (sent_ + 1) % kRdmaFrameWindow;
    frame_bytes_[index] =
        static_cast<uint32_t>(out_.fill(frame_at(index).subspan(kRdmaFrameHeaderBytes)));
    if (!post_frame(++sent_)) return;
  }
  if (out_.empty() && transfers_.asks_more()) schedule_pump();
  if (received_ - told_ < kTellAfter) return;
  if (Path* path = message_path(); path != nullptr && path->message->room() >= 2) {
    (void)post_bare(path, false);
  }
}

std::span<std::byte> RdmaPeer::frame_at(size_t index) {
  return frames_.span().subspan(index * kRdmaFrameBytes, kRdmaFrameBytes);
}

bool RdmaPeer::post_frame(uint64_t sequence) {
  const size_t index = sequence % kRdmaFrameWindow;
  const std::span<std::byte> frame =
      frame_at(index).first(kRdmaFrameHeaderBytes + frame_bytes_[index]);
  encode(
      RdmaFrameHeader{
          .bytes = frame_bytes_[index], .sequence = sequence, .acknowledged = received_},
      frame.first<kRdmaFrameHeaderBytes>());
  told_ = received_;
  return post_bytes(message_path(), frame, false);
}

bool RdmaPeer::post_bare(Path* path, bool goodbye) {
  const std::span<std::byte> frame =
      frame_at(kRdmaFrameWindow + bare_++ % kBareFrames).first(kRdmaFrameHeaderBytes);
  encode(RdmaFrameHeader{.goodbye = goodbye, .acknowledged = received_},
         frame.first<kRdmaFrameHeaderBytes>());
  told_ = received_;
  return post_bytes(path, frame, goodbye);
}

/// False: the path was lost over it, and what was not acknowledged is on its way by another.
bool RdmaPeer::post_bytes(Path* path, std::span<std::byte> frame, bool tell) {
  ibv_sge place{.addr = reinterpret_cast<uint64_t>(frame.data()),
                .length = static_cast<uint32_t>(frame.size()),
                .lkey = path->frames.get()->lkey};
  ibv_send_wr request{};
  request.sg_list = &place;
  request.num_sge = 1;
  request.opcode = IBV_WR_SEND;
  if (frame.size() <= path->message->inline_max()) request.send_flags = IBV_SEND_INLINE;
  const Status posted = path->message->post(&request, tell);
  shared_->metrics.frames_out.add();
  if (posted.ok()) return true;
  path_lost(static_cast<size_t>(path - paths_.data()), posted);
  return false;
}

void RdmaPeer::frame_came(std::span<const std::byte> frame) {
  if (state_ != State::greeting && state_ != State::open) return;
  shared_->metrics.frames_in.add();
  heard_ = true;
  const StatusOr<RdmaFrameHeader> header = decode_rdma_frame(frame);
  if (!header.ok()) return close(CloseReason::bad_frame, header.status());
  if (header->goodbye) {
    return close(CloseReason::peer_closed,
                 error(StatusCode::kUnavailable, "the peer closed the session"), false);
  }
  if (header->acknowledged > sent_) {
    return close(CloseReason::bad_frame, broken("an acknowledgement of what was not sent"));
  }
  if (header->acknowledged > acknowledged_) {
    acknowledged_ = header->acknowledged;
    if (!out_.empty()) schedule_pump();
  }
  if (header->sequence == 0 || header->sequence <= received_) return;
  if (header->sequence != received_ + 1) {
    return close(CloseReason::bad_frame, broken("a frame is missing"));
  }
  ++received_;
  const Status fed = in_.feed(frame.subspan(kRdmaFrameHeaderBytes), this);
  if (!fed.ok()) return close(CloseReason::bad_frame, fed);
  if (received_ - told_ >= kTellAfter) schedule_pump();
}

Status RdmaPeer::record_came(const RdmaRecord& record, std::span<const std::byte> body) {
  if (state_ == State::greeting) return greeted(record, body);
  if (state_ != State::open) return StatusCode::kUnavailable;
  TERRACE_RETURN_IF_ERROR(grants_.unfinished(record.unfinished));
  TERRACE_RETURN_IF_ERROR(transfer_record(record, body));
  return state_ == State::open ? ok_status() : Status(StatusCode::kUnavailable);
}

/// The side that accepted is told of the peer by its hello; the side that called by the answer.
Status RdmaPeer::greeted(const RdmaRecord& record, std::span<const std::byte> body) {
  const auto wanted = accepted_ ? RdmaRecordType::hello : RdmaRecordType::hello_ok;
  if (record.type != wanted) return broken("a record before the greeting");
  if (accepted_ && !std::equal(body.begin(), body.end(), secret_.begin(), secret_.end())) {
    return broken("the secret of another session");
  }
  shared_->loop->disarm(&deadline_);
  state_ = State::open;
  was_open_ = true;
  if (accepted_) send_step({.type = RdmaRecordType::hello_ok}, {}, {});
  for (size_t path = 0; path < paths_.size(); ++path) {
    if (!paths_[path].alive) announce_loss(path);
  }
  if (accepted_) {
    shared_->handler->on_peer(id_, secret_);
  } else {
    end_connect(ok_status());
  }
  return state_ == State::open ? ok_status() : Status(StatusCode::kUnavailable);
}

Status RdmaPeer::transfer_record(const RdmaRecord& record, std::span<const std::byte> body) {
  switch (record.type) {
    case RdmaRecordType::message:
      shared_->metrics.messages_in.add();
      shared_->handler->on_message(id_, {.kind = record.count, .tag = record.tag, .body = body});
      return ok_status();
    case RdmaRecordType::signal: {
      const IncomingWrite write{.tag = record.tag,
                                .immediate = record.argument,
                                .targets = {},
                                .body = body,
                                .bytes = 0,
                                .run_crcs = {}};
      std::vector<uint32_t> runs;
      const bool wanted = shared_->handler->accept_write(id_, write, &runs);
      if (wanted && state_ == State::open) shared_->handler->on_write(id_, write);
      return ok_status();
    }
    case RdmaRecordType::write:
    case RdmaRecordType::read:
      return grants_.asked(record, body);
    case RdmaRecordType::finished:
      return grants_.finished(record.id);
    case RdmaRecordType::abandoned:
      grants_.abandoned(record.id);
      return ok_status();
    case RdmaRecordType::grant:
      return transfers_.granted(record, body);
    case RdmaRecordType::refused:
      return transfers_.refused(record);
    case RdmaRecordType::landed:
      return transfers_.landed(record.id);
    case RdmaRecordType::revoke:
      transfers_.revoked(record.id);
      return ok_status();
    case RdmaRecordType::lane:
      return lane_record(record);
    case RdmaRecordType::hello:
    case RdmaRecordType::hello_ok:
      break;
  }
  return broken("a second greeting");
}

void RdmaPeer::close(CloseReason reason, Status why, bool tell) {
  if (state_ == State::closing || state_ == State::finished) return;
  const bool connected = state_ != State::offered;
  state_ = State::closing;
  why_ = std::move(why);
  shared_->metrics.closes[static_cast<size_t>(reason)].add();
  shared_->loop->disarm(&release_timer_);
  shared_->loop->disarm(&deadline_);
  goodbye_over_ = !tell || !connected;
  for (Path& path : paths_) {
    if (goodbye_over_ || !path.alive || path.message->room() == 0) continue;
    (void)post_bare(&path, true);
  }
  if (!goodbye_over_) {
    shared_->loop->arm(&deadline_, shared_->loop->now() + shared_->options.goodbye_timeout);
  }
  host_->schedule_finish();
}

bool RdmaPeer::drained() const {
  if (state_ != State::closing) return false;
  return goodbye_over_ || std::all_of(paths_.begin(), paths_.end(), [](const Path& path) {
           return !path.alive || path.message->idle();
         });
}

void RdmaPeer::finish() {
  TERRACE_CHECK(drained());
  state_ = State::finished;
  shared_->loop->disarm(&deadline_);
  shared_->loop->disarm(&release_timer_);
  for (size_t path = 0; path < paths_.size(); ++path) drop_path(path);
  const Status gone = error(StatusCode::kUnavailable, "the peer is gone: " + why_.message());
  out_.clear();
  grants_.end();
  transfers_.fail_all(gone);
  if (was_open_) return shared_->handler->on_peer_closed(id_, why_);
  end_connect(why_.code() == StatusCode::kDeadlineExceeded ? why_ : gone);
}

void RdmaPeer::arm_release(Nanos at) {
  if (state_ == State::open && !release_timer_.armed()) shared_->loop->arm(&release_timer_, at);
}

void RdmaPeer::release_fired() {
  const Nanos now = shared_->loop->now();
  Nanos next = transfers_.release_due(now);
  if (state_ != State::open) return;
  next = std::min(next, grants_.release_due(now));
  if (next != Nanos::max()) arm_release(next);
}
}  // namespace terrace
