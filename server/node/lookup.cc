#include "server/node/lookup.h"

#include <algorithm>

#include "base/limits.h"
#include "base/prefix_rule.h"

namespace terrace {
namespace {

template <class Reply>
void set_outcome(Reply* reply, const Status& status) {
  reply->mutable_outcome()->set_code(static_cast<int32_t>(status.code()));
  reply->mutable_outcome()->set_message(status.message());
}

StatusOr<const Namespace*> namespace_of(Session* session, uint32_t id) {
  const Namespace* ns = session->find_namespace(id);
  if (ns != nullptr) return ns;
  return error(StatusCode::kPermissionDenied,
               "namespace " + std::to_string(id) + " was not opened by this session");
}

WireInfo info_of(const NodeContext& context, const std::optional<ObjectInfo>& found) {
  if (!found) return {};
  WireInfo info;
  info.code = StatusCode::kOk;
  info.tiers = found->tiers;
  info.sections = static_cast<uint16_t>(found->sections);
  info.load_us = context.store->load_us(found->tiers);
  info.bytes = found->logical_bytes;
  info.generation = found->generation;
  return info;
}

/// Looks at every key, packs what is known, and returns which are there.
std::vector<bool> probe(NodeContext* context, NamespaceId ns, std::span<const ChunkKey> keys,
                        std::string* infos) {
  std::vector<bool> present(keys.size());
  uint64_t found_count = 0;
  if (infos != nullptr) infos->reserve(keys.size() * kWireInfoBytes);
  for (size_t i = 0; i < keys.size(); ++i) {
    const std::optional<ObjectInfo> found = context->store->find(ns, keys[i]);
    present[i] = found.has_value();
    found_count += present[i] ? 1 : 0;
    if (infos != nullptr) pack_info(info_of(*context, found), infos);
  }
  context->counters->keys_looked_up.add(keys.size());
  context->counters->keys_found.add(found_count);
  return present;
}

StatusOr<uint64_t> lease_of(NodeContext* context, Session* session, std::vector<Pin> pins,
                            uint32_t lease_ms) {
  if (pins.empty()) return uint64_t{0};
  const Nanos ttl = std::min<Nanos>(milliseconds(lease_ms), context->config->lease_max);
  StatusOr<uint64_t> lease = session->leases().grant(std::move(pins), ttl);
  if (lease.ok()) context->counters->leases_granted.add();
  return lease;
}

void pin_present(NodeContext* context, NamespaceId ns, std::span<const ChunkKey> keys,
                 const std::vector<bool>& present, std::vector<Pin>* pins) {
  for (size_t i = 0; i < present.size(); ++i) {
    if (!present[i]) continue;
    StatusOr<Pin> pin = context->store->pin(ns, keys[i]);
    if (pin.ok()) pins->push_back(*std::move(pin));
  }
}

Status fill(NodeContext* context, Session* session, const proto::LookupRequest& request,
            proto::LookupReply* reply) {
  TERRACE_ASSIGN_OR_RETURN(const Namespace* ns, namespace_of(session, request.namespace_id()));
  TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(request.keys(), kKeysPerRequestMax));
  const std::vector<bool> present = probe(context, ns->id, keys, reply->mutable_infos());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!present[i]) context->store->count_miss(ns->id, keys[i]);
  }
  if (request.lease_ms() == 0) return ok_status();
  std::vector<Pin> pins;
  pin_present(context, ns->id, keys, present, &pins);
  TERRACE_ASSIGN_OR_RETURN(const uint64_t lease,
                           lease_of(context, session, std::move(pins), request.lease_ms()));
  reply->set_lease(lease);
  return ok_status();
}

Status fill(NodeContext* context, Session* session, const proto::MatchRequest& request,
            proto::MatchReply* reply) {
  TERRACE_ASSIGN_OR_RETURN(const Namespace* ns, namespace_of(session, request.namespace_id()));
  std::vector<GroupPresence> groups;
  std::vector<std::span<const ChunkKey>> keys;
  size_t left = kKeysPerRequestMax;
  for (const proto::MatchRequest::Group& group : request.groups()) {
    TERRACE_ASSIGN_OR_RETURN(const auto group_keys, view_keys(group.keys(), left));
    left -= group_keys.size();
    if (!keys.empty() && group_keys.size() != keys[0].size()) {
      return error(StatusCode::kInvalidArgument,
                   "match_prefix: groups of " + std::to_string(keys[0].size()) + " and " +
                       std::to_string(group_keys.size()) + " keys; all need the same number");
    }
    std::string* infos = keys.empty() ? reply->mutable_infos() : nullptr;
    groups.push_back({probe(context, ns->id, group_keys, infos), group.trailing()});
    // Where the prefix ends is the miss; what stands behind it was not to be expected.
    const auto& present = groups.back().present;
    const auto end = std::find(present.begin(), present.end(), false);
    if (end != present.end()) {
      context->store->count_miss(ns->id, group_keys[static_cast<size_t>(end - present.begin())]);
    }
    keys.push_back(group_keys);
  }
  const std::vector<bool> restorable = restorable_prefixes(groups);
  std::string bits((restorable.size() + 7) / 8, '\0');
  const uint32_t longest = longest_prefix(restorable);
  for (size_t i = 0; i < restorable.size(); ++i) {
    if (!restorable[i]) continue;
    bits[i / 8] = static_cast<char>(static_cast<unsigned char>(bits[i / 8]) | (1u << (i % 8)));
  }
  reply->set_longest(longest);
  reply->set_restorable(bits);
  if (request.lease_ms() == 0 || longest == 0) return ok_status();
  std::vector<Pin> pins;
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].present.resize(longest);
    pin_present(context, ns->id, keys[g], groups[g].present, &pins);
  }
  TERRACE_ASSIGN_OR_RETURN(const uint64_t lease,
                           lease_of(context, session, std::move(pins), request.lease_ms()));
  reply->set_lease(lease);
  return ok_status();
}
}  // namespace

proto::LookupReply lookup(NodeContext* context, Session* session,
                          const proto::LookupRequest& request) {
  proto::LookupReply reply;
  set_outcome(&reply, fill(context, session, request, &reply));
  return reply;
}

proto::MatchReply match_prefix(NodeContext* context, Session* session,
                               const proto::MatchRequest& request) {
  proto::MatchReply reply;
  set_outcome(&reply, fill(context, session, request, &reply));
  return reply;
}
}  // namespace terrace
