#include "client/session.h"

#include <algorithm>

#include "base/host.h"

namespace terrace {
namespace {

constexpr Nanos kRetryFirst = milliseconds(20);
constexpr Nanos kRetryLongest = milliseconds(500);
constexpr Nanos kProbeTimeout = seconds(2);
constexpr Nanos kMailboxRetry = milliseconds(1);
constexpr uint32_t kBackoffDoublingsMax = 5;
constexpr Nanos kAvoidShm = seconds(60);     // after it failed
constexpr Nanos kShortSession = seconds(2);  // ends for a reason of its own, likely: a failure
constexpr uint32_t kShortSessionsMax = 2;
}  // namespace

NodeSession::NodeSession(const Parts& parts, const ClientConfig& config)
    : parts_(parts),
      config_(config),
      endpoint_(config.endpoints.at(parts.node)),
      retry_([this] { begin_attempt(); }),
      patience_([this] { skip_unless_up(); }),
      connected_op_(this),
      // Sessions that begin together must not retry together.
      prng_(static_cast<uint64_t>(parts.loop->now().count()) + parts.node) {}

NodeSession::~NodeSession() {
  parts_.loop->disarm(&retry_);
  parts_.loop->disarm(&patience_);
}

void NodeSession::close() {
  set_state(State::closed);
  parts_.loop->disarm(&retry_);
}

void NodeSession::skip_unless_up() {
  if (state() != State::connecting) return;
  set_state(State::skipped);
  parts_.listener->session_skipped(
      parts_.node, error(StatusCode::kUnavailable, "node " + endpoint_ + " does not answer"));
}

NodeInfo NodeSession::info() const {
  const std::lock_guard lock(mutex_);
  NodeInfo info = node_;
  info.endpoint = endpoint_;
  info.up = up();
  return info;
}

void NodeSession::begin_attempt() {
  // The first attempt has all the time that open() has; a probe must not hold up the worker.
  Nanos timeout = config_.open_timeout;
  if (!first_) timeout = std::min(timeout, kProbeTimeout);
  const Status posted = parts_.worker->post([this, timeout] { negotiate(timeout); });
  if (!posted.ok()) failed(posted);
}

void NodeSession::negotiate(Nanos timeout) {
  const StatusOr<SessionOffer> offer = open_all(timeout);
  while (!parts_.loop->post([this, offer] { offered(offer); }).ok()) {
    if (!parts_.worker->pause(kMailboxRetry)) return;
  }
}

StatusOr<SessionOffer> NodeSession::open_all(Nanos timeout) {
  TERRACE_ASSIGN_OR_RETURN(const SessionOffer offer,
                           parts_.control->open_session(config_.tenant, timeout));
  secret_ = offer.secret;
  for (const NamespaceBook::Listed& listed : parts_.namespaces->all()) {
    StatusOr<uint32_t> wire = parts_.control->open_namespace(offer.secret, listed.info->name,
                                                             listed.info->canonical, timeout);
    if (!wire.ok() && (wire.status().code() == StatusCode::kUnavailable ||
                       wire.status().code() == StatusCode::kDeadlineExceeded)) {
      return wire.status();
    }
    // Any other refusal concerns this namespace alone; its operations will say so.
    parts_.namespaces->set_wire(listed.ns, parts_.node, std::move(wire));
  }
  return offer;
}

void NodeSession::offered(StatusOr<SessionOffer> offer) {
  if (state() == State::closed) return;
  if (!offer.ok()) return failed(offer.status());
  offer_ = *std::move(offer);
  Nanos timeout = config_.open_timeout;
  if (!first_) timeout = std::min(timeout, kProbeTimeout);
  connect_by_ = parts_.loop->now() + timeout;
  if (config_.data_path == DataPath::rdma) return exchange_queue_pairs();
  const Status shm = config_.data_path == DataPath::tcp
                         ? error(StatusCode::kUnavailable, "not asked")
                         : shm_possible();
  if (config_.data_path == DataPath::shm && !shm.ok()) return failed(shm);
  trying_ = shm.ok() ? DataPath::shm : DataPath::tcp;
  const StatusOr<PeerId> peer = trying_ == DataPath::shm ? connect_shm() : connect_tcp();
  if (!peer.ok()) return connect_failed(peer.status());
  peer_ = *peer;
}

Status NodeSession::shm_possible() const {
  const auto no = [this](const char* why) {
    return error(StatusCode::kFailedPrecondition, "node " + endpoint_ + why);
  };
  if (offer_.shm_socket.empty()) return no(" offers no shared memory: see its option shm");
  const std::string here = host_identity(offer_.shm_socket.front() == '@');
  if (here.empty() || here != offer_.shm_host) {
    return no(" is on another host, or its socket in another network namespace");
  }
  const bool avoid =
      config_.data_path == DataPath::automatic && parts_.loop->now() < avoid_shm_until_;
  return avoid ? no(" is reached over TCP for a while: shared memory failed") : ok_status();
}

StatusOr<PeerId> NodeSession::connect_tcp() {
  return parts_.links->tcp.connect(offer_.data_address, offer_.secret, config_.data_connections + 1,
                                   connect_by_, &connected_op_);
}

StatusOr<PeerId> NodeSession::connect_shm() {
  // Half of the time, so that there is some left for the other way.
  const Nanos left = connect_by_ - parts_.loop->now();
  const bool last = config_.data_path == DataPath::shm;
  return parts_.links->shm.connect(offer_.shm_socket, offer_.shm_user, offer_.secret,
                                   last ? connect_by_ : connect_by_ - left / 2, &connected_op_);
}

/// Ours to the node, through the worker, and its own back.
void NodeSession::exchange_queue_pairs() {
  trying_ = DataPath::rdma;
  RdmaTransport* const rdma = parts_.links->rdma.get();
  if (rdma == nullptr) return failed(parts_.links->rdma_status);
  const auto ours = rdma->open(offer_.secret);
  if (!ours.ok()) return failed(ours.status());
  peer_ = ours->peer;
  const Nanos timeout = connect_by_ - parts_.loop->now();
  const auto exchange = [this, rdma, secret = offer_.secret, offer = *ours, timeout] {
    StatusOr<std::string> theirs = parts_.control->open_rdma(secret, offer.endpoint, timeout);
    const Status way = theirs.ok() ? rdma->find_way(*theirs) : ok_status();
    if (!way.ok()) theirs = way;
    while (!parts_.loop->post([this, offer, theirs] { queue_pairs(offer.peer, theirs); }).ok()) {
      if (!parts_.worker->pause(kMailboxRetry)) return;
    }
  };
  const Status posted = parts_.worker->post(exchange);
  if (!posted.ok()) queue_pairs(peer_, posted);
}

void NodeSession::queue_pairs(PeerId peer, const StatusOr<std::string>& theirs) {
  RdmaTransport* const rdma = parts_.links->rdma.get();
  if (state() == State::closed || !theirs.ok()) {
    rdma->close_peer(peer, error(StatusCode::kCancelled, "no session"));
    if (!theirs.ok()) failed(theirs.status());
    return;
  }
  const Status begun = rdma->establish(peer, *theirs, connect_by_, &connected_op_);
  if (!begun.ok()) failed(begun);
}

/// With another session: the node may have used this one's secret up.
void NodeSession::connect_failed(const Status& why) {
  if (trying_ != DataPath::shm || config_.data_path != DataPath::automatic) return failed(why);
  avoid_shm_until_ = parts_.loop->now() + kAvoidShm;
  begin_attempt();
}

void NodeSession::connected(Status result) {
  if (state() == State::closed) return;
  if (!result.ok()) return connect_failed(result);
  {
    const std::lock_guard lock(mutex_);
    node_ = offer_.node;
    node_.data_path = trying_;
  }
  has_peer_ = true;
  up_since_ = parts_.loop->now();
  if (epoch_ > 0) parts_.counters->reconnects.add();
  ++epoch_;
  last_heard_ = parts_.loop->now();
  silent_since_ = Nanos(0);
  silent_expiries_ = 0;
  set_state(State::up);
  if (first_) {
    first_ = false;
    parts_.listener->first_attempt(parts_.node, ok_status());
  }
  parts_.listener->session_up(parts_.node);
}

void NodeSession::failed(const Status& why) {
  if (state() == State::closed) return;
  ++failures_;
  if (first_) {
    first_ = false;
    parts_.listener->first_attempt(parts_.node, why);
  }
  const bool hopeless =
      why.code() != StatusCode::kUnavailable && why.code() != StatusCode::kDeadlineExceeded;
  if (hopeless || failures_ >= kFailuresMax) {
    set_state(State::skipped);
    parts_.listener->session_skipped(parts_.node, why);
  }
  retry_later();
}

void NodeSession::retry_later() {
  const uint32_t doublings = std::min(failures_, kBackoffDoublingsMax);
  const Nanos longest = std::min<Nanos>(kRetryFirst * (1u << doublings), kRetryLongest);
  // Half of it by chance, so that a thousand clients do not come back together.
  const auto half = static_cast<uint64_t>(longest.count() / 2);
  const Nanos wait(static_cast<int64_t>(half + prng_.below(half + 1)));
  parts_.loop->arm(&retry_, parts_.loop->now() + wait);
}

void NodeSession::heard() {
  last_heard_ = parts_.loop->now();
  silent_since_ = Nanos(0);
  silent_expiries_ = 0;
}

void NodeSession::sent() {
  if (silent_since_ == Nanos(0)) silent_since_ = parts_.loop->now();
}

void NodeSession::expired(Nanos begun) {
  if (!up() || last_heard_ >= begun || silent_since_ == Nanos(0)) return;
  ++silent_expiries_;
  if (silent_expiries_ < kFailuresMax) return;
  if (parts_.loop->now() - silent_since_ < kSilenceMin) return;
  const Status why = error(StatusCode::kUnavailable, "node " + endpoint_ + " answered none of " +
                                                         std::to_string(silent_expiries_) +
                                                         " operations in a row");
  failures_ = kFailuresMax;
  set_state(State::skipped);
  parts_.links->all.close_peer(peer_, why);
  parts_.listener->session_skipped(parts_.node, why);
}

bool NodeSession::peer_closed(PeerId peer) {
  if (peer != peer_ || !has_peer_) return false;  // connected() hears of the others
  has_peer_ = false;
  if (state() == State::closed) return true;
  const bool is_short = parts_.loop->now() - up_since_ < kShortSession;
  short_sessions_ = trying_ == DataPath::shm && is_short ? short_sessions_ + 1 : 0;
  if (short_sessions_ >= kShortSessionsMax) avoid_shm_until_ = parts_.loop->now() + kAvoidShm;
  if (state() == State::up) {  // else it was skipped for its silence, which has been counted
    failures_ = is_short ? failures_ + 1 : 0;
    set_state(State::connecting);
    if (config_.endpoints.size() > 1) parts_.loop->arm(&patience_, parts_.loop->now() + kPatience);
  }
  retry_later();
  return true;
}
}  // namespace terrace
