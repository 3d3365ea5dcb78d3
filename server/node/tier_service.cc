#include "server/node/tier_service.h"

#include <utility>

#include "base/limits.h"
#include "proto/tiers.grpc.pb.h"
#include "server/node/call_service.h"
#include "server/node/tier_reports.h"

namespace terrace {
namespace {

/// Objects that a call names, of a namespace that is the caller's.
struct Named {
  NamespaceId ns{};
  std::vector<ChunkKey> keys;
};

class TierService final : public proto::TierAdmin::Service {
 public:
  TierService(NodeContext* context, std::string node_id)
      : context_(context), node_id_(std::move(node_id)) {}

  grpc::Status Explain(grpc::ServerContext* call, const proto::ExplainRequest* request,
                       proto::ExplainReply* reply) override {
    return to_grpc(explain(*call, *request, reply));
  }
  grpc::Status TierStatus(grpc::ServerContext* call, const proto::TierStatusRequest*,
                          proto::TierStatusReply* reply) override {
    return to_grpc(status(*call, reply));
  }

 private:
  StatusOr<Named> named(const grpc::ServerContext& call, const proto::ObjectsOf& objects) const {
    Caller caller;
    TERRACE_RETURN_IF_ERROR(authenticate(*context_->config, call, objects.tenant(), &caller));
    const auto ns = context_->namespaces->find(caller.tenant, objects.name());
    if (ns == nullptr) {
      return error(StatusCode::kNotFound, "no namespace \"" + objects.name() + "\" of tenant \"" +
                                              caller.tenant + "\" on this node");
    }
    TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(objects.keys(), kKeysPerRequestMax));
    return Named{ns->id, {keys.begin(), keys.end()}};
  }

  Status explain(const grpc::ServerContext& call, const proto::ExplainRequest& request,
                 proto::ExplainReply* reply) const {
    TERRACE_ASSIGN_OR_RETURN(const Named object, named(call, request.object()));
    if (object.keys.size() != 1) {
      return error(StatusCode::kInvalidArgument,
                   "explain of " + std::to_string(object.keys.size()) + " keys; one at a time");
    }
    auto said = on_loop(context_->loop, [context = context_, object] {
      return explain_reply(*context, object.ns, object.keys[0]);
    });
    if (!said.ok()) return said.status();
    *reply = *std::move(said);
    reply->set_node_id(node_id_);
    return ok_status();
  }

  Status status(const grpc::ServerContext& call, proto::TierStatusReply* reply) const {
    Caller caller;
    TERRACE_RETURN_IF_ERROR(authenticate(*context_->config, call, "", &caller));
    auto said =
        on_loop(context_->loop, [context = context_] { return tier_status_reply(*context); });
    if (!said.ok()) return said.status();
    *reply = *std::move(said);
    reply->set_node_id(node_id_);
    return ok_status();
  }

  NodeContext* const context_;
  const std::string node_id_;
};
}  // namespace

std::unique_ptr<grpc::Service> make_tier_service(NodeContext* context, std::string node_id) {
  return std::make_unique<TierService>(context, std::move(node_id));
}
}  // namespace terrace
