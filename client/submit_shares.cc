// From the parts of an operation, one per node that owns some of its keys, to one OpId.
#include <string>

#include "client/core.h"

namespace terrace {

bool Client::Core::all_skipped() const {
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!skipped(node)) return false;
  }
  return true;
}

Status Client::Core::check_reachable(std::span<const Share> shares) const {
  std::string names;
  for (const Share& share : shares) {
    if (!skipped(share.node())) return ok_status();
    names += (names.empty() ? "" : ", ") + config_.endpoints[share.node()];
  }
  return error(StatusCode::kUnavailable,
               "node " + names + " is skipped: it failed; a probe is under way");
}

StatusOr<OpId> Client::Core::submit_shares(Join::Parts join, NamespaceId ns,
                                           const OpOptions& options, const MakePart& make,
                                           std::vector<uint32_t>* put_sections) {
  TERRACE_RETURN_IF_ERROR(check_reachable(join.shares));
  std::vector<std::unique_ptr<ClientOp>> parts;
  for (const Share& share : join.shares) {
    StatusOr<std::unique_ptr<ClientOp>> part = make(share);
    if (!part.ok()) return part.status();
    parts.push_back(*std::move(part));
    parts.back()->head.node = share.node();
  }
  std::vector<uint32_t> sections;
  if (put_sections != nullptr) sections = std::move(*put_sections);
  if (parts.size() == 1) {
    std::unique_ptr<ClientOp> whole = std::move(parts[0]);
    return submit(std::move(whole), ns, options, std::move(sections));
  }
  TERRACE_ASSIGN_OR_RETURN(const ClientOp::Head head, begin(ns, options, std::move(sections)));
  struct Box {
    Join join;
    std::vector<std::unique_ptr<ClientOp>> parts;
  };
  auto box = std::make_shared<Box>(Box{Join(std::move(join)), std::move(parts)});
  const Status posted = loop_->post([this, head, box] {
    operations_->submit_joined(head, std::move(box->join), std::move(box->parts));
  });
  if (!posted.ok()) {
    completions_.abandon(head.id);
    return posted;
  }
  counters_.operations.add();
  return head.id;
}

StatusOr<OpId> Client::Core::submit_keys(
    NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options,
    const std::function<std::unique_ptr<ClientOp>(std::span<const ChunkKey>)>& make,
    std::function<void(Completion*)> conclude) {
  Join::Parts join{keys.size(), split(owners_, keys), false, std::move(conclude)};
  const MakePart of_share = [&](const Share& share) -> StatusOr<std::unique_ptr<ClientOp>> {
    if (share.size() == keys.size()) return make(keys);
    std::vector<ChunkKey> own;
    own.reserve(share.size());
    for (const size_t i : share) own.push_back(keys[i]);
    return make(own);
  };
  return submit_shares(std::move(join), ns, options, of_share);
}
}  // namespace terrace
