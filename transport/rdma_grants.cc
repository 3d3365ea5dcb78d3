#include "transport/rdma_grants.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}
}  // namespace

RdmaGrants::Slot* RdmaGrants::find(uint64_t id) {
  Slot* slot = &slots_[id % kRdmaTransfers];
  return slot->state != State::free && slot->id == id ? slot : nullptr;
}

Status RdmaGrants::asked(const RdmaRecord& record, std::span<const std::byte> body) {
  if (record.id != next_id_) return broken("a transfer out of order");
  if (record.id >= unfinished_ + kRdmaTransfers) return broken("too many transfers under way");
  Slot* slot = &slots_[record.id % kRdmaTransfers];
  if (slot->state == State::granted && slot->is_write) {
    // Its number is in use again, so the peer saw it acknowledged: it is in place, and its
    // immediate waits in another device's queue.
    TERRACE_RETURN_IF_ERROR(arrive(slot));
  }
  if (slot->state != State::free) return broken("a transfer's number is in use");
  ++next_id_;
  slot->id = record.id;
  slot->is_write = record.type == RdmaRecordType::write;
  slot->tag = record.tag;
  slot->immediate = record.argument;
  slot->bytes = record.bytes;
  slot->spans.resize(record.count);
  TERRACE_RETURN_IF_ERROR(decode_spans(body, slot->spans, record.bytes));
  const auto rest = body.subspan(record.count * kRemoteSpanBytes);
  if (body_bytes_ > 0 && body_bytes_ + rest.size() > kRdmaTransferBodiesMax) {
    return broken("the bodies of transfers under way are over their limit");
  }
  slot->body.assign(rest.begin(), rest.end());
  body_bytes_ += rest.size();
  slot->state = State::held;
  bool wanted = false;
  StatusCode code = StatusCode::kOk;
  TERRACE_RETURN_IF_ERROR(decide(slot, &wanted, &code));
  if (wanted) {
    try_grant(slot);
  } else {
    refuse(slot, code);
  }
  return ok_status();
}

/// Resolves, pins and asks the handler. Non-OK: the peer lied, or the handler closed it.
Status RdmaGrants::decide(Slot* slot, bool* wanted, StatusCode* code) {
  slot->places.clear();
  Status status = shared_->regions.resolve(slot->spans, &slot->places);
  if (status.code() == StatusCode::kNotFound) {  // quiesced, and this was on its way
    *code = StatusCode::kNotFound;
    return ok_status();
  }
  if (!status.ok()) {
    clear(slot);
    return status;
  }
  shared_->regions.pin(slot->spans);
  if (slot->is_write) {
    std::vector<uint32_t> runs;  // nobody's: the network card copies
    *wanted = shared_->handler->accept_write(link_->id(),
                                             {.tag = slot->tag,
                                              .immediate = slot->immediate,
                                              .targets = slot->spans,
                                              .body = slot->body,
                                              .bytes = slot->bytes,
                                              .run_crcs = {}},
                                             &runs);
    *code = StatusCode::kOk;
  } else {
    status = shared_->handler->accept_read(link_->id(), slot->tag, slot->spans);
    *wanted = status.ok();
    *code = status.code();
  }
  return link_->is_open() ? ok_status() : Status(StatusCode::kUnavailable);
}

/// On the lane that has the fewest granted bytes; held when there is none, or while the cards still
/// learn the memory.
void RdmaGrants::try_grant(Slot* slot) {
  for (const RemoteSpan& span : slot->spans) {
    const RdmaMemory::State state = shared_->memory->state(span.region);
    if (state == RdmaMemory::State::flying) return;
    if (state == RdmaMemory::State::failed) return refuse(slot, StatusCode::kResourceExhausted);
  }
  size_t best = link_->paths();
  for (size_t path = 0; path < link_->paths(); ++path) {
    if (link_->data_lane(path) == nullptr) continue;
    if (best == link_->paths() || granted_bytes_[path] < granted_bytes_[best]) best = path;
  }
  if (best == link_->paths()) return;
  std::vector<RdmaGrantEntry> entries;
  for (size_t i = 0; i < slot->spans.size(); ++i) {
    const auto memory =
        std::span(static_cast<const std::byte*>(slot->places[i].iov_base), slot->places[i].iov_len);
    shared_->memory->find_remote(best, slot->spans[i].region, memory, &entries);
  }
  slot->state = State::granted;
  slot->path = static_cast<uint8_t>(best);
  slot->again = false;
  granted_bytes_[best] += slot->bytes;
  shared_->metrics.grants.add();
  link_->send_step({.type = RdmaRecordType::grant,
                    .path = slot->path,
                    .count = static_cast<uint16_t>(entries.size()),
                    .id = slot->id,
                    .argument = link_->generation(best)},
                   encode(entries));
}

void RdmaGrants::refuse(Slot* slot, StatusCode code) {
  shared_->metrics.refusals.add();
  link_->send_step(
      {.type = RdmaRecordType::refused, .id = slot->id, .argument = static_cast<uint32_t>(code)});
  clear(slot);
}

void RdmaGrants::unpin(Slot* slot) {
  if (slot->state == State::granted) granted_bytes_[slot->path] -= slot->bytes;
  if (!slot->places.empty()) shared_->regions.unpin(slot->spans);
  slot->places.clear();
  body_bytes_ -= slot->body.size();
}

void RdmaGrants::clear(Slot* slot) {
  unpin(slot);
  *slot = {};
}

/// The bytes are in place. The slot stays, landed, until the peer knows.
Status RdmaGrants::arrive(Slot* slot) {
  unpin(slot);
  slot->state = State::landed;
  const std::vector<std::byte> body = std::exchange(slot->body, {});
  const std::vector<RemoteSpan> spans = std::exchange(slot->spans, {});
  const Slot was = *slot;                 // the handler may come back to us
  if (was.id < unfinished_) clear(slot);  // the peer knew before we did
  shared_->metrics.bytes_in.add(was.bytes);
  if (!was.quiet) {
    shared_->handler->on_write(link_->id(), {.tag = was.tag,
                                             .immediate = was.immediate,
                                             .targets = spans,
                                             .body = body,
                                             .bytes = was.bytes,
                                             .run_crcs = {}});
  }
  settle_quiesces();
  return link_->is_open() ? ok_status() : Status(StatusCode::kUnavailable);
}

/// Exactly once per write: a slot lands once, and the number says whose immediate it is.
Status RdmaGrants::immediate_came(size_t path, uint32_t immediate) {
  Slot* slot = &slots_[immediate % kRdmaTransfers];
  if (slot->state != State::granted || !slot->is_write || slot->path != path ||
      static_cast<uint32_t>(slot->id) != immediate) {
    shared_->metrics.stale_immediates.add();
    return ok_status();
  }
  return arrive(slot);
}

Status RdmaGrants::finished(uint64_t id) {
  Slot* slot = find(id);
  if (slot == nullptr) return ok_status();
  if (!slot->is_write) {
    shared_->metrics.bytes_out.add(slot->bytes);
    clear(slot);
    settle_quiesces();
    return ok_status();
  }
  // Every write of it was acknowledged over the queue pair that we lost; and what we granted again
  // is not going to be used.
  if (slot->state == State::held || slot->state == State::granted) return arrive(slot);
  return ok_status();
}

void RdmaGrants::abandoned(uint64_t id) {
  if (Slot* slot = find(id)) {
    clear(slot);
    settle_quiesces();
  }
}

Status RdmaGrants::unfinished(uint64_t id) {
  if (id > next_id_) return broken("a number that was not used is finished");
  while (unfinished_ < id) {
    Slot* slot = find(unfinished_++);
    if (slot == nullptr) continue;
    if (slot->state == State::landed) {
      clear(slot);
    } else if (slot->state == State::held && slot->again && slot->is_write) {
      TERRACE_RETURN_IF_ERROR(arrive(slot));
    }
  }
  return ok_status();
}

bool RdmaGrants::touches(uint64_t tag) const {
  return std::any_of(slots_.begin(), slots_.end(), [tag](const Slot& slot) {
    return slot.tag == tag && slot.state == State::granted;
  });
}

bool RdmaGrants::granted_any() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.state == State::granted; });
}

void RdmaGrants::quiesce(uint64_t tag, Op* op) {
  for (Slot& slot : slots_) {
    if (slot.tag != tag) continue;
    if (slot.state == State::held) refuse(&slot, StatusCode::kAborted);
    if (slot.state == State::granted && !std::exchange(slot.quiet, true)) {
      link_->send_step({.type = RdmaRecordType::revoke, .id = slot.id});
    }
  }
  if (!touches(tag)) return shared_->loop->defer(op, ok_status());
  quiesces_.push_back({.tag = tag,
                       .op = op,
                       .release_at = shared_->loop->now() + shared_->options.release_timeout});
  link_->arm_release(quiesces_.back().release_at);
}

/// Deferred: a handler or a caller of ours may be on the stack.
void RdmaGrants::settle_quiesces() {
  std::erase_if(quiesces_, [this](const Quiesce& quiesce) {
    if (touches(quiesce.tag)) return false;
    shared_->loop->defer(quiesce.op, ok_status());
    return true;
  });
}

void RdmaGrants::lane_lost(size_t path) {
  for (Slot& slot : slots_) {
    if (slot.state == State::free || slot.path != path) continue;
    if (slot.state == State::landed) {
      link_->send_step({.type = RdmaRecordType::landed, .id = slot.id});
    } else if (slot.state == State::granted && slot.is_write && slot.id < unfinished_) {
      // The asker is through with it, so it landed; only its immediate went with the queue pair.
      granted_bytes_[path] -= slot.bytes;
      if (!arrive(&slot).ok()) return;
    } else if (slot.state == State::granted) {
      granted_bytes_[path] -= slot.bytes;
      slot.state = State::held;
      slot.again = true;
      if (slot.quiet) refuse(&slot, StatusCode::kAborted);
    }
  }
  settle_quiesces();
  try_held();
}

void RdmaGrants::try_held() {
  for (uint64_t id = unfinished_; id < next_id_; ++id) {
    Slot* slot = find(id);
    if (slot != nullptr && slot->state == State::held) try_grant(slot);
  }
}

Nanos RdmaGrants::release_due(Nanos now) {
  Nanos next = Nanos::max();
  std::array<bool, kRdmaPathsMax> lost{};
  for (const Quiesce& quiesce : quiesces_) {
    if (quiesce.release_at > now) {
      next = std::min(next, quiesce.release_at);
      continue;
    }
    for (const Slot& slot : slots_) {
      if (slot.state == State::granted && slot.tag == quiesce.tag) lost[slot.path] = true;
    }
  }
  for (size_t path = 0; path < lost.size(); ++path) {
    if (lost[path]) link_->reset_lane(path);
  }
  return next;
}

void RdmaGrants::end() {
  for (Slot& slot : slots_) {
    if (slot.state != State::free) clear(&slot);
  }
  for (const Quiesce& quiesce : std::exchange(quiesces_, {})) quiesce.op->done(ok_status());
}
}  // namespace terrace
