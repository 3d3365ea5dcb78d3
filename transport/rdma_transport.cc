#include "transport/rdma_transport.h"

#include <fcntl.h>

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "transport/rdma_peer.h"

namespace terrace {
namespace {

/// Progress is looked at often enough that a timeout is at most a quarter late.
Nanos tick_interval(const RdmaOptions& options) {
  const Nanos least = std::min(options.send_stall_timeout, options.keepalive_interval);
  return std::clamp<Nanos>(least / 4, milliseconds(10), seconds(1));
}
}  // namespace

class RdmaTransport::Core final : public RdmaDevice::Sink, public RdmaPeer::Host {
 public:
  using Secret = RdmaPeer::Secret;
  Core(Loop* loop, TransportHandler* handler, const RdmaOptions& options)
      : shared_(loop, handler, options),
        interval_(tick_interval(options)),
        tick_([this] { tick(); }) {}
  ~Core() { TERRACE_CHECK(closed_ || !started_); }

  Status start();
  StatusOr<Offer> open(const Secret& secret);
  Status establish(PeerId id, const std::string& endpoint, Nanos deadline, Op* op);
  StatusOr<Offer> accept(const Secret& secret, const std::string& endpoint);
  void close(Op* op);
  RdmaPeer* find(PeerId id) const {
    const auto it = peers_.find(static_cast<uint64_t>(id));
    return it == peers_.end() ? nullptr : it->second.get();
  }
  StatusOr<RegionId> register_region(std::span<std::byte> memory, Fd dmabuf = Fd(),
                                     uint64_t offset = 0);
  Status unregister_region(RegionId region);
  bool borrows(RegionId region) const;
  void cancel(Op* op);
  RdmaShared& shared() { return shared_; }

  // RdmaDevice::Sink
  void completed(uint32_t serial, const ibv_wc& completion) override;
  void frame_came(RdmaDevice* device, uint32_t qpn, std::span<const std::byte> frame) override;
  void port_lost(RdmaDevice* device, const Status& why) override;
  void round_ends() override;
  void device_drained() override { schedule_reap(); }
  void memory_settled();

  // RdmaPeer::Host
  void schedule_pump(RdmaPeer* peer) override;
  void schedule_finish() override { schedule_reap(); }

 private:
  StatusOr<RdmaPeer*> add_peer(const Secret& secret, bool accepted, size_t paths);
  void forget(RdmaPeer* peer);
  void wake_bounced();
  void pump();
  void schedule_reap();
  void reap();
  void tick();
  void finish_close();

  RdmaShared shared_;
  const Nanos interval_;
  Timer tick_;
  std::unordered_map<uint64_t, std::unique_ptr<RdmaPeer>> peers_;
  std::vector<uint64_t> to_pump_;
  bool started_ = false;
  bool pump_scheduled_ = false;
  bool in_round_ = false;  // completions are being told: what they cause is pumped at the end
  bool reap_scheduled_ = false;
  bool closing_ = false;
  bool devices_closed_ = false;
  bool closed_ = false;
  Op* close_op_ = nullptr;
};

Status RdmaTransport::Core::start() {
  TERRACE_ASSIGN_OR_RETURN(shared_.devices,
                           RdmaDevice::open_all(shared_.options, shared_.loop, this));
  shared_.device_lanes.resize(shared_.devices.size());
  std::vector<const RdmaCard*> cards;
  for (const auto& device : shared_.devices) cards.push_back(device.get());
  TERRACE_ASSIGN_OR_RETURN(shared_.memory,
                           RdmaMemory::create(shared_.options, shared_.loop, std::move(cards),
                                              &shared_.metrics, [this] { memory_settled(); }));
  started_ = true;
  for (const auto& device : shared_.devices) device->start();
  shared_.loop->arm(&tick_, shared_.loop->now() + interval_);
  return ok_status();
}

StatusOr<RdmaPeer*> RdmaTransport::Core::add_peer(const Secret& secret, bool accepted,
                                                  size_t paths) {
  if (closing_) return error(StatusCode::kUnavailable, "the transport is closing");
  if (peers_.size() >= shared_.options.peers_max) {
    return error(StatusCode::kResourceExhausted, "too many peers");
  }
  const PeerId id = make_peer_id(TransportKind::rdma);
  auto owned = std::make_unique<RdmaPeer>(id, &shared_, this, secret, accepted);
  RdmaPeer* const peer = owned.get();
  peers_[static_cast<uint64_t>(id)] = std::move(owned);
  const Status made = peer->make_paths(paths);
  if (made.ok()) return peer;
  forget(peer);
  return made;
}

/// A peer that nobody was told of.
void RdmaTransport::Core::forget(RdmaPeer* peer) {
  peer->close(CloseReason::handshake, StatusCode::kUnavailable, false);
  peer->finish();
  peers_.erase(static_cast<uint64_t>(peer->id()));
}

StatusOr<RdmaTransport::Offer> RdmaTransport::Core::open(const Secret& secret) {
  TERRACE_ASSIGN_OR_RETURN(RdmaPeer* const peer, add_peer(secret, false, shared_.devices.size()));
  return Offer{.peer = peer->id(), .endpoint = encode(peer->endpoint())};
}

Status RdmaTransport::Core::establish(PeerId id, const std::string& endpoint, Nanos deadline,
                                      Op* op) {
  RdmaPeer* const peer = find(id);
  if (peer == nullptr || peer->established()) {
    return error(StatusCode::kNotFound, "no RDMA offer waits for these bytes");
  }
  const StatusOr<RdmaEndpoint> remote = decode_rdma_endpoint(endpoint);
  const Status connected = remote.ok() ? peer->connect(*remote, deadline, op) : remote.status();
  if (!connected.ok()) forget(peer);
  return connected;
}

StatusOr<RdmaTransport::Offer> RdmaTransport::Core::accept(const Secret& secret,
                                                           const std::string& endpoint) {
  TERRACE_ASSIGN_OR_RETURN(const RdmaEndpoint remote, decode_rdma_endpoint(endpoint));
  for (const auto& [id, peer] : peers_) {
    if (peer->accepted() && peer->secret() == secret) {
      return error(StatusCode::kAlreadyExists, "this session is connected already");
    }
  }
  const size_t paths = std::min(remote.paths.size(), shared_.devices.size());
  TERRACE_ASSIGN_OR_RETURN(RdmaPeer* const peer, add_peer(secret, true, paths));
  const Status connected =
      peer->connect(remote, shared_.loop->now() + shared_.options.handshake_timeout, nullptr);
  if (!connected.ok()) {
    forget(peer);
    return connected;
  }
  return Offer{.peer = peer->id(), .endpoint = encode(peer->endpoint())};
}

StatusOr<RegionId> RdmaTransport::Core::register_region(std::span<std::byte> memory, Fd dmabuf,
                                                        uint64_t offset) {
  if (closing_) return error(StatusCode::kUnavailable, "the transport is closing");
  TERRACE_ASSIGN_OR_RETURN(const RegionId region, shared_.regions.add(memory));
  shared_.memory->add_region(region, memory, std::move(dmabuf), offset);
  return region;
}

/// Of this side; the table knows of the other.
bool RdmaTransport::Core::borrows(RegionId region) const {
  const std::span<std::byte> memory = shared_.regions.find(region);
  return !memory.empty() && std::any_of(peers_.begin(), peers_.end(), [memory](const auto& entry) {
    return entry.second->borrows(memory);
  });
}

Status RdmaTransport::Core::unregister_region(RegionId region) {
  const char* const why = borrows(region) ? " is used by a transfer of ours; cancel it and wait"
                          : shared_.memory->flying(region)
                              ? " is being registered; wait for when_prepared()"
                              : nullptr;
  if (why != nullptr) {
    return error(StatusCode::kFailedPrecondition,
                 "region " + std::to_string(static_cast<uint64_t>(region)) + why);
  }
  TERRACE_RETURN_IF_ERROR(shared_.regions.remove(region));
  shared_.memory->remove_region(region);
  return ok_status();
}

void RdmaTransport::Core::cancel(Op* op) {
  for (const auto& [id, peer] : peers_) {
    if (peer->cancel(op)) return;
  }
}

void RdmaTransport::Core::completed(uint32_t serial, const ibv_wc& completion) {
  in_round_ = true;
  const auto it = shared_.lanes.find(serial);
  if (it == shared_.lanes.end()) return;  // of a queue pair that is gone
  const RdmaShared::LaneOwner owner = it->second;
  owner.peer->completed(owner.path, owner.kind, completion);
}

void RdmaTransport::Core::frame_came(RdmaDevice* device, uint32_t qpn,
                                     std::span<const std::byte> frame) {
  in_round_ = true;
  for (size_t i = 0; i < shared_.devices.size(); ++i) {
    if (shared_.devices[i].get() != device) continue;
    const auto serial = shared_.device_lanes[i].serial_of.find(qpn);
    if (serial == shared_.device_lanes[i].serial_of.end()) return;
    shared_.lanes.at(serial->second).peer->frame_came(frame);
  }
}

void RdmaTransport::Core::port_lost(RdmaDevice* device, const Status& why) {
  for (size_t i = 0; i < shared_.devices.size(); ++i) {
    if (shared_.devices[i].get() != device) continue;
    for (const auto& [id, peer] : peers_) peer->port_lost(i, why);
  }
}

/// Peers may wait for the memory, or our end for the last of it.
void RdmaTransport::Core::memory_settled() {
  for (const auto& [id, peer] : peers_) peer->memory_settled();
  if (closing_) schedule_reap();
}

/// A bounce buffer may have come free, whoever waits for one.
void RdmaTransport::Core::wake_bounced() {
  if (!std::exchange(shared_.bounce_wanted, false)) return;
  for (const auto& [id, peer] : peers_) schedule_pump(peer.get());
}

void RdmaTransport::Core::schedule_pump(RdmaPeer* peer) {
  if (std::exchange(peer->pump_scheduled, true)) return;
  to_pump_.push_back(static_cast<uint64_t>(peer->id()));
  if (in_round_ || std::exchange(pump_scheduled_, true)) return;
  shared_.loop->defer([this] {
    pump_scheduled_ = false;
    pump();
  });
}

/// Answers leave before the loop sleeps, without another turn.
void RdmaTransport::Core::round_ends() {
  wake_bounced();
  in_round_ = false;
  pump();
}

/// Once per turn or round, so that what was queued together shares frames.
void RdmaTransport::Core::pump() {
  for (const uint64_t id : std::exchange(to_pump_, {})) {
    RdmaPeer* peer = find(static_cast<PeerId>(id));
    if (peer == nullptr) continue;
    peer->pump_scheduled = false;
    peer->pump();
  }
  if (closing_) schedule_reap();
}

void RdmaTransport::Core::schedule_reap() {
  if (!std::exchange(reap_scheduled_, true)) shared_.loop->defer([this] { reap(); });
}

void RdmaTransport::Core::reap() {
  reap_scheduled_ = false;
  std::vector<uint64_t> drained;
  for (const auto& [id, peer] : peers_) {
    if (peer->drained()) drained.push_back(id);
  }
  for (const uint64_t id : drained) {
    // Out of the table first: its last callbacks must not find it.
    const auto it = peers_.find(id);
    const std::unique_ptr<RdmaPeer> peer = std::move(it->second);
    peers_.erase(it);
    peer->finish();
  }
  if (!drained.empty()) wake_bounced();
  if (closing_) finish_close();
}

void RdmaTransport::Core::tick() {
  shared_.loop->arm(&tick_, shared_.loop->now() + interval_);
  for (const auto& [id, peer] : peers_) peer->tick(interval_);
}

void RdmaTransport::Core::close(Op* op) {
  TERRACE_CHECK(!closing_);
  closing_ = true;
  close_op_ = op;
  shared_.memory->close();
  for (const auto& [id, peer] : peers_) {
    peer->close(CloseReason::asked, error(StatusCode::kUnavailable, "closed here"));
  }
  schedule_reap();
}

void RdmaTransport::Core::finish_close() {
  if (closed_ || !peers_.empty()) return;
  if (!std::exchange(devices_closed_, true)) {
    for (const auto& device : shared_.devices) device->close();
  }
  const bool busy = std::any_of(shared_.devices.begin(), shared_.devices.end(),
                                [](const auto& device) { return !device->drained(); });
  if (busy || pump_scheduled_ || reap_scheduled_ || !shared_.memory->idle()) return;
  closed_ = true;
  shared_.loop->disarm(&tick_);
  shared_.loop->defer(close_op_, ok_status());
}

RdmaTransport::RdmaTransport(std::unique_ptr<Core> core) : core_(std::move(core)) {}
RdmaTransport::~RdmaTransport() = default;

StatusOr<std::unique_ptr<RdmaTransport>> RdmaTransport::create(Loop* loop,
                                                               TransportHandler* handler,
                                                               const RdmaOptions& options) {
  auto core = std::make_unique<Core>(loop, handler, options);
  TERRACE_RETURN_IF_ERROR(core->start());
  return std::unique_ptr<RdmaTransport>(new RdmaTransport(std::move(core)));
}

StatusOr<RdmaTransport::Offer> RdmaTransport::open(std::array<std::byte, 16> secret) {
  return core_->open(secret);
}
Status RdmaTransport::establish(PeerId peer, const std::string& endpoint, Nanos deadline, Op* op) {
  return core_->establish(peer, endpoint, deadline, op);
}
StatusOr<RdmaTransport::Offer> RdmaTransport::accept(std::array<std::byte, 16> secret,
                                                     const std::string& endpoint) {
  return core_->accept(secret, endpoint);
}
Status RdmaTransport::find_way(const std::string& endpoint) const {
  return find_ways(core_->shared().devices, endpoint);
}
const RdmaMetrics& RdmaTransport::metrics() const {
  return core_->shared().metrics;
}

StatusOr<RegionId> RdmaTransport::register_region(std::span<std::byte> memory) {
  return core_->register_region(memory);
}
StatusOr<RegionId> RdmaTransport::register_device_memory(const DeviceMemory& memory) {
  Fd dmabuf(::fcntl(memory.dmabuf, F_DUPFD_CLOEXEC, 0));
  if (!dmabuf) return error(StatusCode::kInvalidArgument, "the dmabuf is no descriptor");
  return core_->register_region(memory.addresses, std::move(dmabuf), memory.offset);
}
void RdmaTransport::when_prepared(RegionId region, Op* op) {
  core_->shared().memory->when_known(region, op);
}
Status RdmaTransport::unregister_region(RegionId region) {
  return core_->unregister_region(region);
}
bool RdmaTransport::region_in_use(RegionId region) const {
  return core_->borrows(region) || core_->shared().memory->flying(region) ||
         core_->shared().regions.pinned(region);
}
void RdmaTransport::expect_memory(std::span<std::byte> memory) {
  core_->shared().memory->expect(memory);
}
void RdmaTransport::forget_memory(std::span<std::byte> memory) {
  core_->shared().memory->forget(memory);
}

Status RdmaTransport::send_message(PeerId to, const Message& message) {
  RdmaPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->send_message(message);
}
Status RdmaTransport::write(PeerId to, const Write& write, Op* op) {
  RdmaPeer* peer = core_->find(to);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->write(write, op);
}
Status RdmaTransport::read(PeerId from, const Read& read, Op* op) {
  RdmaPeer* peer = core_->find(from);
  return peer == nullptr ? Status(StatusCode::kUnavailable) : peer->read(read, op);
}
void RdmaTransport::cancel(Op* op) {
  core_->cancel(op);
}
void RdmaTransport::quiesce(PeerId peer_id, uint64_t tag, Op* op) {
  if (RdmaPeer* peer = core_->find(peer_id)) return peer->quiesce(tag, op);
  core_->shared().loop->defer(op, ok_status());  // nothing of a peer that is gone touches anything
}
uint64_t RdmaTransport::queued_bytes(PeerId peer_id) const {
  const RdmaPeer* peer = core_->find(peer_id);
  return peer == nullptr ? 0 : peer->queued_bytes();
}
void RdmaTransport::close_peer(PeerId peer_id, Status why) {
  if (RdmaPeer* peer = core_->find(peer_id)) {
    peer->close(CloseReason::asked, std::move(why));
  }
}
void RdmaTransport::close(Op* op) {
  core_->close(op);
}
}  // namespace terrace
