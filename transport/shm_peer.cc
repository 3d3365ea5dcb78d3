#include "transport/shm_peer.h"

#include <algorithm>
#include <string>
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

FrameHeader header_of(FrameType type, uint64_t tag, size_t body_bytes, uint32_t immediate = 0) {
  return {.type = type,
          .tag = tag,
          .body_bytes = static_cast<uint32_t>(body_bytes),
          .immediate = immediate};
}
}  // namespace

ShmPeer::ShmPeer(PeerId id, ShmShared* shared, Host* host) : id_(id), shared_(shared), host_(host) {
  shared_->metrics.peers.add();
}

void ShmPeer::expire() {
  close(CloseReason::handshake, error(StatusCode::kDeadlineExceeded, "no session by the deadline"));
}

ShmPeer::~ShmPeer() {
  TERRACE_CHECK(state_ == State::finished);
  shared_->metrics.peers.sub();
}

Status ShmPeer::connect(const SocketAddress& address, uid_t node_user,
                        const std::array<std::byte, 16>& secret, Nanos deadline, Op* op) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) {
    state_ = State::finished;
    return error(StatusCode::kResourceExhausted, errno_status(errno, "unix socket").message());
  }
  node_user_ = node_user;
  secret_ = secret;
  connect_op_ = op;
  link_ = std::make_unique<ShmLink>(shared_->loop, std::move(socket), true, this);
  link_->connect(address);
  shared_->loop->arm(&deadline_, deadline);
  return ok_status();
}

void ShmPeer::connected(ShmLink* link) {
  const StatusOr<uid_t> user = link->peer_user();
  if (!user.ok() || *user != node_user_) {
    return close(CloseReason::handshake,
                 error(StatusCode::kPermissionDenied,
                       "it is not the node's user that listens on the socket it named"));
  }
  const Hello hello{.secret = secret_, .connection = 0, .connections = 1};
  link->push(header_of(FrameType::hello, 0, kHelloBytes), encode(hello));
  link->flush();
  link->receive(FrameLane::hello_ok);
}

Status ShmPeer::map_file(Fd file, const ShmFileFacts& facts, bool writable, ShmMapping* into) {
  if (!file) return error(StatusCode::kInvalidArgument, "a descriptor is missing");
  TERRACE_ASSIGN_OR_RETURN(*into, ShmMapping::map(file, facts, writable));
  count_area(facts.bytes);
  return ok_status();
}

Status ShmPeer::open(std::unique_ptr<ShmLink> link) {
  link_ = std::move(link);
  link_->set_owner(this);
  state_ = State::open;
  constexpr ShmFileFacts kFacts{0, ShmArea::kBytes};
  TERRACE_ASSIGN_OR_RETURN(Fd ours, make_memory_file("terrace-from-node", kFacts.bytes));
  TERRACE_ASSIGN_OR_RETURN(Fd theirs, make_memory_file("terrace-to-node", kFacts.bytes));
  TERRACE_ASSIGN_OR_RETURN(Fd ours_read_only, reopen_read_only(ours));
  ShmMapping mapping;
  TERRACE_RETURN_IF_ERROR(map_file(std::move(ours), kFacts, true, &mapping));
  area_.adopt(std::move(mapping));
  std::vector<Fd> files;
  files.push_back(std::move(ours_read_only));
  StatusOr<ShmMapping> peer_area = ShmMapping::map(theirs, kFacts, false);
  TERRACE_RETURN_IF_ERROR(peer_area.status());
  peer_area_ = std::move(*peer_area);
  count_area(kFacts.bytes);
  files.push_back(std::move(theirs));
  link_->push(header_of(FrameType::hello_ok, 0, 0), {}, std::move(files));
  was_open_ = true;
  schedule_work();
  return ok_status();
}

void ShmPeer::end_connect(Status result) {
  shared_->loop->disarm(&deadline_);
  if (Op* op = std::exchange(connect_op_, nullptr)) op->done(std::move(result));
}

Status ShmPeer::send_message(const Message& message) {
  if (state_ != State::open) return not_open();
  if (message.body.size() > kBodyBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "message of " + std::to_string(message.body.size()) + " bytes");
  }
  if (link_->queued_bytes() >= shared_->options.message_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer does not read its messages");
  }
  FrameHeader header = header_of(FrameType::message, message.tag, message.body.size());
  header.kind = message.kind;
  link_->push(header, message.body);
  if (message.urgent) shared_->urgent_until = shared_->loop->now() + shared_->options.urgent_time;
  shared_->metrics.messages_out.add();
  schedule_work();
  return ok_status();
}

Status ShmPeer::write(const Transport::Write& write, Op* op) {
  if (state_ != State::open) return not_open();
  Waiting next{.tag = write.tag, .immediate = write.immediate, .op = op};
  next.bytes = copy_pieces(write.from, &next.from);
  TERRACE_RETURN_IF_ERROR(check_transfer(write.targets, next.from.size(), next.bytes));
  if (write.body.size() > kBodyBytesMax / 2) {
    return error(StatusCode::kInvalidArgument, "the body of a write is too long");
  }
  const uint64_t queued = queued_bytes();
  if (queued > 0 && queued + next.bytes > shared_->options.send_queue_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer's send queue is full");
  }
  next.spans.assign(write.targets.begin(), write.targets.end());
  next.body.assign(write.body.begin(), write.body.end());
  waiting_bytes_ += next.bytes;
  waiting_.push_back(std::move(next));
  schedule_work();
  return ok_status();
}

Status ShmPeer::read(const Transport::Read& read, Op* op) {
  if (state_ != State::open) return not_open();
  PendingRead pending{.op = op};
  pending.bytes = copy_pieces(read.into, &pending.into);
  TERRACE_RETURN_IF_ERROR(check_transfer(read.sources, pending.into.size(), pending.bytes));
  if (pending.bytes == 0) return error(StatusCode::kInvalidArgument, "a read of no bytes");
  if (reads_.size() >= kReadsOutstandingMax) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(kReadsOutstandingMax) + " reads are outstanding");
  }
  ShmTransfer asked{.ref = next_ref_++, .bytes = static_cast<uint32_t>(pending.bytes)};
  asked.spans.assign(read.sources.begin(), read.sources.end());
  const std::vector<std::byte> body = encode(asked);
  link_->push(header_of(FrameType::shm_read, read.tag, body.size()), body);
  reads_.emplace(asked.ref, std::move(pending));
  schedule_work();
  return ok_status();
}

std::optional<std::vector<ShmPiece>> ShmPeer::lend(std::span<const iovec> memory) {
  if (shared_->exporter == nullptr || state_ != State::open) return std::nullopt;
  std::vector<ShmPiece> pieces;
  for (const iovec& piece : memory) {
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(piece.iov_base),
                                           piece.iov_len);
    const std::optional<ShmPiece> place = shared_->exporter->locate(id_, bytes);
    if (!place.has_value() || pieces.size() == kShmPiecesMax) return std::nullopt;
    if (!files_lent_.contains(place->file)) {
      if (files_lent_.size() >= kFilesMax) return std::nullopt;
      StatusOr<ShmExporter::File> file = shared_->exporter->open(place->file);
      if (!file.ok()) return std::nullopt;
      std::vector<Fd> descriptor;
      descriptor.push_back(std::move(file->descriptor));
      link_->push(header_of(FrameType::shm_map, place->file, kShmFileFactsBytes),
                  encode(file->facts), std::move(descriptor));
      files_lent_.insert(place->file);
      shared_->metrics.files_shared.add();
      schedule_work();
    }
    pieces.push_back(*place);
  }
  return pieces;
}

void ShmPeer::retract(uint64_t file) {
  if (state_ != State::open || files_lent_.erase(file) == 0) return;
  link_->push(header_of(FrameType::shm_unmap, file, 0), {});
  schedule_work();
}

/// Tells the peer of what waits first, where it lies or through the area.
std::optional<size_t> ShmPeer::send_next() {
  if (waiting_.empty() || lent_.size() >= kLentMax) return std::nullopt;
  Waiting& first = waiting_.front();
  const size_t bytes = first.bytes;
  if (bytes == 0) {
    tell(&first, {}, 0);
    return 0;
  }
  if (auto pieces = first.answers == 0 ? lend(first.from) : std::nullopt) {
    tell(&first, *std::move(pieces), 0);
    return 0;
  }
  const uint64_t slots = area_.take(bytes);
  if (slots == 0) return std::nullopt;
  copy_bytes(first.from, area_.memory(slots, bytes), {}, false, nullptr);
  shared_->metrics.bytes_bounced.add(bytes);
  tell(&first, ShmArea::pieces(slots, bytes), slots);
  return bytes;
}

void ShmPeer::tell(Waiting* next, std::vector<ShmPiece> pieces, uint64_t slots) {
  const bool answer = next->answers != 0;
  ShmTransfer transfer{.ref = next_ref_++,
                       .answers = next->answers,
                       .bytes = static_cast<uint32_t>(next->bytes),
                       .pieces = std::move(pieces)};
  if (!answer) transfer.spans = next->spans;
  transfer.body = next->body;
  const std::vector<std::byte> body = encode(transfer);
  link_->push(header_of(answer ? FrameType::shm_read_data : FrameType::shm_write, next->tag,
                        body.size(), next->immediate),
              body);
  Lent lent{.slots = slots, .bytes = next->bytes, .since = shared_->loop->now()};
  const bool in_place = slots == 0 && next->bytes > 0;
  if (in_place) lent.op = std::exchange(next->op, nullptr);
  lent.counted = !answer;
  if (lent.counted) lent_bytes_ += lent.bytes;
  lent_.emplace(transfer.ref, lent);
  shared_->metrics.bytes_out.add(next->bytes);
  if (!answer) shared_->metrics.writes_out.add();
  Waiting done = std::move(*next);
  waiting_.pop_front();
  end_waiting(&done, ok_status());
}

/// It is in waiting_ no more.
void ShmPeer::end_waiting(Waiting* waiting, Status result) {
  if (waiting->answers != 0) {
    shared_->regions.unpin(waiting->spans);
    --serving_;
  } else {
    waiting_bytes_ -= waiting->bytes;
  }
  if (waiting->op != nullptr) shared_->loop->defer(waiting->op, std::move(result));
}

bool ShmPeer::cancel(Op* op) {
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if (it->op != op) continue;
    Waiting gone = std::move(*it);
    waiting_.erase(it);
    end_waiting(&gone, StatusCode::kCancelled);
    return true;
  }
  for (auto& [ref, read] : reads_) {
    if (read.op != op) continue;
    read.op = nullptr;
    read.into.clear();
    shared_->loop->defer(op, StatusCode::kCancelled);
    return true;
  }
  for (auto& [ref, lent] : lent_) {
    if (lent.op != op) continue;
    if (lent.release_by == Nanos(0)) {
      lent.release_by = shared_->loop->now() + shared_->options.release_timeout;
      link_->push(header_of(FrameType::shm_cancel, ref, 0), {});
      schedule_work();
    }
    return true;
  }
  return false;
}

void ShmPeer::quiesce(uint64_t tag, Op* op) {
  // Writes of the peer are refused when it is their turn; what it reads is copied by us, or not.
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->answers == 0 || it->tag != tag) {
      ++it;
      continue;
    }
    link_->push(header_of(FrameType::shm_read_error, it->answers, 0,
                          static_cast<uint32_t>(StatusCode::kCancelled)),
                {});
    end_waiting(&*it, ok_status());
    it = waiting_.erase(it);
  }
  schedule_work();
  shared_->loop->defer(op, ok_status());
}

bool ShmPeer::borrows(std::span<const std::byte> memory) const {
  // What was lent in place is no region of ours, and what is in the area is a copy.
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [memory](const Waiting& w) { return overlaps(w.from, memory); }) ||
         std::any_of(reads_.begin(), reads_.end(),
                     [memory](const auto& read) { return overlaps(read.second.into, memory); });
}

void ShmPeer::failed(ShmLink*, CloseReason reason, Status why) {
  close(reason, std::move(why));
}

void ShmPeer::close(CloseReason reason, Status why) {
  if (state_ == State::closing || state_ == State::finished) return;
  state_ = State::closing;
  why_ = std::move(why);
  shared_->loop->disarm(&deadline_);
  shared_->metrics.closes[static_cast<size_t>(reason)].add();
  if (link_ != nullptr) link_->begin_close();
  if (drained()) host_->schedule_finish();
}

void ShmPeer::closed(ShmLink*) {
  if (drained()) host_->schedule_finish();
}

void ShmPeer::finish() {
  TERRACE_CHECK(drained());
  state_ = State::finished;
  const Status gone = error(StatusCode::kUnavailable, "the peer is gone: " + why_.message());
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    if (waiting.answers != 0) shared_->regions.unpin(waiting.spans);
    if (waiting.op != nullptr) waiting.op->done(gone);
  }
  for (const auto& [ref, lent] : std::exchange(lent_, {})) {
    if (lent.op != nullptr) lent.op->done(gone);
  }
  for (const auto& [ref, read] : std::exchange(reads_, {})) {
    if (read.op != nullptr) read.op->done(gone);
  }
  shared_->metrics.files_mapped.sub(files_.size());
  shared_->metrics.area_bytes.sub(area_bytes_);
  if (was_open_) return shared_->handler->on_peer_closed(id_, why_);
  const bool ours =
      why_.code() == StatusCode::kDeadlineExceeded || why_.code() == StatusCode::kPermissionDenied;
  end_connect(ours ? why_ : gone);
}

void ShmPeer::tick() {
  if (state_ != State::open) return;
  const Nanos now = shared_->loop->now();
  if (now - link_->stuck_since() > shared_->options.stall_timeout) {
    return close(CloseReason::stalled, error(StatusCode::kUnavailable, "the peer stopped reading"));
  }
  for (const auto& [ref, lent] : lent_) {
    if (lent.release_by != Nanos(0) && now > lent.release_by) {
      return close(CloseReason::stalled,
                   error(StatusCode::kUnavailable, "the peer kept cancelled memory busy"));
    }
    if (now - lent.since > shared_->options.stall_timeout) {
      return close(CloseReason::stalled,
                   error(StatusCode::kUnavailable, "the peer stopped taking bytes"));
    }
  }
}
}  // namespace terrace
