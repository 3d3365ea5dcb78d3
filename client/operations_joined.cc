// Operations over several nodes: one part for each node that owns some of the keys, joined under
// the id that the engine knows.
#include "client/operations.h"

namespace terrace {
namespace {

// Parts of joined operations have ids of their own, which no engine's operation has.
constexpr uint64_t kPartBit = uint64_t{1} << 63;
}  // namespace

void Operations::submit_joined(const ClientOp::Head& head, Join join,
                               std::vector<std::unique_ptr<ClientOp>> parts) {
  TERRACE_CHECK(parts.size() == join.parts());
  std::vector<OpId> ids;
  for (uint32_t part = 0; part < parts.size(); ++part) {
    const uint32_t node = parts[part]->head.node;
    parts[part]->head = head;
    parts[part]->head.id = OpId{kPartBit | next_part_++};
    parts[part]->head.node = node;
    parts[part]->head.joined = head.id;
    parts[part]->head.part = part;
    ids.push_back(parts[part]->head.id);
  }
  joined_.emplace(static_cast<uint64_t>(head.id), Joined{head, std::move(join), std::move(ids)});
  for (std::unique_ptr<ClientOp>& part : parts) submit(std::move(part));  // the last may end it
}

void Operations::set_layers(const ClientOp& op, uint32_t layers) {
  if (op.head.joined == OpId{}) return parts_.completions->set_layers(op.head.id, layers);
  Join& join = joined_.at(static_cast<uint64_t>(op.head.joined)).join;
  const std::optional<uint32_t> ready = join.layers(op.head.part, layers);
  if (ready) parts_.completions->set_layers(op.head.joined, *ready);
}

void Operations::part_finished(const ClientOp& part, Completion completion) {
  const auto found = joined_.find(static_cast<uint64_t>(part.head.joined));
  TERRACE_CHECK(found != joined_.end());
  const ClientOp::Head head = found->second.head;
  Join& join = found->second.join;
  join.ended(part.head.part, session(part.head.node)->endpoint(), std::move(completion));
  if (!join.done()) {
    // First what is lost, then the layers that no longer wait for it.
    if (!join.lost().empty()) parts_.completions->lose(head.id, join.lost(), join.status());
    const std::optional<uint32_t> ready = join.layers_now();
    if (ready) parts_.completions->set_layers(head.id, *ready);
    return;
  }
  Completion whole = join.take();
  const LeaseId lease = leases_.bundle(join.leases());
  joined_.erase(found);
  whole.op = head.id;
  whole.user_tag = head.user_tag;
  whole.elapsed = loop()->now() - head.submitted;
  // A lease of chunks that make up no prefix is of no use to anybody.
  const bool useful = whole.restorable.empty() || whole.longest > 0;
  useful ? void(whole.lease = lease) : release(lease);
  publish(std::move(whole));
}
}  // namespace terrace
