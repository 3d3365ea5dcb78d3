#include "tools/cli/tier_objects.h"

#include <memory>

#include "proto/message_kind.h"
#include "tools/cli/connection.h"

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
