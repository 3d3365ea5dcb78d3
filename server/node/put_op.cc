#include "server/node/put_op.h"

#include <algorithm>

#include "base/limits.h"
#include "proto/request_places.h"
#include "proto/retention_hints.h"

namespace terrace {
namespace {

constexpr size_t kReadsInFlight = 8;  // groups of one put on their way
// One session has an eighth of the node's puts at most, but what our client sends at once, and some
// that ended for it and not yet here, at least.
constexpr uint32_t kSessionShare = 8;
constexpr uint32_t kSessionPutsMin = kOperationsPerSessionMax / 2 + 64;
constexpr Nanos kRetryPeriod = milliseconds(1);

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "put: " + what);
}

std::string describe(const std::vector<SectionSpec>& sections) {
  return std::to_string(sections.size()) + " sections of " + std::to_string(total_bytes(sections)) +
         " bytes";
}

StatusOr<std::vector<SectionSpec>> sections_for(const Namespace& ns, const std::string& packed) {
  TERRACE_ASSIGN_OR_RETURN(std::vector<SectionSpec> sections, unpack_sections(packed));
  if (sections.empty()) sections = ns.sections;
  if (sections.empty()) return bad("a raw object needs a section table");
  if (!ns.fingerprint.raw() && sections != ns.sections) {
    return bad("namespace \"" + ns.name + "\" stores chunks of " + describe(ns.sections) +
               "; offered " + describe(sections) + " (layer, dtype or length differs)");
  }
  return sections;
}
}  // namespace

PutOp::PutOp(NodeContext* context, Session* session, Lane lane, uint64_t tag)
    : Operation(context, session, OpKind::put, lane, tag),
      opened_(this),
      committed_(this),
      flow_(context->pacer, lane, session->tenant(), session->peer(), [this] { pump(); }),
      retry_([this] { pump(); }) {
  session->put_began();
}

PutOp::~PutOp() {
  TERRACE_CHECK(busy_ == 0);
  session_->put_ended();
  context_->loop->disarm(&retry_);
}

StatusOr<std::unique_ptr<PutOp>> PutOp::create(NodeContext* context, Session* session, uint64_t tag,
                                               const proto::PutRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  TERRACE_ASSIGN_OR_RETURN(const Lane lane, lane_of(request.priority()));
  auto op = std::unique_ptr<PutOp>(new PutOp(context, session, lane, tag));
  TERRACE_ASSIGN_OR_RETURN(const auto key, view_keys(request.key(), 1));
  if (key.size() != 1)
    return bad("a key has 32 bytes, not " + std::to_string(request.key().size()));
  if (request.raw_key().size() > kRawKeyBytesMax) {
    return bad("raw key of " + std::to_string(request.raw_key().size()) + " bytes; at most " +
               std::to_string(kRawKeyBytesMax));
  }
  if (request.durability() > static_cast<uint32_t>(Durability::shared)) {
    return bad("durability " + std::to_string(request.durability()) + " is unknown");
  }
  op->spec_.ns = ns->id;
  op->spec_.key = key[0];
  op->spec_.raw_key = request.raw_key();
  op->spec_.durability = static_cast<Durability>(request.durability());
  op->spec_.namespace_bytes_max = context->config->namespace_bytes_max;
  WorthHint* const worth = &op->spec_.worth;
  worth->recompute_us = request.recompute_us();
  if (request.has_importance()) worth->importance = request.importance();
  if (!(worth->importance >= 0 && worth->importance <= 1)) {
    return bad("importance " + std::to_string(worth->importance) + "; 0 to 1");
  }
  if (request.has_retention()) {
    TERRACE_ASSIGN_OR_RETURN(op->spec_.retention, unpack_retention(request.retention()));
    op->spec_.pinned_bytes_max = context->pinned_quota();
  }
  TERRACE_ASSIGN_OR_RETURN(op->spec_.sections, sections_for(*ns, request.sections()));
  TERRACE_ASSIGN_OR_RETURN(RequestPlaces places, RequestPlaces::create(request.pool()));
  TERRACE_ASSIGN_OR_RETURN(op->map_, places.next(request.fragments(), request.blocks()));
  op->logical_bytes_ = total_bytes(op->spec_.sections);
  if (!op->map_.covers(op->logical_bytes_)) {
    return bad("fragments hold " + std::to_string(op->map_.bytes()) +
               " bytes, not the object's [0, " + std::to_string(op->logical_bytes_) + ")");
  }
  op->deadline_ms_ = request.deadline_ms();
  op->announced_.resize(op->spec_.sections.size());
  op->sections_left_ = static_cast<uint32_t>(op->spec_.sections.size());
  return op;
}

void PutOp::start() {
  arm_deadline(deadline_ms_);
  const uint32_t share =
      std::max(kSessionPutsMin, context_->config->store.puts_in_flight_max / kSessionShare);
  if (session_->puts() > share) {
    return end(
        error(StatusCode::kResourceExhausted,
              "put: " + std::to_string(share) + " puts of this session in flight, the limit"));
  }
  ++busy_;
  const Status started = context_->store->open_writer(spec_, &writer_, &opened_);
  if (!started.ok()) {
    --busy_;
    end(started);
  }
}

void PutOp::opened(Status result) {
  --busy_;
  if (!failure_.ok()) return end(failure_);
  if (!result.ok()) return end(result);
  admitted_ = true;
  for (size_t i = 0; i < kReadsInFlight; ++i) slots_.push_back(std::make_unique<Slot>(this));
  proto::PutAdmission admission;
  admission.mutable_outcome()->set_code(0);
  reply(MessageKind::put_admission, admission);
}

void PutOp::source_ready(const proto::PutSource& source) {
  if (!failure_.ok() || committing_) return;
  const uint64_t end = uint64_t{source.first()} + source.count();
  if (!admitted_ || source.count() == 0 || end > spec_.sections.size()) {
    return fail(bad("sections [" + std::to_string(source.first()) + ", " + std::to_string(end) +
                    ") of " + std::to_string(spec_.sections.size()) + " announced"));
  }
  const auto crcs = unpack_words(source.crcs(), kBodyBytesMax / sizeof(uint32_t));
  if (!crcs.ok()) return fail(crcs.status());
  size_t next = 0;
  for (uint32_t s = source.first(); s < end; ++s) {
    if (announced_[s]) return fail(bad("section " + std::to_string(s) + " announced twice"));
    announced_[s] = true;
    --sections_left_;
    const uint64_t bytes = spec_.sections[s].bytes;
    for (uint64_t at = 0; at < bytes; at += kFramePayloadBytesMax) {
      Group group{s, at, std::min<uint64_t>(kFramePayloadBytesMax, bytes - at), {}};
      const size_t units = units_touched(at, group.bytes);
      if (next + units > crcs->size()) {
        return fail(bad(std::to_string(crcs->size()) + " CRCs are too few for the sections"));
      }
      group.crcs.assign(crcs->begin() + static_cast<ptrdiff_t>(next),
                        crcs->begin() + static_cast<ptrdiff_t>(next + units));
      next += units;
      waiting_.push_back(std::move(group));
    }
  }
  if (next != crcs->size()) return fail(bad("more CRCs than units"));
  pump();
}

void PutOp::pump() {
  bool reading = false;
  for (const auto& slot : slots_) {
    if (!failure_.ok()) break;
    if (!slot->taken && !waiting_.empty()) {
      slot->group = std::move(waiting_.front());
      waiting_.pop_front();
      slot->at = 0;
      slot->taken = true;
    }
    reading |= slot->taken;
    if (slot->busy || !slot->taken) continue;
    std::vector<RemoteSpan> sources;
    slot->reading = plan_read(*slot, &sources);
    if (!flow_.take(slot->reading)) break;  // others first: pump() when it is our turn
    const Status started = read_more(slot.get(), sources);
    if (started.ok()) continue;
    flow_.refund(slot->reading);
    if (started.code() != StatusCode::kResourceExhausted) return fail(started);
    context_->loop->arm(&retry_, context_->loop->now() + kRetryPeriod);
    break;
  }
  if (busy_ > 0 || committing_) return;
  if (!failure_.ok()) return end(failure_);
  if (reading || !waiting_.empty() || sections_left_ > 0 || !admitted_) return;
  committing_ = true;
  ++busy_;
  if (const Status started = context_->store->commit(&writer_, &committed_); !started.ok()) {
    --busy_;
    end(started);
  }
}

/// How much the next read of the slot's group can have, and where it lies.
uint64_t PutOp::plan_read(const Slot& slot, std::vector<RemoteSpan>* sources) const {
  const Group& group = slot.group;
  const uint64_t object_offset =
      writer_.layout().logical_offset(group.section) + group.offset + slot.at;
  const uint64_t bytes =
      map_.locate({object_offset, group.bytes - slot.at}, kFramesFragmentsMax, sources);
  TERRACE_CHECK(bytes > 0);  // create() checked that the fragments cover the object
  return bytes;
}

Status PutOp::read_more(Slot* slot, std::span<const RemoteSpan> sources) {
  const std::vector<iovec> into = context_->store->memory(
      &writer_, slot->group.section, slot->group.offset + slot->at, slot->reading);
  TERRACE_RETURN_IF_ERROR(
      context_->transport->read(session_->peer(), {tag(), sources, into}, slot));
  slot->busy = true;
  ++busy_;
  return ok_status();
}

void PutOp::slot_done(Slot* slot, Status result) {
  --busy_;
  slot->busy = false;
  flow_.give_back(slot->reading);
  if (result.ok() && failure_.ok()) {
    slot->at += slot->reading;
    if (slot->at == slot->group.bytes) {  // else pump() reads on
      slot->taken = false;
      result = context_->store->landed(&writer_, slot->group.section,
                                       static_cast<uint32_t>(slot->group.offset / kCrcUnitBytes),
                                       slot->group.crcs);
      context_->counters->put_bytes.add(slot->group.bytes);
    }
  }
  if (!result.ok()) return fail(std::move(result));
  pump();
}

void PutOp::cancel(StatusCode why) {
  if (committing_) return;  // too late: the store decides
  fail(why);
}

/// The first failure ends the put once nothing is in flight.
void PutOp::fail(Status why) {
  const bool first = failure_.ok();
  failure_.update(why);
  if (first) {
    flow_.stop();
    if (!admitted_) context_->store->cancel_open(&writer_);
    waiting_.clear();
    for (const auto& slot : slots_) {
      if (slot->busy) context_->transport->cancel(slot.get());
    }
  }
  if (busy_ == 0) end(failure_);
}

void PutOp::committed(Status result) {
  --busy_;
  end(result);
}

void PutOp::end(const Status& result) {
  context_->loop->disarm(&retry_);
  proto::Outcome outcome;
  outcome.set_code(static_cast<int32_t>(result.code()));
  outcome.set_message(result.message());
  if (admitted_) {
    proto::PutReply body;
    *body.mutable_outcome() = outcome;
    reply(MessageKind::put_reply, body);
  } else {
    proto::PutAdmission body;
    *body.mutable_outcome() = outcome;
    reply(MessageKind::put_admission, body);
  }
  finished(result.code());
}
}  // namespace terrace
