// Views: one request, and a reply whose every place is checked (client/view_reply.h).
#include <string>
#include <utility>
#include <vector>

#include "client/operations.h"
#include "client/request_op.h"
#include "client/view_reply.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

Status malformed(const std::string& what) {
  return error(StatusCode::kInternal, "node's reply to a view: " + what);
}

Status read_views(const std::vector<ChunkKey>& keys, bool device_wanted, Operations* operations,
                  uint32_t node, const Message& message, Completion* out) {
  proto::ViewReply reply;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return malformed("does not parse");
  }
  const StatusCode outcome = status_code_of(reply.outcome().code());
  if (outcome != StatusCode::kOk) return error(outcome, "node: " + reply.outcome().message());
  if (reply.codes().size() != keys.size()) {
    return malformed(std::to_string(reply.codes().size()) + " codes for " +
                     std::to_string(keys.size()) + " keys");
  }
  // Device addresses are no memory that a CPU may read.
  if (reply.has_device() != device_wanted && reply.views_size() > 0) {
    return malformed(device_wanted ? "no device memory (an older node?)" : "device memory");
  }
  std::shared_ptr<const OpenDevice> device;
  if (device_wanted && reply.has_device()) {
    TERRACE_ASSIGN_OR_RETURN(device, operations->lent_device(node, reply.device()));
  }
  std::vector<std::pair<size_t, Views::Held>> shown;  // by key
  for (size_t i = 0; i < keys.size(); ++i) {
    const StatusCode code = status_code_of(static_cast<unsigned char>(reply.codes()[i]));
    out->key_codes.push_back(code);
    out->views.emplace_back();
    if (code == StatusCode::kOk) {
      const auto next = static_cast<int>(shown.size());
      if (next == reply.views_size()) return malformed("fewer views than it says");
      Views::Held held;
      held.key = keys[i];
      held.peer = operations->peer(node);
      held.device = device;
      const auto lent = [operations, node](uint64_t file) {
        return operations->lent_file(node, file);
      };
      TERRACE_RETURN_IF_ERROR(read_view(reply.views(next), lent, &held));
      out->views.back().on_device = device != nullptr;
      out->views.back().sections = held.sections;
      for (const ViewedSection& section : held.sections) out->bytes += section.spec.bytes;
      shown.emplace_back(i, std::move(held));
    } else {
      if (code == StatusCode::kNotFound) operations->counters()->misses.add();
      const std::string said = reply.outcome().message();
      out->status.update(error(code, "key " + std::to_string(i) + " of " +
                                         std::to_string(keys.size()) + ": " + name_of(code) +
                                         (said.empty() ? "" : ": " + said)));
    }
  }
  // A reply that is half right is not right: before all of it is read, nothing counts as shown.
  for (auto& [i, held] : shown) out->views[i].id = operations->views()->add(std::move(held));
  return ok_status();
}
}  // namespace

std::unique_ptr<ClientOp> make_view(std::span<const ChunkKey> keys, bool device) {
  auto request = std::make_shared<proto::ViewRequest>();
  request->set_device(device);
  request->set_keys(pack_keys(keys));
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::view_request;
  parts.reply_kind = MessageKind::view_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  const std::vector<ChunkKey> copies(keys.begin(), keys.end());
  parts.read = [copies, device](Operations* operations, uint32_t node, const Message& message,
                                Completion* out) {
    return read_views(copies, device, operations, node, message, out);
  };
  parts.give_up = [count = keys.size()](StatusCode code, Completion* out) {
    out->key_codes.assign(count, code);
    out->views.resize(count);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::vector<uint64_t> view_ids_of(const Message& message) {
  proto::ViewReply reply;
  std::vector<uint64_t> ids;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) return ids;
  for (const proto::ViewReply::View& view : reply.views()) ids.push_back(view.id());
  return ids;
}
}  // namespace terrace
