#include "client/operations.h"

#include <algorithm>

#include "client/request_op.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
}  // namespace

Operations::~Operations() {
  TERRACE_CHECK(live_.empty() && joined_.empty());
}

void Operations::bind(Links* links, std::span<NodeSession* const> sessions) {
  links_ = links;
  transport_ = &links->all;
  for (NodeSession* session : sessions) {
    nodes_.emplace_back();
    nodes_.back().session = session;
  }
}

std::optional<uint32_t> Operations::node_of(PeerId peer) const {
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (session(node)->peer() == peer) return node;
  }
  return std::nullopt;
}

std::optional<uint32_t> Operations::heard_from(PeerId peer) {
  const std::optional<uint32_t> node = node_of(peer);
  if (node) session(*node)->heard();
  return node;
}

ClientOp* Operations::find(OpId op) {
  const auto found = live_.find(static_cast<uint64_t>(op));
  return found == live_.end() ? nullptr : found->second.get();
}

const Operations::Place* Operations::find_tag(uint32_t node, uint64_t tag) {
  const auto found = tags_.find(tag);
  // A node has no say about what was asked of another.
  if (found == tags_.end() || found->second.op->head.node != node) return nullptr;
  return &found->second;
}

void Operations::submit(std::unique_ptr<ClientOp> owned) {
  ClientOp* const op = owned.get();
  live_.emplace(static_cast<uint64_t>(op->head.id), std::move(owned));
  op->adopt(this);
  if (closed_) return op->end(error(StatusCode::kCancelled, "client closed"));
  switch (session(op->head.node)->state()) {
    case NodeSession::State::up:
      return start(op);
    case NodeSession::State::connecting:
      return;  // session_up() starts it
    case NodeSession::State::skipped:
    case NodeSession::State::closed:
      return op->end(error(StatusCode::kUnavailable, "node does not answer"));
  }
}

void Operations::start(ClientOp* op) {
  const StatusOr<uint32_t> ns = parts_.namespaces->wire(op->head.ns, op->head.node);
  if (!ns.ok()) return op->end(ns.status());
  op->start(*ns);
}

std::vector<ClientOp*> Operations::all(bool started, std::optional<uint32_t> node) {
  std::vector<ClientOp*> ops;
  for (auto& [id, op] : live_) {
    if (op->started() == started && node.value_or(op->head.node) == op->head.node) {
      ops.push_back(op.get());
    }
  }
  // Oldest first: a map's order is nobody's.
  std::sort(ops.begin(), ops.end(), [](const ClientOp* a, const ClientOp* b) {
    return a->head.submitted < b->head.submitted;
  });
  return ops;
}

void Operations::cancel(OpId id) {
  const Status why = error(StatusCode::kCancelled, "cancelled by the caller");
  if (ClientOp* op = find(id)) return op->end(why);
  const auto found = joined_.find(static_cast<uint64_t>(id));
  if (found == joined_.end()) return;
  const std::vector<OpId> parts = found->second.parts;  // the last to end takes the join with it
  for (const OpId part : parts) {
    if (ClientOp* op = find(part)) op->end(why);
  }
}

void Operations::source_ready(OpId id, uint32_t item, uint32_t first, uint32_t count) {
  if (ClientOp* op = find(id)) return op->source_ready(item, first, count);
  const auto found = joined_.find(static_cast<uint64_t>(id));
  if (found == joined_.end()) return;
  const auto [part, place] = found->second.join.place_of(item);
  if (ClientOp* op = find(found->second.parts[part])) op->source_ready(place, first, count);
}

void Operations::release(LeaseId lease) {
  for (const Leases::Lease& each : leases_.find(lease)) {
    if (each.node >= nodes_.size()) return;  // the caller made it up
    if (!session(each.node)->up() || session(each.node)->epoch() != each.epoch) {
      continue;  // it went with its session
    }
    proto::ReleaseLease body;
    body.set_lease(each.wire);
    send_hint(each.node, MessageKind::release_lease, body);  // else it ends by its own time
  }
  leases_.forget(lease);
}

void Operations::touch(NamespaceId ns, uint32_t node, std::span<const ChunkKey> keys) {
  const StatusOr<uint32_t> wire = parts_.namespaces->wire(ns, node);
  if (!session(node)->up() || !wire.ok()) return;
  proto::TouchKeys body;
  body.set_namespace_id(*wire);
  body.set_keys(pack_keys(keys));
  send_hint(node, MessageKind::touch_keys, body);
}

void Operations::send_release(uint32_t node, std::span<const uint64_t> node_ids) {
  if (node_ids.empty() || !session(node)->up()) return;  // they go with their session
  proto::ReleaseViews body;
  body.set_ids(pack_ids(node_ids));
  send_hint(node, MessageKind::release_views, body);
}

void Operations::release_view(const Views::Held& view) {
  if (const auto node = node_of(view.peer)) send_release(*node, {&view.node_id, 1});
}

void Operations::device_given_back(PeerId peer, uint64_t loan) {
  const std::optional<uint32_t> node = node_of(peer);
  if (!node) return;
  proto::DeviceLoan body;
  body.set_id(loan);
  send_hint(*node, MessageKind::give_back_device, body);
}

void Operations::send_hint(uint32_t node, MessageKind kind,
                           const google::protobuf::MessageLite& body) {
  const std::string bytes = body.SerializeAsString();
  const Status sent =
      transport_->send_message(peer(node), {static_cast<uint16_t>(kind), 0, bytes_of(bytes)});
  if (!sent.ok()) return;  // a hint: nobody waits for it
}

void Operations::close(std::function<void()> idle) {
  TERRACE_CHECK(!closed_);
  closed_ = true;
  idle_ = std::move(idle);
  for (const bool started : {true, false}) {
    for (ClientOp* op : all(started)) op->end(error(StatusCode::kCancelled, "client closed"));
  }
  if (live_.empty() && idle_) std::exchange(idle_, nullptr)();
}

uint64_t Operations::open_tag(ClientOp* op, uint32_t sub) {
  const uint64_t tag = next_tag_++;
  tags_[tag] = {op, sub};
  return tag;
}

Status Operations::send(uint32_t node, MessageKind kind, uint64_t tag,
                        const google::protobuf::MessageLite& body) {
  if (!session(node)->up()) return error(StatusCode::kUnavailable, "session is down");
  const std::string bytes = body.SerializeAsString();
  TERRACE_RETURN_IF_ERROR(transport_->send_message(
      peer(node), {static_cast<uint16_t>(kind), tag, bytes_of(bytes), is_urgent(kind)}));
  session(node)->sent();
  return ok_status();
}

void Operations::send_cancel(uint32_t node, uint64_t tag) {
  const Status sent = send(node, MessageKind::cancel_request, tag, proto::CancelRequest());
  if (!sent.ok()) return;  // the node's own deadline ends it there
}

void Operations::quiesce(uint32_t node, uint64_t tag, Op* op) {
  transport_->quiesce(peer(node), tag, op);
}

void Operations::schedule_slices(OpId op) {
  if (std::find(slices_.begin(), slices_.end(), op) != slices_.end()) return;
  slices_.push_back(op);
  if (slices_.size() == 1) loop()->defer([this] { run_slice(); });
}

/// First come, first served: puts that share the time all end together, and then the wire idles
/// while the node makes them durable.
void Operations::run_slice() {
  ClientOp* op = find(slices_.front());
  if (op == nullptr || !op->slice()) slices_.pop_front();
  if (!slices_.empty()) loop()->defer([this] { run_slice(); });
}

bool Operations::take_put_credit(const ClientOp& op) {
  Node& node = nodes_[op.head.node];
  if (node.put_credits > 0) {
    --node.put_credits;
    return true;
  }
  std::deque<OpId>& waiters = node.credit_waiters;
  if (std::find(waiters.begin(), waiters.end(), op.head.id) == waiters.end()) {
    waiters.push_back(op.head.id);
  }
  return false;
}

void Operations::give_put_credit(uint32_t index) {
  Node& node = nodes_[index];
  ++node.put_credits;
  if (node.credit_waiters.empty()) return;
  const OpId waiter = node.credit_waiters.front();
  node.credit_waiters.pop_front();
  loop()->defer([this, index, waiter] {
    if (ClientOp* op = find(waiter)) {
      op->on_credit();
    } else if (!nodes_[index].credit_waiters.empty()) {  // it ended: the turn is the next one's
      --nodes_[index].put_credits;
      give_put_credit(index);
    }
  });
}

void Operations::end_later(OpId id, Status why) {
  loop()->defer([this, id, why = std::move(why)] {
    if (ClientOp* op = find(id)) op->end(why);
  });
}

void Operations::finished(ClientOp* op, Completion completion) {
  const auto found = live_.find(static_cast<uint64_t>(op->head.id));
  TERRACE_CHECK(found != live_.end());
  // It is still on the stack: destroy it on the next turn.
  const std::shared_ptr<ClientOp> gone = std::move(found->second);
  live_.erase(found);
  loop()->defer([gone] {});
  op->head.joined == OpId{} ? publish(std::move(completion))
                            : part_finished(*op, std::move(completion));
  if (live_.empty() && idle_) std::exchange(idle_, nullptr)();
}

void Operations::publish(Completion completion) {
  count(completion);
  parts_.completions->publish(std::move(completion));
}

void Operations::count(const Completion& completion) {
  ClientCounters& c = *parts_.counters;
  switch (completion.status.code()) {
    case StatusCode::kOk:
      return c.completed_ok.add();
    case StatusCode::kNotFound:  // a miss is no failure; its keys are counted as misses
      return;
    case StatusCode::kDeadlineExceeded:
      return c.expired.add();
    case StatusCode::kCancelled:
      return c.cancelled.add();
    default:
      return c.failed.add();
  }
}

LeaseId Operations::lease_of(uint32_t node, uint64_t wire) const {
  return Leases::pack({node, session(node)->epoch(), wire});
}

uint64_t Operations::wire_of(LeaseId lease, uint32_t node) const {
  return leases_.wire_of(lease, node, session(node)->epoch());
}

void Operations::on_peer(PeerId, std::span<const std::byte, 16>) {}  // we never listen

void Operations::on_message(PeerId peer, const Message& message) {
  const std::optional<uint32_t> node = heard_from(peer);
  if (!node) return;
  const Place* place = find_tag(*node, message.tag);
  if (place != nullptr) return place->op->on_message(place->sub, message);
  nobody_waits_for(*node, message);
}

void Operations::nobody_waits_for(uint32_t node, const Message& message) {
  if (message.kind == static_cast<uint16_t>(MessageKind::view_reply)) {
    send_release(node, view_ids_of(message));
  }
  if (const uint64_t lease = lease_granted_by(message); lease != 0) {
    proto::ReleaseLease body;
    body.set_lease(lease);
    send_hint(node, MessageKind::release_lease, body);
  }
  if (message.kind == static_cast<uint16_t>(MessageKind::call_back_device)) {
    proto::DeviceLoan loan;
    const bool parsed =
        loan.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()));
    if (parsed) devices_.called_back(peer(node), loan.id());
  }
  if (message.kind == static_cast<uint16_t>(MessageKind::generate_reply) && grants_right(message)) {
    release_right({message.tag, 0, node});
  }
}

bool Operations::accept_write(PeerId peer, const IncomingWrite& write,
                              std::vector<uint32_t>* crc_runs) {
  const std::optional<uint32_t> node = heard_from(peer);
  if (!node) return false;
  const Place* place = find_tag(*node, write.tag);
  return place != nullptr && place->op->accept_write(write, crc_runs);
}

void Operations::on_write(PeerId peer, const IncomingWrite& write) {
  const std::optional<uint32_t> node = heard_from(peer);
  if (!node) return;
  const Place* place = find_tag(*node, write.tag);
  if (place != nullptr) place->op->on_write(write);
}

Status Operations::accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) {
  const std::optional<uint32_t> node = heard_from(peer);
  if (!node) return error(StatusCode::kUnavailable, "an old session");
  const Place* place = find_tag(*node, tag);
  if (place == nullptr) {
    return error(StatusCode::kCancelled, "operation " + std::to_string(tag) + " has ended");
  }
  return place->op->accept_read(place->sub, spans);
}

void Operations::on_peer_closed(PeerId peer, const Status& why) {
  parts_.views->session_gone(peer);
  devices_.session_gone(peer);
  const std::optional<uint32_t> node = node_of(peer);
  if (!node || !session(*node)->peer_closed(peer)) return;
  const Status lost =
      error(StatusCode::kUnavailable, "connection to the node lost: " + why.to_string());
  for (ClientOp* op : all(true, node)) op->end(lost, true);
}

void Operations::session_up(uint32_t node) {
  for (ClientOp* op : all(false, node)) start(op);
}

void Operations::session_skipped(uint32_t node, const Status& why) {
  const Status skipped = error(StatusCode::kUnavailable, "node is skipped: " + why.to_string());
  for (ClientOp* op : all(false, node)) op->end(skipped);
}
}  // namespace terrace
