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

template <class Reply>
Status parse(const Message& message, Reply* reply) {
  if (reply->ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return ok_status();
  }
  return error(StatusCode::kInternal,
               "node's reply of " + std::to_string(message.body.size()) + " bytes does not parse");
}

Status read_erase(size_t keys, const Message& message, Completion* out) {
  proto::EraseReply reply;
  TERRACE_RETURN_IF_ERROR(parse(message, &reply));
  TERRACE_RETURN_IF_ERROR(outcome_of(reply.outcome()));
  if (reply.codes().size() != keys) {
    return error(StatusCode::kInternal, "node answered with " +
                                            std::to_string(reply.codes().size()) + " codes for " +
                                            std::to_string(keys) + " keys");
  }
  Status first;
  for (size_t i = 0; i < keys; ++i) {
    const StatusCode code = status_code_of(static_cast<unsigned char>(reply.codes()[i]));
    out->key_codes.push_back(code);
    if (code == StatusCode::kOk) continue;
    first.update(error(
        code, "key " + std::to_string(i) + " of " + std::to_string(keys) + ": " + name_of(code)));
  }
  out->status = first;
  return ok_status();
}

ListPlace next_node(const ListPlace& place) {
  return {place.node + 1, place.nodes, ""};
}

Status read_list(const ListPlace& place, uint32_t limit, const Message& message, Completion* out) {
  proto::ListReply reply;
  TERRACE_RETURN_IF_ERROR(parse(message, &reply));
  TERRACE_RETURN_IF_ERROR(outcome_of(reply.outcome()));
  if (reply.entries_size() > static_cast<int>(limit)) {
    return error(StatusCode::kInternal, "node listed " + std::to_string(reply.entries_size()) +
                                            " objects; asked for " + std::to_string(limit));
  }
  for (const proto::ListReply::Entry& from : reply.entries()) {
    const auto key = view_keys(from.key(), 1);
    const auto info = unpack_infos(from.info(), 1);
    if (!key.ok() || key->size() != 1 || !info.ok() || info->size() != 1 ||
        from.raw_key().size() > kRawKeyBytesMax) {
      return error(StatusCode::kInternal, "node listed an object that does not parse");
    }
    const WireInfo& i = (*info)[0];
    out->entries.push_back(
        {(*key)[0], from.raw_key(), {i.code, i.tiers, i.sections, i.bytes, i.load_us}});
  }
  out->cursor = cursor_of(next_node(place));
  if (reply.more() && !out->entries.empty()) {
    const ChunkKey& last = out->entries.back().key;
    const std::string bytes(reinterpret_cast<const char*>(last.digest.data()), sizeof(last));
    out->cursor = cursor_of({place.node, place.nodes, bytes});
  }
  return ok_status();
}

int value_of(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}
}  // namespace

Status RequestOp::on_start(uint32_t ns) {
  tag_ = open_tag(0, false);
  return operations()->send(head.node, parts_.request_kind, tag_, parts_.request(ns));
}

void RequestOp::on_message(uint32_t, const Message& message) {
  if (ending()) return operations()->nobody_waits_for(head.node, message);
  Status read = message.kind == static_cast<uint16_t>(parts_.reply_kind)
                    ? parts_.read(operations(), head.node, message, &result_)
                    : error(StatusCode::kInternal,
                            "node answered with message kind " + std::to_string(message.kind));
  replied_ = read.ok();
  // What a reply that is half right has granted goes back.
  if (!replied_) operations()->nobody_waits_for(head.node, message);
  finish(read);
}

void RequestOp::fill(const Status& why, Completion* completion) {
  if (replied_) {
    const OpId id = completion->op;
    const uint64_t user_tag = completion->user_tag;
    *completion = std::move(result_);
    completion->op = id;
    completion->user_tag = user_tag;
    return;
  }
  completion->status = why;
  if (parts_.give_up) parts_.give_up(why.code(), completion);
}

std::unique_ptr<ClientOp> make_erase(std::span<const ChunkKey> keys) {
  auto request = std::make_shared<proto::EraseRequest>();
  request->set_keys(pack_keys(keys));
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::erase_request;
  parts.reply_kind = MessageKind::erase_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  parts.read = [count = keys.size()](Operations*, uint32_t, const Message& message,
                                     Completion* out) { return read_erase(count, message, out); };
  parts.give_up = [count = keys.size()](StatusCode code, Completion* out) {
    out->key_codes.assign(count, code);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::unique_ptr<ClientOp> make_list(const ListPlace& place, uint32_t limit) {
  auto request = std::make_shared<proto::ListRequest>();
  request->set_after(place.after);
  request->set_limit(limit);
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::list_request;
  parts.reply_kind = MessageKind::list_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  parts.read = [place, limit](Operations*, uint32_t, const Message& message, Completion* out) {
    return read_list(place, limit, message, out);
  };
  // The walk goes on behind a node that fails.
  parts.give_up = [place](StatusCode, Completion* out) {
    out->cursor = cursor_of(next_node(place));
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::string cursor_of(const ListPlace& place) {
  if (place.node == place.nodes) return "";
  std::string cursor = place.nodes == 1 ? "" : std::to_string(place.node) + ":";
  for (const char byte : place.after) {
    constexpr const char* kDigits = "0123456789abcdef";
    cursor += kDigits[static_cast<unsigned char>(byte) >> 4];
    cursor += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return cursor;
}

StatusOr<ListPlace> parse_cursor(const std::string& cursor, uint32_t nodes) {
  ListPlace place{0, nodes, ""};
  size_t at = 0;
  if (nodes > 1 && !cursor.empty()) {
    for (; at < cursor.size() && at < 2 && cursor[at] != ':'; ++at) {
      place.node = place.node * 10 + static_cast<uint32_t>(value_of(cursor[at]));
    }
    ++at;
  }
  for (; at + 1 < cursor.size() && place.after.size() < sizeof(ChunkKey); at += 2) {
    const int value = value_of(cursor[at]) * 16 + value_of(cursor[at + 1]);
    place.after += static_cast<char>(value);
  }
  const bool at_a_key = place.after.empty() || place.after.size() == sizeof(ChunkKey);
  // What was read is right when it writes the same cursor.
  const bool same = cursor.empty() || cursor_of(place) == cursor;
  if (place.node < nodes && at_a_key && same) return place;
  return error(StatusCode::kInvalidArgument,
               "list: a cursor is empty or comes from a completion of a client of as many nodes");
}
}  // namespace terrace
