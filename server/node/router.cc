#include "server/node/router.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/prng.h"
#include "proto/data.pb.h"
#include "proto/field_count.h"
#include "server/node/device_lender.h"
#include "server/node/erase_op.h"
#include "server/node/fetch_op.h"
#include "server/node/generate_op.h"
#include "server/node/list_op.h"
#include "server/node/lookup.h"
#include "server/node/put_op.h"
#include "server/node/view_op.h"
#include "server/node/view_table.h"

namespace terrace {
namespace {

constexpr Nanos kConnectTimeout = seconds(30);

template <class T>
Status parse(const Message& message, T* into) {
  if (into->ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return ok_status();
  }
  return error(StatusCode::kInvalidArgument, "message kind " + std::to_string(message.kind) +
                                                 " of " + std::to_string(message.body.size()) +
                                                 " bytes does not parse");
}

/// What a request repeats is counted before the parser allocates for it. 0: it repeats nothing.
Status check_parts(const Message& message, int field) {
  if (field == 0) return ok_status();
  const size_t count = count_fields(message.body, static_cast<uint32_t>(field));
  if (count <= kKeysPerRequestMax) return ok_status();
  return error(StatusCode::kInvalidArgument, "a request of " + std::to_string(count) +
                                                 " parts; at most " +
                                                 std::to_string(kKeysPerRequestMax));
}

template <class Request>
constexpr int repeated_field() {
  if constexpr (std::is_same_v<Request, proto::FetchRequest>) {
    return proto::FetchRequest::kItemsFieldNumber;
  }
  return 0;
}

template <class Reply>
void set_outcome(Reply* reply, const Status& why) {
  reply->mutable_outcome()->set_code(static_cast<int32_t>(why.code()));
  reply->mutable_outcome()->set_message(why.message());
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
}  // namespace

struct Router::Entry {
  Entry(std::unique_ptr<Session> s, std::function<void()> timed_out)
      : session(std::move(s)), timer(std::move(timed_out)) {}
  std::unique_ptr<Session> session;
  Timer timer;  // until it connects
};

Router::Router(NodeContext* context) : context_(context) {}

Router::~Router() {
  TERRACE_CHECK(sessions_.empty());
}

StatusOr<Secret> Router::open_session(const std::string& tenant, const std::string& client) {
  if (closed_ != nullptr) return error(StatusCode::kUnavailable, "node is shutting down");
  if (sessions_.size() >= context_->config->sessions_max) {
    context_->counters->sessions_refused.add();
    return error(StatusCode::kResourceExhausted,
                 "node has " + std::to_string(sessions_.size()) + " sessions; at most " +
                     std::to_string(context_->config->sessions_max));
  }
  Secret secret;
  secure_random(secret);
  const Key key = text_of(secret);
  auto entry = std::make_unique<Entry>(std::make_unique<Session>(context_, tenant, client, secret),
                                       [this, key] { remove(key); });
  context_->loop->arm(&entry->timer, context_->loop->now() + kConnectTimeout);
  sessions_.emplace(key, std::move(entry));
  context_->counters->sessions_opened.add();
  return secret;
}

Session* Router::find_session(std::span<const std::byte> secret) {
  const auto found = sessions_.find(text_of(secret));
  return found == sessions_.end() ? nullptr : found->second->session.get();
}

const Session* Router::session_of(PeerId peer) const {
  const auto found = by_peer_.find(static_cast<uint64_t>(peer));
  return found == by_peer_.end() ? nullptr : sessions_.at(found->second)->session.get();
}

bool Router::expects(std::span<const std::byte, 16> secret) {
  const Session* session = find_session(secret);
  return session != nullptr && !session->was_connected();
}

void Router::close(Op* op) {
  closed_ = op;
  std::vector<Key> never_connected;
  for (const auto& [key, entry] : sessions_) {
    if (!entry->session->was_connected() && entry->timer.armed()) never_connected.push_back(key);
  }
  for (const Key& key : never_connected) remove(key);
  if (sessions_.empty() && closed_ != nullptr) {
    context_->loop->defer(std::exchange(closed_, nullptr), ok_status());
  }
}

void Router::remove(const Key& key) {
  const auto found = sessions_.find(key);
  if (found == sessions_.end()) return;
  // May run inside the entry's own timer.
  const std::shared_ptr<Entry> gone = std::move(found->second);
  sessions_.erase(found);
  context_->loop->disarm(&gone->timer);
  context_->loop->defer([gone] {});
  if (sessions_.empty() && closed_ != nullptr) {
    context_->loop->defer(std::exchange(closed_, nullptr), ok_status());
  }
}

void Router::on_peer(PeerId peer, std::span<const std::byte, 16> secret) {
  const Key key = text_of(secret);
  const auto found = sessions_.find(key);
  if (found == sessions_.end() || found->second->session->was_connected()) {
    context_->counters->protocol_errors.add();
    return context_->transport->close_peer(
        peer, error(StatusCode::kUnauthenticated, "unknown or used session secret"));
  }
  context_->loop->disarm(&found->second->timer);
  found->second->session->connected_as(peer);
  by_peer_[static_cast<uint64_t>(peer)] = key;
}

void Router::on_message(PeerId peer, const Message& message) {
  const auto found = by_peer_.find(static_cast<uint64_t>(peer));
  if (found == by_peer_.end()) return;  // being closed
  Session* session = sessions_.at(found->second)->session.get();
  const Status status = dispatch(session, message);
  if (status.ok()) return;
  context_->counters->protocol_errors.add();
  spdlog::warn("event=protocol_error client=\"{}\" tenant=\"{}\" error=\"{}\"", session->client(),
               session->tenant(), status.to_string());
  context_->transport->close_peer(peer, status);
}

/// Requests that may take long: parse, create, start; a refusal becomes a reply of `Reply`.
template <class Request, class Reply, class Create>
Status Router::start_operation(Session* session, const Message& message, MessageKind reply_kind,
                               Create create) {
  Status status = check_parts(message, repeated_field<Request>());
  if (status.ok()) {
    Request request;
    TERRACE_RETURN_IF_ERROR(parse(message, &request));
    auto operation = create(context_, session, message.tag, request);
    status = operation.ok() ? session->start(*std::move(operation)) : std::move(operation).status();
  }
  if (!status.ok()) {
    Reply reply;
    set_outcome(&reply, status);
    session->reply(reply_kind, message.tag, reply);
  }
  return ok_status();
}

Status Router::dispatch(Session* session, const Message& message) {
  switch (static_cast<MessageKind>(message.kind)) {
    case MessageKind::fetch_request:
      return start_operation<proto::FetchRequest, proto::FetchReply>(
          session, message, MessageKind::fetch_reply, FetchOp::create);
    case MessageKind::put_request:
      return start_operation<proto::PutRequest, proto::PutAdmission>(
          session, message, MessageKind::put_admission, PutOp::create);
    case MessageKind::erase_request:
      return start_operation<proto::EraseRequest, proto::EraseReply>(
          session, message, MessageKind::erase_reply, EraseOp::create);
    case MessageKind::view_request:
      return start_operation<proto::ViewRequest, proto::ViewReply>(
          session, message, MessageKind::view_reply, ViewOp::create);
    case MessageKind::generate_request:
      return start_operation<proto::GenerateRequest, proto::GenerateReply>(
          session, message, MessageKind::generate_reply, GenerateOp::create);
    case MessageKind::list_request:
      return start_operation<proto::ListRequest, proto::ListReply>(
          session, message, MessageKind::list_reply, ListOp::create);
    default:
      return dispatch_quick(session, message);
  }
}

/// What a client gives back; it has no answer.
Status Router::dispatch_release(Session* session, const Message& message) {
  switch (static_cast<MessageKind>(message.kind)) {
    case MessageKind::release_lease: {
      proto::ReleaseLease request;
      TERRACE_RETURN_IF_ERROR(parse(message, &request));
      session->leases().release(request.lease());
      return ok_status();
    }
    case MessageKind::release_right: {
      proto::ReleaseRight request;
      TERRACE_RETURN_IF_ERROR(parse(message, &request));
      session->release_right(request.right());
      return ok_status();
    }
    case MessageKind::release_views: {
      proto::ReleaseViews request;
      TERRACE_RETURN_IF_ERROR(parse(message, &request));
      TERRACE_ASSIGN_OR_RETURN(const auto ids, unpack_ids(request.ids(), kKeysPerRequestMax));
      if (context_->views == nullptr) return ok_status();
      for (const uint64_t id : ids) context_->views->release(session->peer(), id);
      return ok_status();
    }
    case MessageKind::give_back_device: {
      proto::DeviceLoan loan;
      TERRACE_RETURN_IF_ERROR(parse(message, &loan));
      if (context_->lender != nullptr) context_->lender->given_back(session->peer(), loan.id());
      return ok_status();
    }
    default:
      return ok_status();
  }
}

Status Router::dispatch_quick(Session* session, const Message& message) {
  const Nanos started = context_->loop->now();
  const auto count = [&](OpKind kind, int32_t code) {
    const auto took = std::chrono::duration_cast<microseconds>(context_->loop->now() - started);
    context_->counters->finished(kind, status_code_of(code), static_cast<uint64_t>(took.count()));
  };
  switch (static_cast<MessageKind>(message.kind)) {
    case MessageKind::lookup_request: {
      proto::LookupRequest request;
      TERRACE_RETURN_IF_ERROR(parse(message, &request));
      const proto::LookupReply reply = lookup(context_, session, request);
      session->reply(MessageKind::lookup_reply, message.tag, reply);
      count(OpKind::lookup, reply.outcome().code());
      return ok_status();
    }
    case MessageKind::match_request: {
      proto::MatchReply reply;
      const Status parts = check_parts(message, proto::MatchRequest::kGroupsFieldNumber);
      if (parts.ok()) {
        proto::MatchRequest request;
        TERRACE_RETURN_IF_ERROR(parse(message, &request));
        reply = match_prefix(context_, session, request);
      } else {
        set_outcome(&reply, parts);
      }
      session->reply(MessageKind::match_reply, message.tag, reply);
      count(OpKind::match, reply.outcome().code());
      return ok_status();
    }
    case MessageKind::put_source: {
      proto::PutSource source;
      TERRACE_RETURN_IF_ERROR(parse(message, &source));
      // The put may have ended already: then its reply is on the way.
      auto* put = dynamic_cast<PutOp*>(session->find_operation(message.tag));
      if (put != nullptr) put->source_ready(source);
      return ok_status();
    }
    case MessageKind::touch_keys: {
      proto::TouchKeys request;
      TERRACE_RETURN_IF_ERROR(parse(message, &request));
      TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(request.keys(), kKeysPerRequestMax));
      // A hint: nothing of a namespace that this session has not opened.
      const Namespace* ns = session->find_namespace(request.namespace_id());
      if (ns != nullptr) context_->store->touch(ns->id, keys);
      return ok_status();
    }
    case MessageKind::cancel_request:
      if (Operation* operation = session->find_operation(message.tag)) {
        operation->cancel(StatusCode::kCancelled);
      }
      return ok_status();
    case MessageKind::release_lease:
    case MessageKind::release_right:
    case MessageKind::release_views:
    case MessageKind::give_back_device:
      return dispatch_release(session, message);
    default:
      return error(StatusCode::kInvalidArgument,
                   "message kind " + std::to_string(message.kind) + " is no request");
  }
}

bool Router::accept_write(PeerId, const IncomingWrite&, std::vector<uint32_t>*) {
  return false;  // only the node moves data
}
void Router::on_write(PeerId, const IncomingWrite&) {}
Status Router::accept_read(PeerId, uint64_t, std::span<const RemoteSpan>) {
  return error(StatusCode::kPermissionDenied, "clients do not read a node's memory");
}

void Router::on_peer_closed(PeerId peer, const Status& why) {
  const auto found = by_peer_.find(static_cast<uint64_t>(peer));
  if (found == by_peer_.end()) return;
  const Key key = found->second;
  by_peer_.erase(found);
  if (context_->views != nullptr) context_->views->peer_gone(peer);
  if (context_->lender != nullptr) context_->lender->peer_gone(peer);
  spdlog::debug("event=session_closed why=\"{}\"", why.to_string());
  sessions_.at(key)->session->disconnected([this, key] { remove(key); });
}
}  // namespace terrace
