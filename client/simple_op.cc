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

Status read_list(uint32_t limit, const Message& message, Completion* out) {
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
  if (reply.more() && !out->entries.empty()) out->cursor = cursor_of(out->entries.back().key);
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
  return operations()->send(parts_.request_kind, tag_, parts_.request(ns));
}

void RequestOp::on_message(uint32_t, const Message& message) {
  if (ending()) return operations()->nobody_waits_for(message);
  Status read = message.kind == static_cast<uint16_t>(parts_.reply_kind)
                    ? parts_.read(operations(), message, &result_)
                    : error(StatusCode::kInternal,
                            "node answered with message kind " + std::to_string(message.kind));
  replied_ = read.ok();
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
  parts.read = [count = keys.size()](Operations*, const Message& message, Completion* out) {
    return read_erase(count, message, out);
  };
  parts.give_up = [count = keys.size()](StatusCode code, Completion* out) {
    out->key_codes.assign(count, code);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::unique_ptr<ClientOp> make_list(const std::string& after, uint32_t limit) {
  auto request = std::make_shared<proto::ListRequest>();
  request->set_after(after);
  request->set_limit(limit);
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::list_request;
  parts.reply_kind = MessageKind::list_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  parts.read = [limit](Operations*, const Message& message, Completion* out) {
    return read_list(limit, message, out);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::string cursor_of(const ChunkKey& key) {
  return key.hex();
}

StatusOr<std::string> parse_cursor(const std::string& cursor) {
  std::string bytes;
  for (size_t i = 0; i + 1 < cursor.size() && cursor.size() == 2 * sizeof(ChunkKey); i += 2) {
    const int high = value_of(cursor[i]);
    const int low = value_of(cursor[i + 1]);
    if (high < 0 || low < 0) break;
    bytes += static_cast<char>(high * 16 + low);
  }
  if (!cursor.empty() && bytes.size() != sizeof(ChunkKey)) {
    return error(StatusCode::kInvalidArgument,
                 "list: a cursor is empty or comes from a completion, 64 hex digits");
  }
  return bytes;
}
}  // namespace terrace
