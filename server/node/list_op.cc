#include "server/node/list_op.h"

#include "base/limits.h"
#include "server/node/scan_turns.h"

namespace terrace {

ListOp::ListOp(NodeContext* context, Session* session, uint64_t tag)
    : Operation(context, session, OpKind::list, Lane::load, tag), opened_(this) {
  session->list_began();
}

ListOp::~ListOp() {
  session_->list_ended();
}

StatusOr<std::unique_ptr<ListOp>> ListOp::create(NodeContext* context, Session* session,
                                                 uint64_t tag, const proto::ListRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  TERRACE_ASSIGN_OR_RETURN(const auto after, view_keys(request.after(), 1));
  if (request.limit() == 0 || request.limit() > kKeysPerRequestMax) {
    return error(StatusCode::kInvalidArgument, "list of " + std::to_string(request.limit()) +
                                                   " objects: 1 to " +
                                                   std::to_string(kKeysPerRequestMax));
  }
  if (session->lists() >= kPerSessionMax) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(session->lists()) + " lists of this session run; at most " +
                     std::to_string(kPerSessionMax) + ": wait for one to end");
  }
  auto op = std::unique_ptr<ListOp>(new ListOp(context, session, tag));
  op->ns_ = ns->id;
  op->scan_.ns = ns->id;
  op->scan_.limit = request.limit();
  if (!after.empty()) op->scan_.after = after[0];
  return op;
}

void ListOp::start() {
  arm_deadline(0);
  wait_for_turn();
}

void ListOp::wait_for_turn() {
  context_->scans->wait([this] { scan(); });
}

void ListOp::scan() {
  if (cancelled_ == StatusCode::kOk && !context_->store->list_step(&scan_)) {
    return wait_for_turn();
  }
  body_.set_more(scan_.found.size() == scan_.limit);
  next();
}

/// Opens the next object for its raw key; objects that vanished meanwhile are left out.
void ListOp::next() {
  for (; at_ < scan_.found.size() && cancelled_ == StatusCode::kOk; ++at_) {
    reader_ = std::make_unique<ChunkReader>();
    if (context_->store
            ->open_reader(ns_, scan_.found[at_].key,
                          static_cast<uint64_t>(session_->peer()) * kLanes, reader_.get(), &opened_)
            .ok())
      return;
  }
  reader_.reset();
  if (cancelled_ == StatusCode::kOk && body_.more() && body_.entries().empty()) {
    return scan_behind();
  }
  body_.mutable_outcome()->set_code(static_cast<int32_t>(cancelled_));
  reply(MessageKind::list_reply, body_);
  finished(cancelled_);
}

/// Without an entry the client would not know where to go on.
void ListOp::scan_behind() {
  scan_.after = scan_.found.back().key;
  scan_.found.clear();
  scan_.next = 0;
  at_ = 0;
  wait_for_turn();
}

void ListOp::opened(bool ok) {
  if (ok) {
    const ChunkStore::Listed& listed = scan_.found[at_];
    WireInfo info;
    info.code = StatusCode::kOk;
    info.tiers = listed.info.tiers;
    info.sections = static_cast<uint16_t>(listed.info.sections);
    info.load_us = context_->store->load_us(listed.info.tiers);
    info.bytes = listed.info.logical_bytes;
    info.generation = listed.info.generation;
    proto::ListReply::Entry* entry = body_.add_entries();
    entry->set_key(pack_keys({&listed.key, 1}));
    entry->set_raw_key(reader_->header().raw_key);
    pack_info(info, entry->mutable_info());
  }
  ++at_;
  next();
}
}  // namespace terrace
