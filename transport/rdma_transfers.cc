#include "transport/rdma_transfers.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "transport/transfer_check.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

/// While so much waits to be sent, asking for more would only fill a queue: what is not asked for
/// yet can be cancelled without a trace.
constexpr size_t kStepBytesWaiting = 256 * kKiB;

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}

void copy_out(std::span<const std::byte> from, std::span<const iovec> into) {
  for (const iovec& piece : into) {
    std::memcpy(piece.iov_base, from.data(), piece.iov_len);
    from = from.subspan(piece.iov_len);
  }
}

}  // namespace

RdmaTransfers::~RdmaTransfers() {
  TERRACE_CHECK(active_.empty() && queued_.empty());
}

Status RdmaTransfers::write(const Transport::Write& write, Op* op) {
  auto transfer = std::make_unique<Transfer>();
  transfer->op = op;
  transfer->is_write = true;
  transfer->tag = write.tag;
  transfer->immediate = write.immediate;
  transfer->spans.assign(write.targets.begin(), write.targets.end());
  const size_t table = write.targets.size() * kRemoteSpanBytes;
  if (table > kBodyBytesMax || write.body.size() > kBodyBytesMax - table) {
    return error(StatusCode::kInvalidArgument, "the body of a write is too long");
  }
  transfer->body.assign(write.body.begin(), write.body.end());
  return queue(std::move(transfer), write.from);
}

Status RdmaTransfers::read(const Transport::Read& read, Op* op) {
  if (reads_ >= kReadsOutstandingMax) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(kReadsOutstandingMax) + " reads are outstanding");
  }
  auto transfer = std::make_unique<Transfer>();
  transfer->op = op;
  transfer->tag = read.tag;
  transfer->spans.assign(read.sources.begin(), read.sources.end());
  return queue(std::move(transfer), read.into);
}

Status RdmaTransfers::queue(std::unique_ptr<Transfer> transfer, std::span<const iovec> local) {
  const size_t bytes = copy_pieces(local, &transfer->pieces);
  TERRACE_RETURN_IF_ERROR(check_transfer(transfer->spans, transfer->pieces.size(), bytes));
  if (bytes == 0) return error(StatusCode::kInvalidArgument, "a transfer of no bytes");
  if (queued_.size() >= shared_->options.transfers_queued_max ||
      (transfer->is_write && queued_bytes_ > 0 &&
       queued_bytes_ + bytes > shared_->options.send_queue_bytes_max)) {
    return error(StatusCode::kResourceExhausted, "the peer's send queue is full");
  }
  transfer->bytes = static_cast<uint32_t>(bytes);
  if (transfer->is_write) {
    queued_bytes_ += bytes;
    shared_->metrics.queued_bytes.add(bytes);
  } else {
    ++reads_;
  }
  queued_.push_back(std::move(transfer));
  link_->schedule_pump();
  return ok_status();
}

RdmaTransfers::Transfer* RdmaTransfers::find(uint64_t id) {
  const auto it = active_.find(id);
  return it == active_.end() ? nullptr : it->second.get();
}

bool RdmaTransfers::pump() {
  bounced_this_turn_ = 0;
  ask();
  return post_granted();
}

/// The window is over numbers, not over a count, so that each number has its own slot at the peer.
bool RdmaTransfers::asks_more() const {
  return !queued_.empty() && next_id_ < unfinished() + kRdmaTransfers &&
         (active_bodies_ == 0 ||
          active_bodies_ + queued_.front()->body.size() <= kRdmaTransferBodiesMax);
}

void RdmaTransfers::ask() {
  while (asks_more() && link_->step_bytes() < kStepBytesWaiting) {
    Transfer* transfer = queued_.front().get();
    transfer->id = next_id_;
    transfer->state = State::asked;
    std::vector<std::byte> table(transfer->spans.size() * kRemoteSpanBytes);
    encode(transfer->spans, table);
    link_->send_step({.type = transfer->is_write ? RdmaRecordType::write : RdmaRecordType::read,
                      .count = static_cast<uint16_t>(transfer->spans.size()),
                      .tag = transfer->tag,
                      .id = transfer->id,
                      .argument = transfer->immediate,
                      .bytes = transfer->bytes},
                     table, transfer->body);
    active_bodies_ += transfer->body.size();
    active_.emplace(next_id_++, std::move(queued_.front()));
    queued_.pop_front();
  }
}

void RdmaTransfers::completed(uint64_t id) {
  const auto it = active_.find(id);
  if (it == active_.end()) return;
  Transfer* transfer = it->second.get();
  if (transfer->is_write) {
    shared_->metrics.writes.add();
    shared_->metrics.bytes_out.add(transfer->bytes);
  } else {
    if (!transfer->bounce.empty() && transfer->op != nullptr) {
      copy_out(transfer->bounce, transfer->pieces);
    }
    shared_->metrics.reads.add();
    shared_->metrics.bytes_in.add(transfer->bytes);
    link_->send_step({.type = RdmaRecordType::finished, .id = id});
  }
  finish(it, ok_status());
}

/// Gives back what the transfer holds of ours.
void RdmaTransfers::release(Transfer* transfer) {
  if (!transfer->bounce.empty()) {
    shared_->memory->give_back_bounce(std::exchange(transfer->bounce, {}));
  }
  if (transfer->is_write) {
    queued_bytes_ -= transfer->bytes;
    shared_->metrics.queued_bytes.sub(transfer->bytes);
  } else {
    --reads_;
  }
}

/// Never inside a call of the user: answers, completions and timers come here.
void RdmaTransfers::finish(Active::iterator it, Status result) {
  const std::unique_ptr<Transfer> transfer = std::move(it->second);
  active_.erase(it);
  active_bodies_ -= transfer->body.size();
  release(transfer.get());
  link_->schedule_pump();
  if (transfer->op != nullptr) transfer->op->done(std::move(result));
}

/// Tells the peer before the number counts as finished.
void RdmaTransfers::abandon(Transfer* transfer) {
  link_->send_step({.type = RdmaRecordType::abandoned, .id = transfer->id});
}

bool RdmaTransfers::cancel(Op* op) {
  for (auto it = queued_.begin(); it != queued_.end(); ++it) {
    if ((*it)->op != op) continue;
    release(it->get());
    queued_.erase(it);
    shared_->loop->defer(op, StatusCode::kCancelled);
    return true;
  }
  const auto it = std::find_if(active_.begin(), active_.end(),
                               [op](const auto& entry) { return entry.second->op == op; });
  if (it == active_.end()) return false;
  Transfer* transfer = it->second.get();
  const bool begun = transfer->state == State::posted || transfer->state == State::lost;
  if (!begun) {
    abandon(transfer);
    transfer->op = nullptr;
    finish(it, ok_status());
    shared_->loop->defer(op, StatusCode::kCancelled);
  } else if (!transfer->bounce.empty()) {
    // The queue pair has only our copy.
    transfer->op = nullptr;
    shared_->loop->defer(op, transfer->is_write ? ok_status() : Status(StatusCode::kCancelled));
  } else if (!std::exchange(transfer->cancelled, true)) {
    transfer->release_at = shared_->loop->now() + shared_->options.release_timeout;
    link_->arm_release(transfer->release_at);
  }
  return true;
}

Status RdmaTransfers::granted(const RdmaRecord& record, std::span<const std::byte> body) {
  if (record.id == 0 || record.id >= next_id_) return broken("a grant of nothing");
  const auto it = active_.find(record.id);
  if (it == active_.end()) {  // granted again though it had come through, or abandoned meanwhile
    link_->send_step({.type = RdmaRecordType::finished, .id = record.id});
    return ok_status();
  }
  Transfer* transfer = it->second.get();
  if (transfer->state != State::asked && transfer->state != State::lost) {
    return broken("a second grant");
  }
  if (record.path >= link_->paths()) return broken("a grant over a path that is not there");
  if (record.argument != link_->generation(record.path) || !link_->data_lane(record.path)) {
    // Over a queue pair that we gave up meanwhile; it is granted again when the peer hears of it.
    return record.argument <= link_->generation(record.path) ? ok_status()
                                                             : broken("a grant of the future");
  }
  TERRACE_ASSIGN_OR_RETURN(transfer->grant, decode_rdma_grant(body, transfer->bytes));
  if (transfer->cancelled) {
    abandon(transfer);
    finish(it, StatusCode::kCancelled);
    return ok_status();
  }
  transfer->state = State::granted;
  transfer->path = record.path;
  transfer->entry = transfer->entry_done = transfer->piece = transfer->piece_done = 0;
  to_post_.push_back(transfer->id);
  link_->schedule_pump();
  return ok_status();
}

Status RdmaTransfers::refused(const RdmaRecord& record) {
  const auto it = active_.find(record.id);
  if (it == active_.end()) return ok_status();  // abandoned meanwhile
  const Transfer& transfer = *it->second;
  if (transfer.state != State::asked && transfer.state != State::lost) {
    return broken("a refusal after the grant");
  }
  Status result;
  if (transfer.cancelled) {
    result = StatusCode::kCancelled;
  } else if (!transfer.is_write) {
    const StatusCode code = status_code_of(static_cast<int32_t>(record.argument));
    result =
        error(code == StatusCode::kOk ? StatusCode::kUnknown : code, "the peer refused the read");
  }
  finish(it, std::move(result));
  return ok_status();
}

Status RdmaTransfers::landed(uint64_t id) {
  const auto it = active_.find(id);
  if (it == active_.end()) return ok_status();
  if (it->second->state != State::lost || !it->second->is_write) {
    return broken("an arrival of what was not sent");
  }
  shared_->metrics.writes.add();
  shared_->metrics.bytes_out.add(it->second->bytes);
  finish(it, ok_status());
  return ok_status();
}

void RdmaTransfers::revoked(uint64_t id) {
  const auto it = active_.find(id);
  if (it == active_.end() || it->second->state != State::granted) return;
  const bool is_write = it->second->is_write;
  abandon(it->second.get());
  finish(it, is_write ? ok_status()
                      : error(StatusCode::kAborted, "the peer took the memory of a read back"));
}

void RdmaTransfers::lane_lost(size_t path) {
  for (auto& [id, transfer] : active_) {
    if (transfer->path != path) continue;
    if (transfer->state == State::granted || transfer->state == State::posted) {
      transfer->state = State::lost;
    }
  }
}

Nanos RdmaTransfers::release_due(Nanos now) {
  std::vector<uint64_t> due;
  for (const auto& [id, transfer] : active_) {
    if (transfer->release_at <= now) due.push_back(id);
  }
  for (const uint64_t id : due) {
    auto it = active_.find(id);
    if (it == active_.end()) continue;
    if (it->second->state == State::posted) link_->reset_lane(it->second->path);
    if (!link_->is_open()) return Nanos::max();  // everything is done by the peer's end
    it = active_.find(id);
    if (it == active_.end()) continue;
    abandon(it->second.get());
    finish(it, error(StatusCode::kUnavailable, "cancelled, and not free in time"));
  }
  Nanos next = Nanos::max();
  for (const auto& [id, transfer] : active_) next = std::min(next, transfer->release_at);
  return next;
}

bool RdmaTransfers::borrows(std::span<const std::byte> memory) const {
  const auto uses = [memory](const Transfer& transfer) {
    return transfer.op != nullptr && overlaps(transfer.pieces, memory);
  };
  return std::any_of(queued_.begin(), queued_.end(), [&](const auto& t) { return uses(*t); }) ||
         std::any_of(active_.begin(), active_.end(),
                     [&](const auto& entry) { return uses(*entry.second); });
}

void RdmaTransfers::fail_all(const Status& why) {
  std::vector<Op*> ops;
  const auto end = [&](Transfer* transfer) {
    release(transfer);
    if (transfer->op != nullptr) ops.push_back(transfer->op);
  };
  for (auto& [id, transfer] : active_) end(transfer.get());
  for (auto& transfer : queued_) end(transfer.get());
  active_.clear();
  queued_.clear();
  to_post_.clear();
  active_bodies_ = 0;
  for (Op* op : ops) op->done(why);
}
}  // namespace terrace
