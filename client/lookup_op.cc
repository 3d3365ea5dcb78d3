#include <string>

#include "base/limits.h"
#include "client/operations.h"
#include "client/request_op.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

Status outcome_of(const proto::Outcome& outcome) {
  const StatusCode code = status_code_of(outcome.code());
  return code == StatusCode::kOk ? ok_status() : error(code, "node: " + outcome.message());
}

Status malformed(const std::string& what) {
  return error(StatusCode::kInternal, "node's reply to a lookup: " + what);
}

Status read_infos(const std::string& packed, size_t keys, Operations* operations, Completion* out) {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<WireInfo> infos,
                           unpack_infos(packed, kKeysPerRequestMax));
  if (infos.size() != keys) {
    return malformed(std::to_string(infos.size()) + " infos for " + std::to_string(keys) + " keys");
  }
  for (const WireInfo& info : infos) {
    out->keys.push_back({info.code, info.tiers, info.sections, info.bytes, info.load_us});
    if (info.code == StatusCode::kNotFound) operations->counters()->misses.add();
  }
  return ok_status();
}

Status read_lookup(size_t keys, Operations* operations, uint32_t node, const Message& message,
                   Completion* out) {
  proto::LookupReply reply;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return malformed("does not parse");
  }
  TERRACE_RETURN_IF_ERROR(outcome_of(reply.outcome()));
  TERRACE_RETURN_IF_ERROR(read_infos(reply.infos(), keys, operations, out));
  out->lease = operations->lease_of(node, reply.lease());
  return ok_status();
}

Status read_match(size_t chunks, Operations* operations, uint32_t node, const Message& message,
                  Completion* out) {
  proto::MatchReply reply;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return malformed("does not parse");
  }
  TERRACE_RETURN_IF_ERROR(outcome_of(reply.outcome()));
  TERRACE_RETURN_IF_ERROR(read_infos(reply.infos(), chunks, operations, out));
  const std::string& bits = reply.restorable();
  if (bits.size() != (chunks + 7) / 8 || reply.longest() > chunks) {
    return malformed("a bitmap of " + std::to_string(bits.size()) + " bytes and length " +
                     std::to_string(reply.longest()) + " for " + std::to_string(chunks) +
                     " chunks");
  }
  out->restorable.resize(chunks);
  for (size_t i = 0; i < chunks; ++i) {
    out->restorable[i] = (static_cast<unsigned char>(bits[i / 8]) >> (i % 8) & 1) != 0;
  }
  out->longest = reply.longest();
  out->lease = operations->lease_of(node, reply.lease());
  return ok_status();
}

template <class Reply>
uint64_t lease_in(const Message& message) {
  Reply reply;
  const bool parsed =
      reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()));
  return parsed ? reply.lease() : 0;
}

template <class Request>
RequestOp::Parts parts_of(std::shared_ptr<Request> request, size_t keys) {
  RequestOp::Parts parts;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  parts.give_up = [keys](StatusCode code, Completion* out) {
    KeyInfo unknown;
    unknown.code = code;
    out->keys.assign(keys, unknown);
  };
  return parts;
}
}  // namespace

std::unique_ptr<ClientOp> make_lookup(std::span<const ChunkKey> keys, uint32_t lease_ms) {
  auto request = std::make_shared<proto::LookupRequest>();
  request->set_keys(pack_keys(keys));
  request->set_lease_ms(lease_ms);
  RequestOp::Parts parts = parts_of(std::move(request), keys.size());
  parts.request_kind = MessageKind::lookup_request;
  parts.reply_kind = MessageKind::lookup_reply;
  parts.read = [count = keys.size()](Operations* operations, uint32_t node, const Message& message,
                                     Completion* out) {
    return read_lookup(count, operations, node, message, out);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::unique_ptr<ClientOp> make_match(std::span<const GroupKeys> groups, uint32_t lease_ms) {
  auto request = std::make_shared<proto::MatchRequest>();
  for (const GroupKeys& group : groups) {
    proto::MatchRequest::Group* g = request->add_groups();
    g->set_keys(pack_keys(group.keys));
    g->set_trailing(group.trailing);
  }
  request->set_lease_ms(lease_ms);
  const size_t chunks = groups[0].keys.size();
  RequestOp::Parts parts = parts_of(std::move(request), chunks);
  parts.request_kind = MessageKind::match_request;
  parts.reply_kind = MessageKind::match_reply;
  parts.read = [chunks](Operations* operations, uint32_t node, const Message& message,
                        Completion* out) {
    return read_match(chunks, operations, node, message, out);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

uint64_t lease_granted_by(const Message& message) {
  switch (static_cast<MessageKind>(message.kind)) {
    case MessageKind::lookup_reply:
      return lease_in<proto::LookupReply>(message);
    case MessageKind::match_reply:
      return lease_in<proto::MatchReply>(message);
    default:
      return 0;
  }
}
}  // namespace terrace
