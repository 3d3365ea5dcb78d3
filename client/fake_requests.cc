// What a fake node answers to requests that move no bytes.
#include "base/limits.h"
#include "client/fake_node.h"

namespace terrace {

WireInfo FakeNode::info_of(const ChunkKey& key) const {
  WireInfo info;
  const auto found = objects_.find(key);
  if (found != objects_.end()) {
    info.code = StatusCode::kOk;
    info.bytes = found->second.size();
  }
  return info;
}

void FakeNode::lookup(PeerId peer, uint64_t tag, const std::string& body) {
  proto::LookupRequest request;
  TERRACE_CHECK(request.ParseFromString(body));
  proto::LookupReply out;
  const auto keys = *view_keys(request.keys(), kKeysPerRequestMax);
  for (const ChunkKey& key : keys) pack_info(info_of(key), out.mutable_infos());
  if (request.lease_ms() > 0) out.set_lease(++leases_);
  reply(peer, MessageKind::lookup_reply, tag, out.SerializeAsString());
}

/// Of one group, whose chunks restore a prefix when all before them are there.
void FakeNode::match(PeerId peer, uint64_t tag, const std::string& body) {
  proto::MatchRequest request;
  TERRACE_CHECK(request.ParseFromString(body));
  proto::MatchReply out;
  const auto keys = *view_keys(request.groups(0).keys(), kKeysPerRequestMax);
  std::string bits((keys.size() + 7) / 8, '\0');
  for (uint32_t i = 0; i < keys.size(); ++i) {
    const WireInfo info = info_of(keys[i]);
    pack_info(info, out.mutable_infos());
    if (info.code != StatusCode::kOk || out.longest() != i) continue;
    out.set_longest(i + 1);
    bits[i / 8] = static_cast<char>(bits[i / 8] | 1 << (i % 8));
  }
  out.set_restorable(bits);
  if (request.lease_ms() > 0) out.set_lease(++leases_);
  reply(peer, MessageKind::match_reply, tag, out.SerializeAsString());
}

void FakeNode::erase(PeerId peer, uint64_t tag, const std::string& body) {
  proto::EraseRequest request;
  TERRACE_CHECK(request.ParseFromString(body));
  proto::EraseReply out;
  const auto keys = *view_keys(request.keys(), kKeysPerRequestMax);
  for (const ChunkKey& key : keys) {
    out.mutable_codes()->push_back(
        static_cast<char>(objects_.erase(key) > 0 ? StatusCode::kOk : StatusCode::kNotFound));
  }
  reply(peer, MessageKind::erase_reply, tag, out.SerializeAsString());
}

void FakeNode::list(PeerId peer, uint64_t tag, const std::string& body) {
  proto::ListRequest request;
  TERRACE_CHECK(request.ParseFromString(body));
  proto::ListReply out;
  auto at = objects_.begin();
  if (!request.after().empty()) at = objects_.upper_bound((*view_keys(request.after(), 1))[0]);
  for (; at != objects_.end() && out.entries_size() < static_cast<int>(request.limit()); ++at) {
    proto::ListReply::Entry* entry = out.add_entries();
    entry->set_key(pack_keys({&at->first, 1}));
    pack_info(info_of(at->first), entry->mutable_info());
  }
  out.set_more(at != objects_.end());
  reply(peer, MessageKind::list_reply, tag, out.SerializeAsString());
}

}  // namespace terrace
