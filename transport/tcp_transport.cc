#include "transport/tcp_transport.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "transport/tcp_address.h"
#include "transport/tcp_listener.h"
#include "transport/tcp_peer.h"

namespace terrace {
namespace {

/// Progress is looked at often enough that a timeout is at most a quarter late.
Nanos tick_interval(const TcpOptions& options) {
  const Nanos least = std::min(
      {options.handshake_timeout, options.send_stall_timeout, options.receive_stall_timeout});
  return std::clamp<Nanos>(least / 4, milliseconds(5), seconds(1));
}
}  // namespace

class TcpTransport::Core final : public TcpPeer::Host, public TcpListener::Host {
 public:
  Core(Loop* loop, TransportHandler* handler, const TcpOptions& options)
      : shared_(loop, handler, options),
        interval_(tick_interval(options)),
        tick_([this] { tick(); }),
        listener_(&shared_, this) {
    loop->arm(&tick_, loop->now() + interval_);
  }
  ~Core() { TERRACE_CHECK(closed_); }

  StatusOr<uint16_t> listen(const std::string& address,
                            std::function<bool(std::span<const std::byte, 16>)> secret_known);
  StatusOr<PeerId> connect(const std::string& address, const SessionSecret& secret,
                           uint32_t connections, Nanos deadline, Op* op);
  void close(Op* op);
  TcpPeer* find(PeerId id) const {
    const auto it = peers_.find(static_cast<uint64_t>(id));
    return it == peers_.end() ? nullptr : it->second.peer.get();
  }
  bool borrows(RegionId region) const;
  Status unregister_region(RegionId region);
  void cancel(Op* op);
  TcpShared& shared() { return shared_; }

  // TcpPeer::Host
  void schedule_pump(TcpPeer* peer) override;
  void schedule_finish() override { schedule_reap(); }

  // TcpListener::Host
  bool secret_known(const SessionSecret& secret) override { return secret_known_(secret); }
  Status may_open(const SessionSecret& secret) override;
  void group_complete(const SessionSecret& secret, TcpListener::Connections connections) override;
  void schedule_reap() override;

 private:
  struct Entry {
    std::unique_ptr<TcpPeer> peer;
    SessionSecret secret{};
    bool accepted = false;
  };
  PeerId add_peer(const SessionSecret& secret, bool accepted);
  void pump();
  void reap();
  void tick();
  void finish_close();

  TcpShared shared_;
  const Nanos interval_;
  Timer tick_;
  TcpListener listener_;
  std::function<bool(std::span<const std::byte, 16>)> secret_known_;
  std::unordered_map<uint64_t, Entry> peers_;
  std::vector<uint64_t> to_pump_;
  bool pump_scheduled_ = false;
  bool reap_scheduled_ = false;
  bool closing_ = false;
  bool closed_ = false;
  Op* close_op_ = nullptr;
};

StatusOr<uint16_t> TcpTransport::Core::listen(
    const std::string& address,
    std::function<bool(std::span<const std::byte, 16>)> secret_known_of_hello) {
  TERRACE_CHECK(!secret_known_ && !closing_);
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress parsed, parse_address(address));
  TERRACE_ASSIGN_OR_RETURN(const uint16_t port, listener_.listen(parsed));
  secret_known_ = std::move(secret_known_of_hello);
  return port;
}

PeerId TcpTransport::Core::add_peer(const SessionSecret& secret, bool accepted) {
  const PeerId id = make_peer_id(TransportKind::tcp);
  peers_[static_cast<uint64_t>(id)] = {.peer = std::make_unique<TcpPeer>(id, &shared_, this),
                                       .secret = secret,
                                       .accepted = accepted};
  return id;
}

StatusOr<PeerId> TcpTransport::Core::connect(const std::string& address,
                                             const SessionSecret& secret, uint32_t connections,
                                             Nanos deadline, Op* op) {
  if (closing_) return error(StatusCode::kUnavailable, "the transport is closing");
  if (connections < 2 || connections > kConnectionsPerSessionMax) {
    return error(StatusCode::kInvalidArgument,
                 "a session has 2 to " + std::to_string(kConnectionsPerSessionMax) +
                     " connections, not " + std::to_string(connections));
  }
  if (peers_.size() >= shared_.options.peers_max) {
    return error(StatusCode::kResourceExhausted, "too many peers");
  }
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress parsed, parse_address(address));
  const PeerId id = add_peer(secret, false);
  const Status started = find(id)->connect(parsed, secret, connections, deadline, op);
  if (started.ok()) return id;
  peers_.erase(static_cast<uint64_t>(id));
  return started;
}

Status TcpTransport::Core::may_open(const SessionSecret& secret) {
  if (closing_) return StatusCode::kUnavailable;
  if (peers_.size() >= shared_.options.peers_max) {
    return error(StatusCode::kResourceExhausted, "too many peers");
  }
  for (const auto& [id, entry] : peers_) {
    if (entry.accepted && entry.secret == secret) {
      return error(StatusCode::kAlreadyExists, "this session is connected already");
    }
  }
  return ok_status();
}

void TcpTransport::Core::group_complete(const SessionSecret& secret,
                                        TcpListener::Connections connections) {
  const PeerId id = add_peer(secret, true);
  find(id)->open(std::move(connections));
  shared_.handler->on_peer(id, secret);
}

void TcpTransport::Core::schedule_pump(TcpPeer* peer) {
  if (std::exchange(peer->pump_scheduled, true)) return;
  to_pump_.push_back(static_cast<uint64_t>(peer->id()));
  if (!std::exchange(pump_scheduled_, true)) shared_.loop->defer([this] { pump(); });
}

/// Once per turn, so that what was queued together is sent together, and all peers' messages are
/// with the kernel before anybody's data.
void TcpTransport::Core::pump() {
  pump_scheduled_ = false;
  const std::vector<uint64_t> ids = std::exchange(to_pump_, {});
  for (const uint64_t id : ids) {
    TcpPeer* peer = find(static_cast<PeerId>(id));
    if (peer == nullptr) continue;
    peer->pump_scheduled = false;
    peer->pump_messages();
  }
  for (const uint64_t id : ids) {
    if (TcpPeer* peer = find(static_cast<PeerId>(id))) peer->pump_data();
  }
  if (closing_) schedule_reap();
}

void TcpTransport::Core::schedule_reap() {
  if (!std::exchange(reap_scheduled_, true)) shared_.loop->defer([this] { reap(); });
}

void TcpTransport::Core::reap() {
  reap_scheduled_ = false;
  listener_.reap();
  std::vector<uint64_t> drained;
  for (const auto& [id, entry] : peers_) {
    if (entry.peer->drained()) drained.push_back(id);
  }
  for (const uint64_t id : drained) {
    // Out of the table first: its last callbacks must not find it.
    const auto it = peers_.find(id);
    const std::unique_ptr<TcpPeer> peer = std::move(it->second.peer);
    peers_.erase(it);
    peer->finish();
  }
  if (closing_) finish_close();
}

void TcpTransport::Core::tick() {
  shared_.loop->arm(&tick_, shared_.loop->now() + interval_);
  listener_.tick(interval_);
  for (const auto& [id, entry] : peers_) entry.peer->tick(interval_);
}

/// Of this side; the table knows of the other.
bool TcpTransport::Core::borrows(RegionId region) const {
  const std::span<std::byte> memory = shared_.regions.find(region);
  return !memory.empty() && std::any_of(peers_.begin(), peers_.end(), [memory](const auto& entry) {
    return entry.second.peer->borrows(memory);
  });
}

Status TcpTransport::Core::unregister_region(RegionId region) {
  if (borrows(region)) {
    return error(StatusCode::kFailedPrecondition,
                 "region " + std::to_string(static_cast<uint64_t>(region)) +
                     " is used by a transfer of ours; cancel it and wait");
  }
  return shared_.regions.remove(region);
}

void TcpTransport::Core::cancel(Op* op) {
  for (const auto& [id, entry] : peers_) {
    if (entry.peer->cancel(op)) return;
  }
}

void TcpTransport::Core::close(Op* op) {
  TERRACE_CHECK(!closing_);
  closing_ = true;
  close_op_ = op;
  listener_.close();
  for (const auto& [id, entry] : peers_) {
    entry.peer->close(CloseReason::asked, error(StatusCode::kUnavailable, "closed here"));
  }
  schedule_reap();
}

void TcpTransport::Core::finish_close() {
  if (!peers_.empty() || !listener_.drained() || pump_scheduled_ || reap_scheduled_) return;
  // Empty by now, but its task may still be on its way.
  if (shared_.turns.scheduled()) return schedule_reap();
  if (std::exchange(closed_, true)) return;
  shared_.loop->disarm(&tick_);
  shared_.loop->defer(close_op_, ok_status());
}

TcpTransport::TcpTransport(Loop* loop, TransportHandler* handler, const TcpOptions& options)
    : core_(std::make_unique<Core>(loop, handler, options)) {}
TcpTransport::~TcpTransport() = default;

StatusOr<uint16_t> TcpTransport::listen(
    const std::string& address, std::function<bool(std::span<const std::byte, 16>)> secret_known) {
  return core_->listen(address, std::move(secret_known));
}

StatusOr<PeerId> TcpTransport::connect(const std::string& address, std::array<std::byte, 16> secret,
                                       uint32_t connections, Nanos deadline, Op* op) {
  return core_->connect(address, secret, connections, deadline, op);
}

void TcpTransport::close(Op* op) {
  core_->close(op);
}
const TcpMetrics& TcpTransport::metrics() const {
  return core_->shared().metrics;
}

StatusOr<RegionId> TcpTransport::register_region(std::span<std::byte> memory) {
  return core_->shared().regions.add(memory);
}
void TcpTransport::when_prepared(RegionId region, Op* op) {
  core_->shared().loop->defer(op, core_->shared().regions.check(region));
}
Status TcpTransport::unregister_region(RegionId region) {
  return core_->unregister_region(region);
}

bool TcpTransport::region_in_use(RegionId region) const {
  return core_->borrows(region) || core_->shared().regions.pinned(region);
}

Status TcpTransport::send_message(PeerId to, const Message& message) {
  TcpPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->send_message(message);
}
Status TcpTransport::write(PeerId to, const Write& write, Op* op) {
  TcpPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->write(write, op);
}
Status TcpTransport::read(PeerId from, const Read& read, Op* op) {
  TcpPeer* peer = core_->find(from);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->read(read, op);
}
void TcpTransport::cancel(Op* op) {
  core_->cancel(op);
}

void TcpTransport::quiesce(PeerId peer_id, uint64_t tag, Op* op) {
  if (TcpPeer* peer = core_->find(peer_id)) return peer->quiesce(tag, op);
  core_->shared().loop->defer(op, ok_status());  // nothing of a peer that is gone touches anything
}

uint64_t TcpTransport::queued_bytes(PeerId peer_id) const {
  const TcpPeer* peer = core_->find(peer_id);
  return peer == nullptr ? 0 : peer->queued_bytes();
}

void TcpTransport::close_peer(PeerId peer_id, Status why) {
  if (TcpPeer* peer = core_->find(peer_id)) peer->close(CloseReason::asked, std::move(why));
}
}  // namespace terrace
