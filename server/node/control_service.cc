#include "server/node/control_service.h"

#include <unistd.h>

#include "base/host.h"
#include "base/log.h"
#include "base/version.h"
#include "proto/control.grpc.pb.h"
#include "server/node/call_service.h"
#include "server/node/status_counters.h"
#include "server/node/tier_service.h"
#include "transport/rdma_transport.h"

namespace terrace {
namespace {

constexpr int kMessageBytesMax = 4 << 20;

class ControlService final : public proto::Control::Service {
 public:
  ControlService(NodeContext* context, Router* router, const ControlServer::Facts& facts)
      : context_(context), router_(router), facts_(facts) {}

  grpc::Status OpenSession(grpc::ServerContext* call, const proto::OpenSessionRequest* request,
                           proto::OpenSessionReply* reply) override {
    return to_grpc(open_session(*call, *request, reply));
  }
  grpc::Status OpenNamespace(grpc::ServerContext*, const proto::OpenNamespaceRequest* request,
                             proto::OpenNamespaceReply* reply) override {
    return to_grpc(open_namespace(*request, reply));
  }
  grpc::Status OpenRdma(grpc::ServerContext*, const proto::OpenRdmaRequest* request,
                        proto::OpenRdmaReply* reply) override {
    return to_grpc(open_rdma(*request, reply));
  }

 private:
  Status open_session(const grpc::ServerContext& call, const proto::OpenSessionRequest& request,
                      proto::OpenSessionReply* reply) {
    if (request.protocol_version() != kProtocolVersion) {
      return error(StatusCode::kFailedPrecondition,
                   "client speaks protocol " + std::to_string(request.protocol_version()) +
                       ", node " + std::to_string(kProtocolVersion) + ": upgrade the older one");
    }
    std::string tenant;
    TERRACE_RETURN_IF_ERROR(authenticate(*context_->config, call, request.tenant(), &tenant));
    const std::string client = request.client().substr(0, 128);
    auto opened = on_loop(context_->loop, [router = router_, tenant, client] {
      return router->open_session(tenant, client);
    });
    if (!opened.ok()) return opened.status();
    TERRACE_ASSIGN_OR_RETURN(const Secret secret, *std::move(opened));
    reply->set_secret(secret.data(), secret.size());
    reply->set_data_port(facts_.data_port);
    reply->set_shm_socket(facts_.shm_socket);
    if (!facts_.shm_socket.empty()) {
      reply->set_shm_host(host_identity(facts_.shm_socket.front() == '@'));
      reply->set_shm_user(::geteuid());
    }
    reply->set_node_id(facts_.node_id);
    reply->set_version(kVersion);
    reply->set_boot_id(facts_.boot_id);
    reply->set_protocol_version(kProtocolVersion);
    return ok_status();
  }

  Session* session_of(const proto::OpenRdmaRequest& request) {
    return router_->find_session(
        std::as_bytes(std::span(request.secret().data(), request.secret().size())));
  }

  Status open_rdma(const proto::OpenRdmaRequest& request, proto::OpenRdmaReply* reply) {
    if (context_->rdma == nullptr) {
      return error(StatusCode::kUnavailable, "node has no RDMA: see its option rdma");
    }
    const auto used = [] {
      return error(StatusCode::kUnauthenticated, "unknown or used session: open one");
    };
    // Once per session: making queue pairs keeps the loop busy, and finding the way a thread.
    auto taken = on_loop(context_->loop, [this, request] {
      Session* session = session_of(request);
      return session != nullptr && !session->was_connected() && session->take_queue_pairs();
    });
    if (!taken.ok()) return taken.status();
    if (!*taken) return used();
    TERRACE_RETURN_IF_ERROR(context_->rdma->find_way(request.endpoint()));
    auto accepted = on_loop(context_->loop, [this, request, used]() -> StatusOr<std::string> {
      const Session* session = session_of(request);
      if (session == nullptr || session->was_connected()) return used();
      TERRACE_ASSIGN_OR_RETURN(const RdmaTransport::Offer offer,
                               context_->rdma->accept(session->secret(), request.endpoint()));
      return offer.endpoint;
    });
    if (!accepted.ok()) return accepted.status();
    TERRACE_ASSIGN_OR_RETURN(const std::string endpoint, *std::move(accepted));
    reply->set_endpoint(endpoint);
    return ok_status();
  }

  Status open_namespace(const proto::OpenNamespaceRequest& request,
                        proto::OpenNamespaceReply* reply) {
    // The tenant comes from the session, never from the request.
    auto tenant = on_loop(context_->loop, [this, secret = request.secret()] {
      const Session* session =
          router_->find_session(std::as_bytes(std::span(secret.data(), secret.size())));
      return session == nullptr ? std::string() : session->tenant();
    });
    if (!tenant.ok()) return tenant.status();
    if (tenant->empty()) return error(StatusCode::kUnauthenticated, "unknown session: open one");
    TERRACE_ASSIGN_OR_RETURN(const Fingerprint fingerprint,
                             parse_fingerprint(request.fingerprint()));
    bool created = false;
    TERRACE_ASSIGN_OR_RETURN(
        const std::shared_ptr<const Namespace> ns,
        context_->namespaces->open(*tenant, request.name(), fingerprint, &created));
    if (created) {
      spdlog::info("event=namespace_created tenant=\"{}\" name=\"{}\" id={}", ns->tenant, ns->name,
                   static_cast<uint32_t>(ns->id));
    }
    auto known = on_loop(context_->loop, [this, ns, secret = request.secret()] {
      Session* session =
          router_->find_session(std::as_bytes(std::span(secret.data(), secret.size())));
      context_->store->assign_domain(ns->id, ns->domain);  // before anybody can put into it
      context_->store->name_namespace(ns->id, ns->shared_digest);
      if (session != nullptr) session->opened(ns);
      return session != nullptr;
    });
    if (!known.ok()) return known.status();
    if (!*known) return error(StatusCode::kUnavailable, "session closed meanwhile");
    reply->set_namespace_id(static_cast<uint32_t>(ns->id));
    reply->set_created(created);
    return ok_status();
  }

  NodeContext* const context_;
  Router* const router_;
  const ControlServer::Facts facts_;
};

class AdminService final : public proto::Admin::Service {
 public:
  AdminService(NodeContext* context, Router* router, const ControlServer::Facts& facts)
      : context_(context), router_(router), facts_(facts) {}

  grpc::Status NodeStatus(grpc::ServerContext* call, const proto::NodeStatusRequest*,
                          proto::NodeStatusReply* reply) override {
    std::string tenant;
    const Status who = authenticate(*context_->config, *call, "", &tenant);
    if (!who.ok()) return to_grpc(who);
    auto answer = on_loop(context_->loop, [this] { return status(); });
    if (!answer.ok()) return to_grpc(answer.status());
    *reply = *std::move(answer);
    return grpc::Status::OK;
  }
  grpc::Status ListNamespaces(grpc::ServerContext* call,
                              const proto::ListNamespacesRequest* request,
                              proto::ListNamespacesReply* reply) override {
    std::string tenant;
    const Status who = authenticate(*context_->config, *call, request->tenant(), &tenant);
    if (!who.ok()) return to_grpc(who);
    const bool all = context_->config->dev && request->tenant().empty();
    auto answer = on_loop(context_->loop, [this, tenant, all] { return list(tenant, all); });
    if (!answer.ok()) return to_grpc(answer.status());
    *reply = *std::move(answer);
    return grpc::Status::OK;
  }

 private:
  proto::NodeStatusReply status() const {
    proto::NodeStatusReply out;
    out.set_node_id(facts_.node_id);
    out.set_version(kVersion);
    out.set_boot_id(facts_.boot_id);
    out.set_uptime_ms(static_cast<uint64_t>(
        std::chrono::duration_cast<milliseconds>(context_->loop->now() - facts_.started).count()));
    for (Tier tier : {Tier::hbm, Tier::dram, Tier::nvme, Tier::shared}) {
      const ChunkStore::TierUse use = context_->store->tier_use(tier);
      if (use.capacity == 0) continue;
      proto::NodeStatusReply::TierStatus* t = out.add_tiers();
      t->set_tier(name_of(tier));
      t->set_capacity_bytes(use.capacity);
      t->set_used_bytes(use.used);
      t->set_objects(use.objects);
    }
    out.set_sessions(static_cast<uint32_t>(router_->sessions()));
    out.set_operations_in_flight(context_->counters->operations_in_flight.get());
    const StoreMetrics& m = context_->store->metrics();
    out.set_recovered_objects(m.recovered_objects.get());
    out.set_recovery_us(m.recovery_us.get());
    out.set_effective_config(to_toml(*context_->config));
    fill_counters(*context_, &out);
    return out;
  }

  proto::ListNamespacesReply list(const std::string& tenant, bool all) const {
    proto::ListNamespacesReply out;
    for (const auto& ns : context_->namespaces->all()) {
      if (!all && ns->tenant != tenant) continue;
      proto::ListNamespacesReply::Namespace* n = out.add_namespaces();
      const ChunkStore::Usage usage = context_->store->usage(ns->id);
      n->set_id(static_cast<uint32_t>(ns->id));
      n->set_tenant(ns->tenant);
      n->set_name(ns->name);
      n->set_model_id(ns->fingerprint.model_id);
      n->set_objects(usage.objects);
      n->set_bytes(usage.bytes);
      n->set_bytes_max(context_->config->namespace_bytes_max);
      n->set_fingerprint(canonical_bytes(ns->fingerprint));
    }
    return out;
  }

  NodeContext* const context_;
  Router* const router_;
  const ControlServer::Facts facts_;
};
}  // namespace

class ControlServer::Core {
 public:
  Core(NodeContext* context, Router* router, const Facts& facts)
      : control_(context, router, facts),
        admin_(context, router, facts),
        tiers_(make_tier_service(context, facts.node_id)) {}
  ~Core() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now() + seconds(1));
  }
  Status listen(const NodeConfig& config) {
    const std::string address = config.listen_host + ":" + std::to_string(config.control_port);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&control_);
    builder.RegisterService(&admin_);
    builder.RegisterService(tiers_.get());
    builder.SetMaxReceiveMessageSize(kMessageBytesMax);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    // Two nodes must never share a port without knowing it.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    server_ = builder.BuildAndStart();
    if (!server_ || port == 0) {
      return error(StatusCode::kUnavailable, "cannot listen on " + address);
    }
    port_ = static_cast<uint16_t>(port);
    return ok_status();
  }
  uint16_t port() const { return port_; }

 private:
  ControlService control_;
  AdminService admin_;
  std::unique_ptr<grpc::Service> tiers_;
  std::unique_ptr<grpc::Server> server_;
  uint16_t port_ = 0;
};

StatusOr<std::unique_ptr<ControlServer>> ControlServer::start(NodeContext* context, Router* router,
                                                              const Facts& facts) {
  auto core = std::make_unique<Core>(context, router, facts);
  TERRACE_RETURN_IF_ERROR(core->listen(*context->config));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(core)));
}
ControlServer::ControlServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
ControlServer::~ControlServer() = default;
uint16_t ControlServer::port() const {
  return core_->port();
}
}  // namespace terrace
