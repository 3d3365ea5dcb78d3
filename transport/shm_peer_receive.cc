// What frames of the peer do, and the copies that follow them.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "transport/shm_peer.h"

namespace terrace {
namespace {

// An honest peer keeps to kLentMax and kReadsOutstandingMax; answers to reads are among the former.
constexpr size_t kJobsMax = 2 * ShmPeer::kLentMax;
constexpr uint32_t kServingMax = 2 * ShmPeer::kReadsOutstandingMax;
constexpr size_t kJobBodiesBytesMax = 16 * kMiB;

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}

FrameHeader ref_frame(FrameType type, uint64_t ref, StatusCode code) {
  return {.type = type, .tag = ref, .immediate = static_cast<uint32_t>(code)};
}
}  // namespace

Status ShmPeer::still_open() const {
  return state_ == State::open ? ok_status() : Status(StatusCode::kUnavailable);
}

Status ShmPeer::frame_arrived(ShmLink* link, const FrameHeader& header,
                              std::span<const std::byte> body) {
  // Whatever it asks for, its answers wait here until it reads them.
  if (link->queued_bytes() > 2 * shared_->options.message_bytes_max) {
    return error(StatusCode::kResourceExhausted, "the peer does not read its answers");
  }
  switch (header.type) {
    case FrameType::hello_ok:
      TERRACE_RETURN_IF_ERROR(areas_arrived());
      link->set_lane(FrameLane::shm);
      return ok_status();
    case FrameType::message:
      return message_arrived(header, body);
    case FrameType::shm_write:
    case FrameType::shm_read:
    case FrameType::shm_read_data:
      return transfer_arrived(header, body);
    case FrameType::shm_read_error:
      return read_refused(header);
    case FrameType::shm_done:
      return lent_done(header);
    case FrameType::shm_cancel:
      return cancel_asked(header.tag);
    case FrameType::shm_map:
      return file_arrived(header, body);
    case FrameType::shm_unmap:
      shared_->metrics.files_mapped.sub(files_.erase(header.tag));
      return ok_status();
    default:
      return broken("a frame out of place");
  }
}

/// The node's area, which we read, and ours, in this order.
Status ShmPeer::areas_arrived() {
  constexpr ShmFileFacts kFacts{0, ShmArea::kBytes};
  TERRACE_RETURN_IF_ERROR(map_file(link_->take_descriptor(), kFacts, false, &peer_area_));
  ShmMapping ours;
  TERRACE_RETURN_IF_ERROR(map_file(link_->take_descriptor(), kFacts, true, &ours));
  area_.adopt(std::move(ours));
  state_ = State::open;
  was_open_ = true;
  end_connect(ok_status());
  return still_open();
}

Status ShmPeer::message_arrived(const FrameHeader& header, std::span<const std::byte> body) {
  shared_->metrics.messages_in.add();
  shared_->handler->on_message(id_, {.kind = header.kind, .tag = header.tag, .body = body});
  return still_open();
}

Status ShmPeer::transfer_arrived(const FrameHeader& header, std::span<const std::byte> body) {
  TERRACE_ASSIGN_OR_RETURN(ShmTransfer transfer, decode_shm_transfer(header.type, body));
  if (header.type == FrameType::shm_read) return read_asked(header, transfer);
  if (jobs_.size() >= kJobsMax || job_body_bytes_ + transfer.body.size() > kJobBodiesBytesMax) {
    return error(StatusCode::kResourceExhausted, "the peer has too many transfers outstanding");
  }
  if ((header.type == FrameType::shm_read_data) != (transfer.answers != 0)) {
    return broken("an answer to no read");
  }
  Job job{.tag = header.tag, .immediate = header.immediate};
  job.body.assign(transfer.body.begin(), transfer.body.end());
  job_body_bytes_ += job.body.size();
  job.transfer = std::move(transfer);
  jobs_.push_back(std::move(job));
  schedule_work();
  return ok_status();
}

Status ShmPeer::read_asked(const FrameHeader& header, const ShmTransfer& transfer) {
  if (serving_ >= kServingMax) {
    return error(StatusCode::kResourceExhausted, "the peer has too many reads outstanding");
  }
  Waiting answer{.tag = header.tag, .answers = transfer.ref};
  Status status = shared_->regions.resolve(transfer.spans, &answer.from);
  if (status.code() == StatusCode::kOutOfRange) return status;
  if (status.ok()) {
    shared_->regions.pin(transfer.spans);
    status = shared_->handler->accept_read(id_, header.tag, transfer.spans);
    if (status.ok() && state_ == State::open) {
      answer.spans = transfer.spans;
      answer.bytes = transfer.bytes;
      waiting_.push_back(std::move(answer));
      ++serving_;
      schedule_work();
      return ok_status();
    }
    shared_->regions.unpin(transfer.spans);
    TERRACE_RETURN_IF_ERROR(still_open());
  }
  link_->push(ref_frame(FrameType::shm_read_error, transfer.ref, status.code()), {});
  schedule_work();
  return ok_status();
}

Status ShmPeer::read_refused(const FrameHeader& header) {
  const auto found = reads_.find(header.tag);
  if (found == reads_.end() || header.immediate == 0) return broken("an answer to no read");
  Op* const op = found->second.op;
  reads_.erase(found);
  const StatusCode code = status_code_of(static_cast<int32_t>(header.immediate));
  if (op != nullptr) op->done(error(code, "the peer refused the read"));
  return still_open();
}

Status ShmPeer::lent_done(const FrameHeader& header) {
  const auto found = lent_.find(header.tag);
  if (found == lent_.end()) return broken("the end of a transfer that is not under way");
  const Lent lent = found->second;
  lent_.erase(found);
  area_.give_back(lent.slots);
  if (lent.counted) lent_bytes_ -= lent.bytes;
  schedule_work();
  const bool cancelled = header.immediate == static_cast<uint32_t>(StatusCode::kCancelled);
  if (lent.op != nullptr) {
    lent.op->done(cancelled ? Status(StatusCode::kCancelled) : ok_status());
  }
  return still_open();
}

Status ShmPeer::cancel_asked(uint64_t ref) {
  // One that is not here has been copied, and that was said.
  const auto found = std::find_if(jobs_.begin(), jobs_.end(), [ref](const Job& job) {
    return job.transfer.ref == ref && job.transfer.answers == 0;
  });
  if (found == jobs_.end()) return ok_status();
  job_body_bytes_ -= found->body.size();
  jobs_.erase(found);
  say_done(ref, StatusCode::kCancelled);
  return ok_status();
}

Status ShmPeer::file_arrived(const FrameHeader& header, std::span<const std::byte> body) {
  TERRACE_ASSIGN_OR_RETURN(const ShmFileFacts facts, decode_shm_file(body));
  const Fd file = link_->take_descriptor();
  if (!file || header.tag == kAreaFile || files_.contains(header.tag) ||
      files_.size() >= kFilesMax) {
    return broken("a memory file without descriptor, a second time, or one too many");
  }
  TERRACE_ASSIGN_OR_RETURN(ShmMapping mapping, ShmMapping::map(file, facts, false));
  files_[header.tag] = std::make_shared<const ShmMapping>(std::move(mapping));
  shared_->metrics.files_mapped.add();
  return ok_status();
}

std::shared_ptr<const ShmMapping> ShmPeer::mapping(uint64_t file) const {
  const auto found = files_.find(file);
  return found == files_.end() ? nullptr : found->second;
}

Status ShmPeer::find_pieces(std::span<const ShmPiece> pieces, std::vector<iovec>* out) const {
  for (const ShmPiece& piece : pieces) {
    std::span<const std::byte> bytes;
    if (piece.file == kAreaFile) {
      bytes = peer_area_.at(piece.offset, piece.length);
    } else if (const auto found = files_.find(piece.file); found != files_.end()) {
      bytes = found->second->at(piece.offset, piece.length);
    }
    if (bytes.empty()) {
      return error(StatusCode::kOutOfRange, "bytes of no memory file, or outside of it");
    }
    out->push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});  // only read from
  }
  return ok_status();
}

void ShmPeer::say_done(uint64_t ref, StatusCode code) {
  link_->push(ref_frame(FrameType::shm_done, ref, code), {});
  schedule_work();
}

Status ShmPeer::take_job(Job job) {
  return job.transfer.answers == 0 ? land_write(&job) : take_answer(&job);
}

Status ShmPeer::land_write(Job* job) {
  const ShmTransfer& transfer = job->transfer;
  shared_->from.clear();
  shared_->into.clear();
  shared_->crc_runs.clear();
  shared_->sums.clear();
  TERRACE_RETURN_IF_ERROR(find_pieces(transfer.pieces, &shared_->from));
  const Status resolved = shared_->regions.resolve(transfer.spans, &shared_->into);
  // A region that is gone: its owner quiesced the operation, and this frame was on its way.
  if (!resolved.ok() && resolved.code() != StatusCode::kNotFound) return resolved;
  IncomingWrite write{.tag = job->tag,
                      .immediate = job->immediate,
                      .targets = transfer.spans,
                      .body = job->body,
                      .bytes = transfer.bytes,
                      .run_crcs = {}};
  bool wanted = false;
  if (resolved.ok()) {
    wanted = shared_->handler->accept_write(id_, write, &shared_->crc_runs);
    TERRACE_RETURN_IF_ERROR(still_open());
  }
  if (!wanted) {
    shared_->metrics.writes_dropped.add();
    say_done(transfer.ref, StatusCode::kOk);
    return ok_status();
  }
  copy_bytes(shared_->from, shared_->into, shared_->crc_runs, true, &shared_->sums);
  // Who lent the bytes may have given up on us and used the memory again: then it closed before.
  if (transfer.bytes > 0 && link_->peer_closed()) {
    return error(StatusCode::kUnavailable, "the peer closed while its bytes were copied");
  }
  shared_->metrics.bytes_in.add(transfer.bytes);
  shared_->metrics.writes_in.add();
  say_done(transfer.ref, StatusCode::kOk);
  write.run_crcs = shared_->sums;
  shared_->handler->on_write(id_, write);
  return still_open();
}

Status ShmPeer::take_answer(Job* job) {
  const ShmTransfer& transfer = job->transfer;
  const auto found = reads_.find(transfer.answers);
  if (found == reads_.end() || found->second.bytes != transfer.bytes) {
    return broken("an answer to no read, or of another length");
  }
  const PendingRead read = std::move(found->second);
  reads_.erase(found);
  if (read.op != nullptr) {
    shared_->from.clear();
    TERRACE_RETURN_IF_ERROR(find_pieces(transfer.pieces, &shared_->from));
    copy_bytes(shared_->from, read.into, {}, false, nullptr);
    shared_->metrics.bytes_in.add(transfer.bytes);
  }
  say_done(transfer.ref, StatusCode::kOk);
  if (read.op != nullptr) read.op->done(ok_status());
  return still_open();
}

size_t ShmPeer::work(size_t bytes_max) {
  size_t bytes = 0;
  bool more = true;
  while (more && bytes < bytes_max && state_ == State::open) {
    more = false;
    if (!jobs_.empty()) {
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      job_body_bytes_ -= job.body.size();
      bytes += job.transfer.bytes;
      more = true;
      const Status taken = take_job(std::move(job));
      if (state_ != State::open) break;
      if (!taken.ok()) {
        close(taken.code() == StatusCode::kUnavailable ? CloseReason::peer_closed
                                                       : CloseReason::bad_frame,
              taken);
        break;
      }
    }
    if (bytes >= bytes_max) break;
    if (const std::optional<size_t> copied = send_next()) {
      bytes += *copied;
      more = true;
    }
  }
  flush();
  if (state_ == State::open && bytes >= bytes_max) schedule_work();
  return bytes;
}
}  // namespace terrace
