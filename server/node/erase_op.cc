#include "server/node/erase_op.h"

#include "base/limits.h"

namespace terrace {

StatusOr<std::unique_ptr<EraseOp>> EraseOp::create(NodeContext* context, Session* session,
                                                   uint64_t tag,
                                                   const proto::EraseRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(request.keys(), kKeysPerRequestMax));
  auto op = std::unique_ptr<EraseOp>(new EraseOp(context, session, tag));
  op->ns_ = ns->id;
  op->keys_.assign(keys.begin(), keys.end());
  return op;
}

void EraseOp::start() {
  codes_.assign(keys_.size(), '\0');
  left_ = 1;  // this function itself
  for (size_t i = 0; i < keys_.size(); ++i) {
    ones_.push_back(std::make_unique<One>(this, i));
    const Status started = context_->store->erase(ns_, keys_[i], ones_.back().get());
    if (started.ok()) {
      ++left_;
    } else {
      codes_[i] = static_cast<char>(started.code());
    }
  }
  if (--left_ == 0) finish();
}

void EraseOp::one_done(size_t index, StatusCode code) {
  codes_[index] = static_cast<char>(code);
  if (--left_ == 0) finish();
}

void EraseOp::finish() {
  proto::EraseReply body;
  body.mutable_outcome()->set_code(0);
  body.set_codes(codes_);
  reply(MessageKind::erase_reply, body);
  finished(StatusCode::kOk);
}
}  // namespace terrace
