#include "tools/cli/tier_objects.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/limits.h"
#include "proto/message_kind.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"

namespace terrace {

StatusOr<TierObjects> TierObjects::name(const Globals& globals, const std::string& ns,
                                        const std::vector<std::string>& names) {
  TierObjects out;
  out.tenant = globals.tenant;
  out.ns = ns;
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, connect(globals));
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId id, open_existing(globals, client.get(), ns));
  for (const std::string& each : names) {
    TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(*client, id, each));
    out.keys.push_back(key);
  }
  return out;
}

proto::ObjectsOf TierObjects::message(size_t first, size_t count) const {
  proto::ObjectsOf out;
  out.set_tenant(tenant);
  out.set_name(ns);
  out.set_keys(pack_keys(std::span(keys).subspan(first, count)));
  return out;
}

StatusOr<std::vector<Status>> on_owners(
    const Globals& globals, const TierObjects& objects,
    const std::function<StatusOr<proto::ObjectsReply>(const std::string& node,
                                                      const proto::ObjectsOf& batch)>& call) {
  std::vector<Status> results(objects.keys.size(), StatusCode::kNotFound);
  for (const std::string& node : node_names(globals)) {
    for (size_t first = 0; first < objects.keys.size(); first += kKeysPerRequestMax) {
      const size_t count = std::min<size_t>(kKeysPerRequestMax, objects.keys.size() - first);
      TERRACE_ASSIGN_OR_RETURN(const proto::ObjectsReply reply,
                               call(node, objects.message(first, count)));
      for (size_t i = 0; i < count && i < static_cast<size_t>(reply.results_size()); ++i) {
        const proto::ObjectsReply::Result& one = reply.results(static_cast<int>(i));
        Status& known = results[first + i];
        if (known.code() != StatusCode::kNotFound) continue;
        known = error(status_code_of(one.code()), one.message());
      }
    }
  }
  return results;
}

int report_objects(const Globals& globals, const std::string& command,
                   const std::vector<std::string>& names, const std::vector<Status>& results,
                   const std::string& done) {
  bool all = true;
  Json objects = Json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    const Status& result = results[i];
    all &= result.ok();
    Json object = {{"name", names[i]}, {"done", result.ok()}};
    if (!result.ok()) object["error"] = json_of(result);
    objects.push_back(object);
    if (globals.json) continue;
    const std::string why = result.code() == StatusCode::kNotFound && result.message().empty()
                                ? "not there"
                                : result.to_string();
    std::printf("%s  %s\n", names[i].c_str(), result.ok() ? done.c_str() : why.c_str());
  }
  if (globals.json) print_json({{"command", command}, {"ok", all}, {"objects", objects}});
  return all ? kExitOk : kExitNo;
}

std::string hex_of(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}
}  // namespace terrace
