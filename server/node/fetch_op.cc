#include "server/node/fetch_op.h"

#include "base/bytes.h"
#include "base/limits.h"
#include "proto/request_places.h"

namespace terrace {
namespace {

/// Fragments that reach past the object can never be filled.
bool fits(const LayerSend::Item& item) {
  const auto& runs = item.map.runs();
  return runs.empty() || runs.back().end() <= item.reader.layout().logical_bytes();
}
}  // namespace

FetchOp::FetchOp(NodeContext* context, Session* session, Lane lane, uint64_t tag)
    : Operation(context, session, OpKind::fetch, lane, tag),
      openings_(context,
                static_cast<uint64_t>(session->peer()) * kLanes + static_cast<uint64_t>(lane)),
      sent_(this) {}

StatusOr<std::unique_ptr<FetchOp>> FetchOp::create(NodeContext* context, Session* session,
                                                   uint64_t tag,
                                                   const proto::FetchRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  if (request.items_size() == 0 || request.items_size() > static_cast<int>(kKeysPerRequestMax)) {
    return error(StatusCode::kInvalidArgument, "fetch of " + std::to_string(request.items_size()) +
                                                   " keys: 1 to " +
                                                   std::to_string(kKeysPerRequestMax));
  }
  TERRACE_ASSIGN_OR_RETURN(const Lane lane, lane_of(request.priority()));
  auto op = std::unique_ptr<FetchOp>(new FetchOp(context, session, lane, tag));
  op->ns_ = ns->id;
  op->deadline_ms_ = request.deadline_ms();
  op->lease_lost_ = request.lease() != 0 && !session->leases().holds(request.lease());
  TERRACE_ASSIGN_OR_RETURN(RequestPlaces places, RequestPlaces::create(request.pool()));
  for (const proto::FetchRequest::Item& wanted : request.items()) {
    auto item = std::make_unique<LayerSend::Item>();
    TERRACE_ASSIGN_OR_RETURN(const auto key, view_keys(wanted.key(), 1));
    if (key.size() != 1) {
      return error(StatusCode::kInvalidArgument,
                   "fetch: a key has 32 bytes, not " + std::to_string(wanted.key().size()));
    }
    item->key = key[0];
    TERRACE_ASSIGN_OR_RETURN(item->map, places.next(wanted.fragments(), wanted.blocks()));
    op->items_.push_back(std::move(item));
  }
  return op;
}

void FetchOp::start() {
  arm_deadline(deadline_ms_);
  std::vector<ChunkKey> keys;
  for (const auto& item : items_) keys.push_back(item->key);
  context_->store->touch(ns_, keys);
  std::vector<Openings::Item> wanted;
  for (const auto& item : items_) wanted.push_back({item->key, &item->reader, &item->code});
  openings_.start(ns_, std::move(wanted), deadline_ms_, [this] { send(); });
}

void FetchOp::send() {
  for (const auto& item : items_) {
    if (item->code == StatusCode::kNotFound && lease_lost_) item->code = StatusCode::kAborted;
    if (item->code == StatusCode::kOk && !fits(*item)) item->code = StatusCode::kOutOfRange;
  }
  send_ = std::make_unique<LayerSend>(context_, *session_, lane(), tag(), &items_);
  if (cancelled_ != StatusCode::kOk) send_->cancel();
  send_->start(&sent_);
}

void FetchOp::cancel(StatusCode why) {
  if (cancelled_ != StatusCode::kOk) return;
  cancelled_ = why;
  if (send_ != nullptr) {
    send_->cancel();
  } else {
    openings_.cancel(why);
  }
}

void FetchOp::sent() {
  proto::FetchReply reply_body;
  StatusCode outcome = cancelled_;
  std::string codes;
  for (const auto& item : items_) {
    StatusCode code = item->code;
    // A cancelled send does not know which items it cut short.
    if (code == StatusCode::kOk && cancelled_ != StatusCode::kOk) code = cancelled_;
    if (code == StatusCode::kNotFound) context_->store->count_miss(ns_, item->key);
    codes += static_cast<char>(code);
    context_->counters->fetch_keys_by_code[static_cast<size_t>(code)].add();
  }
  ByteWriter tiers;
  for (size_t t = 0; t < kTierCount; ++t) {
    tiers.u64(send_->tier_bytes()[t]);
    context_->counters->fetch_bytes_by_tier[t].add(send_->tier_bytes()[t]);
  }
  reply_body.mutable_outcome()->set_code(static_cast<int32_t>(outcome));
  reply_body.set_codes(codes);
  reply_body.set_tier_bytes(tiers.take());
  reply_body.set_frames(send_->frames());
  reply(MessageKind::fetch_reply, reply_body);
  finished(outcome);
}
}  // namespace terrace
