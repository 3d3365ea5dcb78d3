#include "tools/cli/connection.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <map>

#include "base/clock.h"
#include "proto/control.grpc.pb.h"
#include "tools/cli/admin_call.h"

namespace terrace {
namespace {
constexpr size_t kTokenBytesMax = 4096;
constexpr std::string_view kKeyPrefix = "key:";
// Past an operation's deadline a wait is only for the node's last word.
constexpr milliseconds kGrace{2'000};

}  // namespace

StatusOr<std::string> read_token(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  if (!file) return error(StatusCode::kNotFound, "token file " + path + ": cannot be read");
  std::string token(kTokenBytesMax + 1, '\0');
  file.read(token.data(), static_cast<std::streamsize>(token.size()));
  token.resize(static_cast<size_t>(file.gcount()));
  const size_t begin = token.find_first_not_of(" \t\r\n");
  const size_t end = token.find_last_not_of(" \t\r\n");
  if (begin == std::string::npos || token.size() > kTokenBytesMax) {
    return error(StatusCode::kInvalidArgument, "token file " + path +
                                                   ": want one token of at most " +
                                                   std::to_string(kTokenBytesMax) + " bytes");
  }
  return token.substr(begin, end - begin + 1);
}

Status from_grpc(const grpc::Status& status, const std::string& node) {
  if (status.ok()) return ok_status();
  return error(status_code_of(static_cast<int32_t>(status.error_code())),
               "node " + node + ": " + status.error_message());
}

Status end_of_stream(const grpc::Status& finished, bool over, const std::string& node) {
  TERRACE_RETURN_IF_ERROR(from_grpc(finished, node));
  if (over) return ok_status();
  return error(StatusCode::kUnavailable, "node " + node + ": it is shutting down");
}

StatusOr<std::string> node_of_device(const Globals& globals) {
  const std::vector<std::string> nodes = node_names(globals);
  if (nodes.size() == 1) return nodes[0];
  return error(StatusCode::kInvalidArgument, "a device is of one node: name that one with --node");
}

StatusOr<AdminCall> begin_admin_call(const Globals& globals, const std::string& node,
                                     bool endless) {
  TERRACE_ASSIGN_OR_RETURN(const std::string token, read_token(globals.token_file));
  AdminCall call;
  call.channel = grpc::CreateChannel(node, grpc::InsecureChannelCredentials());
  call.context = std::make_unique<grpc::ClientContext>();
  const gpr_timespec timeout = gpr_time_from_millis(globals.timeout_ms, GPR_TIMESPAN);
  if (!endless) call.context->set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), timeout));
  if (!token.empty()) call.context->AddMetadata("authorization", "Bearer " + token);
  return call;
}

Fingerprint files_fingerprint() {
  Fingerprint fingerprint;
  fingerprint.model_id = "files";
  return fingerprint;
}

std::vector<std::string> node_names(const Globals& globals) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= globals.node.size();) {
    const size_t comma = std::min(globals.node.find(',', at), globals.node.size());
    names.push_back(globals.node.substr(at, comma - at));
    at = comma + 1;
  }
  return names;
}

StatusOr<ClientConfig> client_config(const Globals& globals) {
  ClientConfig config;
  config.endpoints = node_names(globals);
  config.tenant = globals.tenant;
  config.data_path = globals.data_path;
  config.cpus = globals.client_cpus;
  config.poll_for = globals.client_poll_for;
  TERRACE_ASSIGN_OR_RETURN(config.token, read_token(globals.token_file));
  config.default_deadline = milliseconds(globals.timeout_ms);
  config.open_timeout = std::min(milliseconds(globals.timeout_ms), config.open_timeout);
  return config;
}

StatusOr<std::unique_ptr<Client>> connect(const Globals& globals) {
  TERRACE_ASSIGN_OR_RETURN(const ClientConfig config, client_config(globals));
  return Client::open(config);
}

StatusOr<NamespaceId> open_existing(const Globals& globals, Client* client,
                                    const std::string& name) {
  if (name == kFilesNamespace) return client->open_namespace(name, files_fingerprint());
  TERRACE_ASSIGN_OR_RETURN(const auto known, list_namespaces(globals));
  std::string names;
  for (const auto& entry : known) {
    if (entry.name() != name) {
      names += (names.empty() ? "" : ", ") + entry.name();
      continue;
    }
    TERRACE_ASSIGN_OR_RETURN(const Fingerprint stored, parse_fingerprint(entry.fingerprint()));
    return client->open_namespace(name, stored);
  }
  return error(StatusCode::kNotFound, "no namespace \"" + name + "\" of tenant \"" +
                                          globals.tenant +
                                          "\"; there are: " + (names.empty() ? "none" : names));
}

StatusOr<ChunkKey> key_for(const Client& client, NamespaceId ns, const std::string& text) {
  if (!text.starts_with(kKeyPrefix)) return client.raw_key(ns, text);
  const std::string_view hex = std::string_view(text).substr(kKeyPrefix.size());
  ChunkKey key;
  bool good = hex.size() == key.digest.size() * 2;
  for (size_t i = 0; good && i < key.digest.size(); ++i) {
    uint8_t value = 0;
    const char* const end = hex.data() + 2 * i + 2;
    good = std::from_chars(end - 2, end, value, 16).ptr == end;
    key.digest[i] = std::byte{value};
  }
  if (good) return key;
  return error(StatusCode::kInvalidArgument, "\"" + text + "\": want key: and 64 hex digits");
}

StatusOr<Completion> finish(Client* client, const StatusOr<OpId>& op, const Globals& globals) {
  if (!op.ok()) return op.status();
  return client->wait(*op, milliseconds(globals.timeout_ms) + kGrace);
}

StatusOr<proto::NodeStatusReply> node_status(const Globals& globals) {
  if (node_names(globals).size() > 1) {
    return error(StatusCode::kInvalidArgument,
                 "--node " + globals.node + ": this asks one node; name one");
  }
  return admin_call<proto::Admin>(globals, globals.node, proto::NodeStatusRequest(),
                                  &proto::Admin::Stub::NodeStatus);
}

uint64_t counter_of(const proto::NodeStatusReply& status, const std::string& name) {
  const auto found = status.counters().find(name);
  return found == status.counters().end() ? 0 : found->second;
}

StatusOr<std::vector<proto::ListNamespacesReply::Namespace>> list_namespaces(
    const Globals& globals) {
  proto::ListNamespacesRequest request;
  request.set_tenant(globals.tenant);
  std::map<std::string, proto::ListNamespacesReply::Namespace> by_name;
  Status refused;
  bool answered = false;
  for (const std::string& node : node_names(globals)) {
    const auto reply =
        admin_call<proto::Admin>(globals, node, request, &proto::Admin::Stub::ListNamespaces);
    refused.update(reply.status());
    if (!reply.ok()) continue;
    answered = true;
    for (const auto& each : reply->namespaces()) {
      const auto [entry, is_new] = by_name.try_emplace(each.name(), each);
      if (is_new) continue;
      entry->second.set_objects(entry->second.objects() + each.objects());
      entry->second.set_bytes(entry->second.bytes() + each.bytes());
    }
  }
  if (!answered) return refused;
  std::vector<proto::ListNamespacesReply::Namespace> all;
  for (const auto& [name, entry] : by_name) all.push_back(entry);
  return all;
}

std::string tiers_text(TierMask tiers) {
  std::string text;
  for (size_t i = 0; i < kTierCount; ++i) {
    const Tier tier = static_cast<Tier>(i);
    if ((tiers & mask_of(tier)) != 0)
      text += (text.empty() ? "" : ", ") + std::string(name_of(tier));
  }
  return text.empty() ? "none" : text;
}
}  // namespace terrace
