// Single flight over all nodes: one request, whose answer may be a right.
#include "base/limits.h"
#include "client/operations.h"
#include "client/request_op.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

Status read_generate(uint32_t node, const Message& message, Completion* out) {
  proto::GenerateReply reply;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return error(StatusCode::kInternal, "node's reply of " + std::to_string(message.body.size()) +
                                            " bytes does not parse");
  }
  const StatusCode code = status_code_of(reply.outcome().code());
  if (code != StatusCode::kOk) return error(code, "node: " + reply.outcome().message());
  if (reply.token() != 0) out->right = {message.tag, reply.token(), node};
  return ok_status();
}
}  // namespace

std::unique_ptr<ClientOp> make_generate(const ChunkKey& key, uint32_t deadline_ms,
                                        uint32_t hold_ms) {
  auto request = std::make_shared<proto::GenerateRequest>();
  request->set_key(pack_keys({&key, 1}));
  request->set_deadline_ms(deadline_ms);
  request->set_hold_ms(hold_ms);
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::generate_request;
  parts.reply_kind = MessageKind::generate_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  parts.read = [](Operations*, uint32_t node, const Message& message, Completion* out) {
    return read_generate(node, message, out);
  };
  parts.give_up = [](StatusCode, Completion*) {};
  return std::make_unique<RequestOp>(std::move(parts));
}

bool grants_right(const Message& message) {
  Completion granted;
  return read_generate(0, message, &granted).ok() && granted.right;
}

void Operations::release_right(const ComputeRight& right) {
  if (!right || right.node >= nodes_.size() || !session(right.node)->up()) return;
  proto::ReleaseRight body;
  body.set_right(right.id);
  send_hint(right.node, MessageKind::release_right, body);
}
}  // namespace terrace
