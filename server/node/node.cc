#include "server/node/node.h"

#include <cstdlib>
#include <thread>

#include "base/cpu.h"
#include "base/log.h"
#include "base/prng.h"
#include "server/node/control_service.h"
#include "server/node/device_lender.h"
#include "server/node/metrics.h"
#include "server/node/node_devices.h"
#include "server/node/open_accelerator.h"
#include "server/node/router.h"
#include "server/node/scan_turns.h"
#include "server/node/shared_start.h"
#include "server/node/slab_exporter.h"
#include "server/node/view_table.h"
#include "server/node/warm_restart.h"
#include "storage/tier_pass.h"
#include "transport/rdma_transport.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"
#include "transport/transport_set.h"

namespace terrace {
namespace {

constexpr Nanos kTurn = milliseconds(10);
constexpr Nanos kCloseTimeout = seconds(30);  // of the tiers, on top of the drain timeout

/// An asynchronous step that the loop is turned for.
class Step final : public Op {
 public:
  void done(Status result) override {
    if (!result.ok()) spdlog::warn("event=shutdown_step error=\"{}\"", result.to_string());
    finished_ = true;
  }
  bool wait(Loop* loop, Nanos timeout) {
    const Nanos until = loop->now() + timeout;
    while (!finished_ && loop->now() < until) loop->turn(kTurn);
    return finished_;
  }

 private:
  bool finished_ = false;
};
}  // namespace

/// Never destroyed: a call of the shared tier that hangs may look at it after the node is gone.
const Clock* machine_clock() {
  static const SystemClock* const clock = new SystemClock;
  return clock;
}

/// Members in the order in which they come to life; they end in the opposite order.
class Node::Core {
 public:
  explicit Core(const NodeConfig& node_config) : config(node_config) {}
  Status start();
  void run();
  void shut_down();

  NodeConfig config;
  NodeCounters counters;
  NodeContext context;
  std::unique_ptr<Loop> loop;
  std::unique_ptr<DirectoryLock> lock;
  std::unique_ptr<NodeDevices> devices;
  std::unique_ptr<MetadataStore> metadata;
  std::unique_ptr<NamespaceTable> namespaces;
  std::unique_ptr<WarmRestart> warm;
  std::unique_ptr<ViewBoard> board;
  std::unique_ptr<ChunkStore> store;
  std::unique_ptr<Pacer> pacer;
  std::unique_ptr<ScanTurns> scans;
  std::unique_ptr<Router> router;
  std::unique_ptr<TcpTransport> tcp;
  std::unique_ptr<ViewTable> views;  // null without shared memory, like the next three
  std::unique_ptr<DeviceLender> lender;
  std::unique_ptr<SlabExporter> slabs;
  std::unique_ptr<ShmTransport> shm;
  std::unique_ptr<RdmaTransport> rdma;  // null without RDMA
  std::unique_ptr<TransportSet> transports;
  std::unique_ptr<ControlServer> control;
  std::unique_ptr<MetricsServer> metrics;
  uint16_t data_port = 0;

 private:
  Status open_media();
  Status open_store();
  StatusOr<std::shared_ptr<SharedMedium>> open_shared();
  Status open_ports();
  TransportMetrics transport_metrics() const {
    TransportMetrics all{.tcp = &tcp->metrics()};
    if (shm != nullptr) all.shm = &shm->metrics();
    if (shm != nullptr) all.views = &views->metrics();
    if (shm != nullptr) all.device_borrowers = &lender->borrowers();
    if (rdma != nullptr) all.rdma = &rdma->metrics();
    return all;
  }
  Status open_rdma();
  void slab_changes(uint32_t slab, std::span<std::byte> memory, bool present);
  /// The name of its socket.
  StatusOr<std::string> open_shm(uint64_t boot_id,
                                 std::function<bool(std::span<const std::byte, 16>)> expected);
  void drain();
  void close_control();
  void wait_for(Step* step, Nanos timeout, const char* what);
};

Status Node::Core::start() {
  Loop::Options options;
  options.ring_entries = 4096;
  options.poll_for = config.poll_for;
  TERRACE_ASSIGN_OR_RETURN(options.cpus, parse_cpu_list(config.cpus));
  config.store.numa_node = numa_node_of(options.cpus);
  TERRACE_ASSIGN_OR_RETURN(loop, Loop::create(options, machine_clock()));
  if (!config.store.data_directory.empty()) TERRACE_RETURN_IF_ERROR(open_media());
  namespaces = std::make_unique<NamespaceTable>(metadata.get(), config.store.data_directory,
                                                config.namespaces_per_tenant_max);
  TERRACE_RETURN_IF_ERROR(namespaces->recover());
  TERRACE_RETURN_IF_ERROR(open_store());
  context.config = &config;
  context.loop = loop.get();
  context.store = store.get();
  context.namespaces = namespaces.get();
  context.counters = &counters;
  PacerOptions pacing;
  pacing.window_bytes = config.wire_window_bytes;
  for (const TenantConfig& tenant : config.tenants) {
    pacing.tenant_bytes_per_s_max[tenant.name] = tenant.bytes_per_s_max;
  }
  pacer = std::make_unique<Pacer>(loop.get(), std::move(pacing));
  context.pacer = pacer.get();
  scans = std::make_unique<ScanTurns>(loop.get());
  context.scans = scans.get();
  return open_ports();
}

Status Node::Core::open_media() {
  TERRACE_ASSIGN_OR_RETURN(DirectoryLock taken,
                           DirectoryLock::acquire(config.store.data_directory));
  lock = std::make_unique<DirectoryLock>(std::move(taken));
  TERRACE_ASSIGN_OR_RETURN(devices, NodeDevices::open(config.store, lock->uuid(), loop.get()));
  MetadataStore::Options rows;
  rows.path = config.store.metadata_path();
  TERRACE_ASSIGN_OR_RETURN(metadata, MetadataStore::open(rows, loop.get()));
  return ok_status();
}

Status Node::Core::open_store() {
  TERRACE_ASSIGN_OR_RETURN(warm,
                           WarmRestart::open(config, lock == nullptr ? Uuid() : lock->uuid()));
  // The time, so that no word ever has a value again that a restarted node's had.
  constexpr unsigned kTicksPerSecondBits = 20;
  TERRACE_ASSIGN_OR_RETURN(ViewBoard made, warm->take_board(static_cast<uint64_t>(unix_seconds())
                                                            << kTicksPerSecondBits));
  board = std::make_unique<ViewBoard>(std::move(made));
  TERRACE_ASSIGN_OR_RETURN(const std::shared_ptr<SharedMedium> shared, open_shared());
  std::shared_ptr<Accelerator> accelerator;
  if (config.store.hbm_bytes > 0) {
    TERRACE_ASSIGN_OR_RETURN(accelerator, open_accelerator(config.hbm_device));
  }
  std::vector<NvmeDevice> nvme;
  if (devices != nullptr) nvme = devices->all();
  TERRACE_ASSIGN_OR_RETURN(
      store, ChunkStore::open(config.store, loop.get(), std::move(nvme), metadata.get(), shared,
                              warm->take_slabs(*namespaces), std::move(accelerator)));
  if (!config.hbm_tenant.empty()) store->keep_hbm_for(namespaces->domain_of(config.hbm_tenant));
  namespaces->never_reuse(store->highest_namespace());
  for (const auto& ns : namespaces->all()) store->name_namespace(ns->id, ns->shared_digest);
  return ok_status();
}

/// Null: the node has no shared tier.
StatusOr<std::shared_ptr<SharedMedium>> Node::Core::open_shared() {
  if (!config.store.has_shared()) return std::shared_ptr<SharedMedium>();
  return open_shared_medium(config.store, machine_clock());
}

Status Node::Core::open_ports() {
  router = std::make_unique<Router>(&context);
  transports = std::make_unique<TransportSet>(loop.get());
  context.transport = transports.get();
  const auto expected = [this](std::span<const std::byte, 16> s) { return router->expects(s); };
  tcp = std::make_unique<TcpTransport>(loop.get(), router.get(), TcpOptions());
  transports->add(TransportKind::tcp, tcp.get());
  TERRACE_ASSIGN_OR_RETURN(
      data_port,
      tcp->listen(config.listen_host + ":" + std::to_string(config.data_port), expected));
  ControlServer::Facts facts;
  facts.node_id = config.node_id;
  secure_random(std::as_writable_bytes(std::span(&facts.boot_id, 1)));
  facts.data_port = data_port;
  if (config.shm) {
    TERRACE_ASSIGN_OR_RETURN(facts.shm_socket, open_shm(facts.boot_id, expected));
  }
  if (config.rdma) TERRACE_RETURN_IF_ERROR(open_rdma());
  store->on_slab_memory([this](uint32_t slab, std::span<std::byte> memory, bool present) {
    slab_changes(slab, memory, present);
  });
  facts.started = loop->now();
  TERRACE_ASSIGN_OR_RETURN(control, ControlServer::start(&context, router.get(), facts));
  if (config.metrics) {
    TERRACE_ASSIGN_OR_RETURN(metrics, MetricsServer::start(&context, transport_metrics()));
  }
  return ok_status();
}

Status Node::Core::open_rdma() {
  TERRACE_ASSIGN_OR_RETURN(rdma, RdmaTransport::create(loop.get(), router.get(), RdmaOptions()));
  transports->add(TransportKind::rdma, rdma.get());
  context.rdma = rdma.get();
  if (!store->staging_memory().empty()) rdma->expect_memory(store->staging_memory());
  return ok_status();
}

/// What is told of a slab's memory as it comes and goes.
void Node::Core::slab_changes(uint32_t slab, std::span<std::byte> memory, bool present) {
  if (present) return transports->expect_memory(memory);
  if (slabs != nullptr) slabs->slab_goes(slab, shm.get());
  transports->forget_memory(memory);
}

StatusOr<std::string> Node::Core::open_shm(
    uint64_t boot_id, std::function<bool(std::span<const std::byte, 16>)> expected) {
  ShmOptions options;
  options.same_user_allowed = config.dev;
  ViewOptions viewing;
  viewing.bytes_max =
      config.view_bytes_max != 0 ? config.view_bytes_max : config.store.dram_bytes / 4;
  viewing.device_bytes_max = config.store.hbm_bytes / 4;
  viewing.hold_max = config.view_hold_max;
  viewing.grace = config.view_grace;
  views = std::make_unique<ViewTable>(loop.get(), board.get(), viewing);
  context.views = views.get();
  lender = std::make_unique<DeviceLender>(loop.get(), transports.get(), config.view_grace);
  context.lender = lender.get();
  store->on_quarantine([this](const ChunkKey& key) { views->condemn(key); });
  store->on_device_recall([this](uint64_t loan) {
    views->revoke_device();
    lender->call_back(loan);
  });
  store->on_resized([this](const ResizePass& pass) {
    if (config.view_bytes_max == 0 && pass.tier == Tier::dram) views->limit(pass.bytes / 4);
    if (pass.tier == Tier::hbm) views->limit_device(pass.bytes / 4);
  });
  slabs = std::make_unique<SlabExporter>(store.get(), router.get(), board.get());
  shm = std::make_unique<ShmTransport>(loop.get(), router.get(), options, slabs.get());
  transports->add(TransportKind::shm, shm.get());
  context.shm = shm.get();
  std::string name = config.shm_socket;
  if (name.empty()) name = "@terrace-" + std::to_string(boot_id);
  TERRACE_RETURN_IF_ERROR(shm->listen(name, std::move(expected)));
  return name;
}

void Node::Core::run() {
  loop->run();
  spdlog::info("event=draining operations={}", counters.operations_in_flight.get());
  drain();
}

/// Running operations may end; new ones are refused.
void Node::Core::drain() {
  context.draining = true;
  const Nanos until = loop->now() + config.drain_timeout;
  while (counters.operations_in_flight.get() > 0 && loop->now() < until) loop->turn(kTurn);
  // Engines that read device memory have as long as those whose views are revoked.
  store->call_device_back();
  const Nanos grace = loop->now() + config.view_grace;
  while (lender != nullptr && lender->borrowers().get() > 0 && loop->now() < grace) {
    loop->turn(kTurn);
  }
}

/// Its calls wait for the loop, so the loop turns while it ends.
void Node::Core::close_control() {
  std::atomic<bool> closed{false};
  std::thread closer([this, &closed] {
    control.reset();
    closed.store(true);
  });
  while (!closed.load()) loop->turn(kTurn);
  closer.join();
}

/// A step that does not end would leave the kernel with memory that is about to go: then the
/// process ends here, which is always safe for what is stored.
void Node::Core::wait_for(Step* step, Nanos timeout, const char* what) {
  if (step->wait(loop.get(), timeout)) return;
  spdlog::error("event=shutdown_stuck step={}", what);
  std::_Exit(1);
}

/// Also after a start that failed halfway.
void Node::Core::shut_down() {
  if (loop == nullptr) return;
  context.draining = true;
  metrics.reset();
  if (control != nullptr) close_control();
  if (transports != nullptr) {
    Step closed;
    transports->close(&closed);
    wait_for(&closed, kCloseTimeout, "transports");
  }
  if (router != nullptr) {
    Step closed;
    router->close(&closed);
    wait_for(&closed, kCloseTimeout, "sessions");
  }
  if (store != nullptr) store->on_slab_memory(nullptr);
  transports.reset();
  tcp.reset();
  shm.reset();
  rdma.reset();
  slabs.reset();
  if (store != nullptr) {
    store->on_quarantine(nullptr);
    store->on_device_recall(nullptr);
    store->on_resized(nullptr);
  }
  lender.reset();
  if (views != nullptr) views->close();
  views.reset();
  router.reset();
  scans.reset();
  pacer.reset();
  if (store != nullptr) {
    Step closed;
    store->close(&closed);
    wait_for(&closed, kCloseTimeout, "store");
  }
  store.reset();
  metadata.reset();
  loop->turn(Nanos(0));
}

StatusOr<std::unique_ptr<Node>> Node::start(const NodeConfig& config) {
  auto core = std::make_unique<Core>(config);
  const Status started = core->start();
  if (!started.ok()) {
    core->shut_down();
    return started;
  }
  return std::unique_ptr<Node>(new Node(std::move(core)));
}

Node::Node(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Node::~Node() {
  core_->shut_down();
}

void Node::run() {
  core_->run();
}
void Node::stop() {
  core_->loop->stop();
}
uint16_t Node::control_port() const {
  return core_->control->port();
}
uint16_t Node::data_port() const {
  return core_->data_port;
}
uint16_t Node::metrics_port() const {
  return core_->metrics == nullptr ? uint16_t{0} : core_->metrics->port();
}
}  // namespace terrace
