#include "client/operations.h"

#include <algorithm>

#include "client/request_op.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

constexpr uint32_t kEpochShift = 48;
constexpr uint64_t kLostLease = ~uint64_t{0};  // no node ever grants it

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
}  // namespace

Operations::~Operations() {
  TERRACE_CHECK(live_.empty());
}

void Operations::bind(Links* links, NodeSession* session) {
  links_ = links;
  transport_ = &links->all;
  session_ = session;
}

ClientOp* Operations::find(OpId op) {
  const auto found = live_.find(static_cast<uint64_t>(op));
  return found == live_.end() ? nullptr : found->second.get();
}

const Operations::Place* Operations::find_tag(uint64_t tag) {
  const auto found = tags_.find(tag);
  return found == tags_.end() ? nullptr : &found->second;
}

void Operations::submit(std::unique_ptr<ClientOp> owned) {
  ClientOp* const op = owned.get();
  live_.emplace(static_cast<uint64_t>(op->head.id), std::move(owned));
  op->adopt(this);
  if (closed_) return op->end(error(StatusCode::kCancelled, "client closed"));
  switch (session_->state()) {
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
  const StatusOr<uint32_t> ns = parts_.namespaces->wire(op->head.ns);
  if (!ns.ok()) return op->end(ns.status());
  op->start(*ns);
}

std::vector<ClientOp*> Operations::all(bool started) {
  std::vector<ClientOp*> ops;
  for (auto& [id, op] : live_) {
    if (op->started() == started) ops.push_back(op.get());
  }
  // Oldest first: a map's order is nobody's.
  std::sort(ops.begin(), ops.end(), [](const ClientOp* a, const ClientOp* b) {
    return a->head.submitted < b->head.submitted;
  });
  return ops;
}

void Operations::cancel(OpId id) {
  if (ClientOp* op = find(id)) op->end(error(StatusCode::kCancelled, "cancelled by the caller"));
}

void Operations::source_ready(OpId id, uint32_t item, uint32_t first, uint32_t count) {
  if (ClientOp* op = find(id)) op->source_ready(item, first, count);
}

void Operations::release(LeaseId lease) {
  const uint64_t wire = wire_of(lease);
  if (!session_->up() || wire == 0 || wire == kLostLease) return;  // it went with its session
  proto::ReleaseLease body;
  body.set_lease(wire);
  send_hint(MessageKind::release_lease, body);  // else the lease ends by its own time
}

void Operations::touch(NamespaceId ns, std::span<const ChunkKey> keys) {
  const StatusOr<uint32_t> wire = parts_.namespaces->wire(ns);
  if (!session_->up() || !wire.ok()) return;
  proto::TouchKeys body;
  body.set_namespace_id(*wire);
  body.set_keys(pack_keys(keys));
  send_hint(MessageKind::touch_keys, body);
}

void Operations::send_release(std::span<const uint64_t> node_ids) {
  if (node_ids.empty() || !session_->up()) return;  // they go with their session
  proto::ReleaseViews body;
  body.set_ids(pack_ids(node_ids));
  send_hint(MessageKind::release_views, body);
}

void Operations::release_view(const Views::Held& view) {
  if (view.peer == session_->peer()) send_release({&view.node_id, 1});
}

void Operations::release_views(std::span<const ObjectView> views) {
  for (const ObjectView& view : views) {
    const std::shared_ptr<const Views::Held> held = parts_.views->release(view.id);
    if (held != nullptr) release_view(*held);
  }
}

void Operations::send_hint(MessageKind kind, const google::protobuf::MessageLite& body) {
  const std::string bytes = body.SerializeAsString();
  const Status sent =
      transport_->send_message(session_->peer(), {static_cast<uint16_t>(kind), 0, bytes_of(bytes)});
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

Status Operations::send(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body) {
  if (!session_->up()) return error(StatusCode::kUnavailable, "session is down");
  const std::string bytes = body.SerializeAsString();
  TERRACE_RETURN_IF_ERROR(transport_->send_message(
      session_->peer(), {static_cast<uint16_t>(kind), tag, bytes_of(bytes), is_urgent(kind)}));
  session_->sent();
  return ok_status();
}

void Operations::send_cancel(uint64_t tag) {
  const Status sent = send(MessageKind::cancel_request, tag, proto::CancelRequest());
  if (!sent.ok()) return;  // the node's own deadline ends it there
}

void Operations::quiesce(uint64_t tag, Op* op) {
  transport_->quiesce(session_->peer(), tag, op);
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

bool Operations::take_put_credit(OpId op) {
  if (put_credits_ > 0) {
    --put_credits_;
    return true;
  }
  if (std::find(credit_waiters_.begin(), credit_waiters_.end(), op) == credit_waiters_.end()) {
    credit_waiters_.push_back(op);
  }
  return false;
}

void Operations::give_put_credit() {
  ++put_credits_;
  if (credit_waiters_.empty()) return;
  const OpId waiter = credit_waiters_.front();
  credit_waiters_.pop_front();
  loop()->defer([this, waiter] {
    if (ClientOp* op = find(waiter)) {
      op->on_credit();
    } else if (!credit_waiters_.empty()) {  // it ended meanwhile: the turn is the next one's
      --put_credits_;
      give_put_credit();
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
  count(completion);
  // It is still on the stack: destroy it on the next turn.
  const std::shared_ptr<ClientOp> gone = std::move(found->second);
  live_.erase(found);
  loop()->defer([gone] {});
  parts_.completions->publish(std::move(completion));
  if (live_.empty() && idle_) std::exchange(idle_, nullptr)();
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

LeaseId Operations::lease_of(uint64_t wire) const {
  if (wire == 0 || wire >> kEpochShift != 0) return kNoLease;
  return LeaseId{uint64_t{session_->epoch()} << kEpochShift | wire};
}

uint64_t Operations::wire_of(LeaseId lease) const {
  const auto value = static_cast<uint64_t>(lease);
  if (value == 0) return 0;
  if (value >> kEpochShift != session_->epoch()) return kLostLease;
  return value & ((uint64_t{1} << kEpochShift) - 1);
}

void Operations::on_peer(PeerId, std::span<const std::byte, 16>) {}  // we never listen

void Operations::on_message(PeerId peer, const Message& message) {
  if (peer != session_->peer()) return;
  session_->heard();
  const Place* place = find_tag(message.tag);
  if (place != nullptr) return place->op->on_message(place->sub, message);
  nobody_waits_for(message);
}

void Operations::nobody_waits_for(const Message& message) {
  if (message.kind == static_cast<uint16_t>(MessageKind::view_reply)) {
    send_release(view_ids_of(message));
  }
}

bool Operations::accept_write(PeerId peer, const IncomingWrite& write,
                              std::vector<uint32_t>* crc_runs) {
  if (peer != session_->peer()) return false;
  session_->heard();
  const Place* place = find_tag(write.tag);
  return place != nullptr && place->op->accept_write(write, crc_runs);
}

void Operations::on_write(PeerId peer, const IncomingWrite& write) {
  if (peer != session_->peer()) return;
  session_->heard();
  const Place* place = find_tag(write.tag);
  if (place != nullptr) place->op->on_write(write);
}

Status Operations::accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) {
  if (peer != session_->peer()) return error(StatusCode::kUnavailable, "an old session");
  session_->heard();
  const Place* place = find_tag(tag);
  if (place == nullptr) {
    return error(StatusCode::kCancelled, "operation " + std::to_string(tag) + " has ended");
  }
  return place->op->accept_read(place->sub, spans);
}

void Operations::on_peer_closed(PeerId peer, const Status& why) {
  parts_.views->session_gone(peer);
  if (!session_->peer_closed(peer)) return;
  const Status lost =
      error(StatusCode::kUnavailable, "connection to the node lost: " + why.to_string());
  for (ClientOp* op : all(true)) op->end(lost, true);
}

void Operations::session_up() {
  for (ClientOp* op : all(false)) start(op);
}

void Operations::session_skipped(const Status& why) {
  const Status skipped = error(StatusCode::kUnavailable, "node is skipped: " + why.to_string());
  for (ClientOp* op : all(false)) op->end(skipped);
}
}  // namespace terrace
