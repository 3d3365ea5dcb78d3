#include "server/node/generate_op.h"

#include <string>

#include "base/limits.h"

namespace terrace {
namespace {

Status too_many_rights() {
  return error(StatusCode::kResourceExhausted, "generate: this session holds " +
                                                   std::to_string(kRightsPerSessionMax) +
                                                   " rights to compute, the limit: release some");
}
}  // namespace

StatusOr<std::unique_ptr<GenerateOp>> GenerateOp::create(NodeContext* context, Session* session,
                                                         uint64_t tag,
                                                         const proto::GenerateRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(request.key(), 1));
  if (keys.size() != 1) {
    return error(StatusCode::kInvalidArgument,
                 "generate: a key has 32 bytes, not " + std::to_string(request.key().size()));
  }
  if (request.hold_ms() == 0 || milliseconds(request.hold_ms()) > kRightHoldLongest) {
    return error(StatusCode::kInvalidArgument,
                 "generate: hold of " + std::to_string(request.hold_ms()) + " ms; 1 to " +
                     std::to_string(kRightHoldLongest.count()));
  }
  if (session->rights() >= kRightsPerSessionMax) {
    return too_many_rights();
  }
  auto op = std::unique_ptr<GenerateOp>(new GenerateOp(context, session, tag));
  op->ns_ = ns->id;
  op->key_ = keys[0];
  op->deadline_ms_ = request.deadline_ms();
  op->hold_max_ = milliseconds(request.hold_ms());
  return op;
}

void GenerateOp::start() {
  arm_deadline(deadline_ms_);
  const Status started = context_->store->generate_or_wait(
      ns_, key_, context_->config->operation_deadline_max, hold_max_, &right_, &answered_);
  if (!started.ok()) answered(started);
}

void GenerateOp::cancel(StatusCode why) {
  context_->store->cancel_wait(&right_, why);  // nothing when the answer is on its way
}

void GenerateOp::answered(const Status& waited) {
  Status result = waited;
  if (right_ && session_->rights() >= kRightsPerSessionMax) {
    right_ = GenerationRight();  // another caller's turn
    result = too_many_rights();
  }
  proto::GenerateReply body;
  body.mutable_outcome()->set_code(static_cast<int32_t>(result.code()));
  body.mutable_outcome()->set_message(result.message());
  if (right_) {
    body.set_token(right_.token());
    session_->keep_right(tag(), std::move(right_));
  }
  reply(MessageKind::generate_reply, body);
  finished(result.code());
}
}  // namespace terrace
