#include "server/node/session.h"

#include <google/protobuf/message_lite.h>

#include <algorithm>

#include "base/log.h"

namespace terrace {
namespace {

/// Stores may fill three quarters of the node's places and prefetches seven eighths, so that a node
/// with too much to do still serves the loads that somebody waits for.
uint64_t operations_max(Lane lane, uint64_t places) {
  constexpr std::array<uint64_t, kLanes> kEighths{8, 7, 6};
  return std::max<uint64_t>(1, places * kEighths[static_cast<size_t>(lane)] / 8);
}
}  // namespace

const char* name_of(OpKind kind) {
  switch (kind) {
    case OpKind::lookup:
      return "lookup";
    case OpKind::match:
      return "match_prefix";
    case OpKind::fetch:
      return "fetch";
    case OpKind::put:
      return "put";
    case OpKind::erase:
      return "erase";
    case OpKind::list:
      return "list";
    case OpKind::view:
      return "view";
    case OpKind::generate:
      return "generate";
  }
  return "unknown";
}

Operation::Operation(NodeContext* context, Session* session, OpKind kind, Lane lane, uint64_t tag)
    : context_(context),
      session_(session),
      kind_(kind),
      lane_(lane),
      tag_(tag),
      started_(context->loop->now()),
      deadline_([this] { cancel(StatusCode::kDeadlineExceeded); }) {
  context_->counters->operations_in_flight.add();
}

Operation::~Operation() {
  context_->loop->disarm(&deadline_);
  context_->counters->operations_in_flight.sub();
}

void Operation::arm_deadline(uint32_t deadline_ms) {
  const Nanos longest = context_->config->operation_deadline_max;
  const Nanos asked = milliseconds(deadline_ms);
  const Nanos deadline = deadline_ms == 0 ? longest : std::min(asked, longest);
  context_->loop->arm(&deadline_, context_->loop->now() + deadline);
}

void Operation::reply(MessageKind kind, const google::protobuf::MessageLite& body) {
  session_->reply(kind, tag_, body);
}

void Operation::finished(StatusCode code) {
  context_->loop->disarm(&deadline_);
  const auto took = std::chrono::duration_cast<microseconds>(context_->loop->now() - started_);
  context_->counters->finished(kind_, code, static_cast<uint64_t>(took.count()));
  session_->operation_finished(tag_);
}

uint64_t NodeContext::pinned_quota() const {
  if (config->namespace_pinned_bytes_max != 0) return config->namespace_pinned_bytes_max;
  return std::max(store->tier_use(Tier::dram).capacity, store->tier_use(Tier::nvme).capacity) / 8;
}

Session::Session(NodeContext* context, std::string tenant, std::string client, const Secret& secret)
    : context_(context),
      tenant_(std::move(tenant)),
      client_(std::move(client)),
      secret_(secret),
      leases_(context->loop, kLeasesPerSessionMax) {
  context_->counters->sessions.add();
}

Session::~Session() {
  TERRACE_CHECK(operations_.empty());
  context_->counters->sessions.sub();
}

void Session::connected_as(PeerId peer) {
  peer_ = peer;
  connected_ = true;
  was_connected_ = true;
}

const Namespace* Session::find_namespace(uint32_t id) const {
  const auto found = namespaces_.find(id);
  return found == namespaces_.end() ? nullptr : found->second.get();
}

void Session::opened(std::shared_ptr<const Namespace> ns) {
  domain_ = ns->domain;
  namespaces_.emplace(static_cast<uint32_t>(ns->id), std::move(ns));
}

void Session::reply(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body) {
  if (!connected_) return;
  const std::string bytes = body.SerializeAsString();
  const Message message{static_cast<uint16_t>(kind), tag,
                        std::as_bytes(std::span(bytes.data(), bytes.size())), is_urgent(kind)};
  const Status sent = context_->transport->send_message(peer_, message);
  // A client that does not read its replies cannot be served.
  if (sent.code() == StatusCode::kResourceExhausted) context_->transport->close_peer(peer_, sent);
}

Status Session::start(std::unique_ptr<Operation> operation) {
  if (context_->draining) return error(StatusCode::kUnavailable, "node is shutting down");
  if (operations_.contains(operation->tag())) {
    return error(StatusCode::kInvalidArgument,
                 "operation " + std::to_string(operation->tag()) + " is running already");
  }
  const Lane lane = operation->lane();
  const uint64_t in_flight = context_->counters->operations_in_flight.get();
  const uint64_t limit = operations_max(lane, context_->config->operations_in_flight_max);
  if (operations_.size() >= kOperationsPerSessionMax || in_flight > limit) {
    context_->counters->overload_refusals[static_cast<size_t>(lane)].add();
    return error(StatusCode::kResourceExhausted,
                 "overloaded: " + std::to_string(operations_.size()) +
                     " operations of this session (at most " +
                     std::to_string(kOperationsPerSessionMax) + "), " + std::to_string(in_flight) +
                     " of the node in flight (at most " + std::to_string(limit) + " for a " +
                     name_of(lane) + ")");
  }
  Operation* started = operation.get();
  operations_.emplace(started->tag(), std::move(operation));
  started->start();
  return ok_status();
}

Operation* Session::find_operation(uint64_t tag) {
  const auto found = operations_.find(tag);
  return found == operations_.end() ? nullptr : found->second.get();
}

void Session::operation_finished(uint64_t tag) {
  const auto found = operations_.find(tag);
  TERRACE_CHECK(found != operations_.end());
  // It is still on the stack: destroy it on the next turn.
  std::shared_ptr<Operation> gone = std::move(found->second);
  operations_.erase(found);
  context_->loop->defer([this, gone = std::move(gone)]() mutable {
    gone.reset();
    if (operations_.empty() && idle_) std::exchange(idle_, nullptr)();
  });
}

void Session::disconnected(std::function<void()> idle) {
  connected_ = false;
  if (operations_.empty()) {
    // Deferred, so that operations that finished on this turn are gone before the session is.
    context_->loop->defer([idle = std::move(idle)] { idle(); });
    return;
  }
  idle_ = std::move(idle);
  std::vector<Operation*> running;
  for (auto& [tag, operation] : operations_) running.push_back(operation.get());
  for (Operation* operation : running) operation->cancel(StatusCode::kUnavailable);
}
}  // namespace terrace
