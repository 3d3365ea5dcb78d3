#include "transport/shm_transport.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "transport/shm_listener.h"

namespace terrace {
namespace {

/// Progress is looked at often enough that a timeout is at most a quarter late.
Nanos tick_interval(const ShmOptions& options) {
  const Nanos least =
      std::min({options.handshake_timeout, options.stall_timeout, options.release_timeout});
  return std::clamp<Nanos>(least / 4, milliseconds(5), seconds(1));
}
}  // namespace

class ShmTransport::Core final : public ShmPeer::Host, public ShmListener::Host {
 public:
  Core(Loop* loop, TransportHandler* handler, const ShmOptions& options, ShmExporter* exporter)
      : interval_(tick_interval(options)), tick_([this] { tick(); }), listener_(&shared, this) {
    TERRACE_CHECK(options.turn_bytes_max > 0 && options.turn_bytes_urgent > 0);
    shared.loop = loop;
    shared.handler = handler;
    shared.options = options;
    shared.exporter = exporter;
    loop->arm(&tick_, loop->now() + interval_);
  }
  ~Core() { TERRACE_CHECK(closed_); }

  StatusOr<PeerId> connect(const std::string& name, uid_t node_user,
                           const std::array<std::byte, 16>& secret, Nanos deadline, Op* op);
  void close(Op* op);
  ShmPeer* find(PeerId id) const {
    const auto it = peers_.find(static_cast<uint64_t>(id));
    return it == peers_.end() ? nullptr : it->second.get();
  }
  bool borrows(RegionId region) const;
  void cancel(Op* op);
  void retract(uint64_t file) {
    for (const auto& [id, peer] : peers_) peer->retract(file);
  }
  ShmListener& listener() { return listener_; }

  ShmShared shared;

 private:
  // ShmPeer::Host
  void schedule_work(ShmPeer* peer) override;
  void schedule_finish() override { schedule_reap(); }
  // ShmListener::Host
  Status link_complete(const std::array<std::byte, 16>& secret,
                       std::unique_ptr<ShmLink>* link) override;
  void schedule_reap() override;

  void work();
  void reap();
  void tick();
  void finish_close();

  const Nanos interval_;
  Timer tick_;
  ShmListener listener_;
  std::unordered_map<uint64_t, std::unique_ptr<ShmPeer>> peers_;
  std::deque<uint64_t> to_work_;
  bool work_scheduled_ = false;
  bool reap_scheduled_ = false;
  bool closing_ = false;
  bool closed_ = false;
  Op* close_op_ = nullptr;
};

StatusOr<PeerId> ShmTransport::Core::connect(const std::string& name, uid_t node_user,
                                             const std::array<std::byte, 16>& secret,
                                             Nanos deadline, Op* op) {
  if (closing_) return error(StatusCode::kUnavailable, "the transport is closing");
  if (peers_.size() >= shared.options.peers_max) {
    return error(StatusCode::kResourceExhausted, "too many peers");
  }
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress address, parse_unix_address(name));
  const PeerId id = make_peer_id(TransportKind::shm);
  auto peer = std::make_unique<ShmPeer>(id, &shared, this);
  TERRACE_RETURN_IF_ERROR(peer->connect(address, node_user, secret, deadline, op));
  peers_[static_cast<uint64_t>(id)] = std::move(peer);
  return id;
}

Status ShmTransport::Core::link_complete(const std::array<std::byte, 16>& secret,
                                         std::unique_ptr<ShmLink>* link) {
  if (closing_) return StatusCode::kUnavailable;
  if (peers_.size() >= shared.options.peers_max) {
    return error(StatusCode::kResourceExhausted, "too many peers");
  }
  const PeerId id = make_peer_id(TransportKind::shm);
  ShmLink* const raw = link->get();
  auto owned = std::make_unique<ShmPeer>(id, &shared, this);
  ShmPeer* const peer = owned.get();
  peers_[static_cast<uint64_t>(id)] = std::move(owned);
  const Status opened = peer->open(std::move(*link));
  if (!opened.ok()) {  // nobody hears of it, so the secret may be used another way
    peer->close(CloseReason::full, opened);
    return ok_status();
  }
  shared.handler->on_peer(id, secret);
  if (find(id) != nullptr) raw->receive(FrameLane::shm);
  return ok_status();
}

void ShmTransport::Core::schedule_work(ShmPeer* peer) {
  if (std::exchange(peer->work_scheduled, true)) return;
  to_work_.push_back(static_cast<uint64_t>(peer->id()));
  if (!std::exchange(work_scheduled_, true)) shared.loop->defer([this] { work(); });
}

/// Peers in turn, so that nobody's megabytes keep another's first from being copied.
void ShmTransport::Core::work() {
  work_scheduled_ = false;
  const size_t turn = shared.turn_bytes();
  size_t bytes = 0;
  for (size_t left = to_work_.size(); left > 0 && bytes < turn; --left) {
    const uint64_t id = to_work_.front();
    to_work_.pop_front();
    ShmPeer* const peer = find(static_cast<PeerId>(id));
    if (peer == nullptr) continue;
    peer->work_scheduled = false;
    bytes += peer->work(turn - bytes);
  }
  if (!to_work_.empty() && !std::exchange(work_scheduled_, true)) {
    shared.loop->defer([this] { work(); });
  }
  if (closing_) schedule_reap();
}

void ShmTransport::Core::schedule_reap() {
  if (!std::exchange(reap_scheduled_, true)) shared.loop->defer([this] { reap(); });
}

void ShmTransport::Core::reap() {
  reap_scheduled_ = false;
  listener_.reap();
  std::vector<uint64_t> drained;
  for (const auto& [id, peer] : peers_) {
    if (peer->drained()) drained.push_back(id);
  }
  for (const uint64_t id : drained) {
    // Out of the table first: its last callbacks must not find it.
    const auto it = peers_.find(id);
    const std::unique_ptr<ShmPeer> peer = std::move(it->second);
    peers_.erase(it);
    peer->finish();
  }
  if (closing_) finish_close();
}

void ShmTransport::Core::tick() {
  shared.loop->arm(&tick_, shared.loop->now() + interval_);
  listener_.tick();
  for (const auto& [id, peer] : peers_) peer->tick();
}

bool ShmTransport::Core::borrows(RegionId region) const {
  const std::span<std::byte> memory = shared.regions.find(region);
  return !memory.empty() && std::any_of(peers_.begin(), peers_.end(), [memory](const auto& entry) {
    return entry.second->borrows(memory);
  });
}

void ShmTransport::Core::cancel(Op* op) {
  for (const auto& [id, peer] : peers_) {
    if (peer->cancel(op)) return;
  }
}

void ShmTransport::Core::close(Op* op) {
  TERRACE_CHECK(!closing_);
  closing_ = true;
  close_op_ = op;
  listener_.close();
  for (const auto& [id, peer] : peers_) {
    peer->close(CloseReason::asked, error(StatusCode::kUnavailable, "closed here"));
  }
  schedule_reap();
}

void ShmTransport::Core::finish_close() {
  if (!peers_.empty() || !listener_.drained() || work_scheduled_ || reap_scheduled_) return;
  if (std::exchange(closed_, true)) return;
  shared.loop->disarm(&tick_);
  shared.loop->defer(close_op_, ok_status());
}

ShmTransport::ShmTransport(Loop* loop, TransportHandler* handler, const ShmOptions& options,
                           ShmExporter* exporter)
    : core_(std::make_unique<Core>(loop, handler, options, exporter)) {}
ShmTransport::~ShmTransport() = default;

Status ShmTransport::listen(const std::string& name,
                            std::function<bool(std::span<const std::byte, 16>)> secret_known) {
  return core_->listener().listen(name, std::move(secret_known));
}
StatusOr<PeerId> ShmTransport::connect(const std::string& name, uid_t node_user,
                                       std::array<std::byte, 16> secret, Nanos deadline, Op* op) {
  return core_->connect(name, node_user, secret, deadline, op);
}
const ShmMetrics& ShmTransport::metrics() const {
  return core_->shared.metrics;
}

std::optional<std::vector<ShmPiece>> ShmTransport::lend(PeerId peer_id,
                                                        std::span<const iovec> memory) {
  ShmPeer* peer = core_->find(peer_id);
  return peer == nullptr ? std::nullopt : peer->lend(memory);
}
void ShmTransport::retract(uint64_t file) {
  core_->retract(file);
}
std::shared_ptr<const ShmMapping> ShmTransport::mapping(PeerId peer_id, uint64_t file) const {
  const ShmPeer* peer = core_->find(peer_id);
  return peer == nullptr ? nullptr : peer->mapping(file);
}

StatusOr<RegionId> ShmTransport::register_region(std::span<std::byte> memory) {
  return core_->shared.regions.add(memory);
}
void ShmTransport::when_prepared(RegionId region, Op* op) {
  core_->shared.loop->defer(op, core_->shared.regions.check(region));
}
Status ShmTransport::unregister_region(RegionId region) {
  if (!core_->borrows(region)) return core_->shared.regions.remove(region);
  return error(StatusCode::kFailedPrecondition,
               "region " + std::to_string(static_cast<uint64_t>(region)) +
                   " is used by a transfer of ours; cancel it and wait");
}
bool ShmTransport::region_in_use(RegionId region) const {
  return core_->borrows(region) || core_->shared.regions.pinned(region);
}

Status ShmTransport::send_message(PeerId to, const Message& message) {
  ShmPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->send_message(message);
}
Status ShmTransport::write(PeerId to, const Write& write, Op* op) {
  ShmPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->write(write, op);
}
Status ShmTransport::read(PeerId from, const Read& read, Op* op) {
  ShmPeer* peer = core_->find(from);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->read(read, op);
}
void ShmTransport::cancel(Op* op) {
  core_->cancel(op);
}
void ShmTransport::quiesce(PeerId peer_id, uint64_t tag, Op* op) {
  if (ShmPeer* peer = core_->find(peer_id)) return peer->quiesce(tag, op);
  core_->shared.loop->defer(op, ok_status());  // nothing of a peer that is gone touches anything
}
uint64_t ShmTransport::queued_bytes(PeerId peer_id) const {
  const ShmPeer* peer = core_->find(peer_id);
  return peer == nullptr ? 0 : peer->queued_bytes();
}
void ShmTransport::close_peer(PeerId peer_id, Status why) {
  if (ShmPeer* peer = core_->find(peer_id)) peer->close(CloseReason::asked, std::move(why));
}
void ShmTransport::close(Op* op) {
  core_->close(op);
}
}  // namespace terrace
