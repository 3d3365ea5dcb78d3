#include "client/grpc_control.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/version.h"
#include "proto/control.grpc.pb.h"
#include "proto/message_kind.h"
#include "transport/tcp_address.h"

namespace terrace {
namespace {

class GrpcControl final : public ControlChannel {
 public:
  GrpcControl(const std::string& endpoint, const std::string& token)
      : endpoint_(endpoint), token_(token) {}

  StatusOr<SessionOffer> open_session(const std::string& tenant, Nanos timeout) override {
    // A fresh channel per session: gRPC's own reconnect backoff would add to ours.
    auto stub = connect();
    proto::OpenSessionRequest request;
    request.set_protocol_version(kProtocolVersion);
    request.set_tenant(tenant);
    request.set_client(std::string("terrace/") + kVersion);
    proto::OpenSessionReply reply;
    TERRACE_RETURN_IF_ERROR(call("OpenSession", timeout, [&](grpc::ClientContext* context) {
      return stub->OpenSession(context, request, &reply);
    }));
    if (reply.protocol_version() != kProtocolVersion) {
      return error(StatusCode::kFailedPrecondition,
                   "client speaks protocol " + std::to_string(kProtocolVersion) + ", node " +
                       endpoint_ + " speaks " + std::to_string(reply.protocol_version()));
    }
    SessionOffer offer;
    if (reply.secret().size() != offer.secret.size() || reply.data_port() == 0 ||
        reply.data_port() > 65535) {
      return error(StatusCode::kInternal, "node " + endpoint_ + " offered a secret of " +
                                              std::to_string(reply.secret().size()) +
                                              " bytes and data port " +
                                              std::to_string(reply.data_port()));
    }
    std::memcpy(offer.secret.data(), reply.secret().data(), offer.secret.size());
    const std::string host = endpoint_.substr(0, endpoint_.rfind(':'));
    // Here, where it may block: the transport connects on the loop and asks no name server.
    TERRACE_ASSIGN_OR_RETURN(offer.data_address,
                             resolve_address(host + ":" + std::to_string(reply.data_port())));
    offer.shm_socket = reply.shm_socket();
    offer.shm_host = reply.shm_host();
    offer.shm_user = reply.shm_user();
    offer.node = {reply.node_id(), reply.version(), reply.boot_id(), DataPath::automatic};
    return offer;
  }

  StatusOr<uint32_t> open_namespace(const SessionSecret& secret, const std::string& name,
                                    const std::string& canonical, Nanos timeout) override {
    const std::shared_ptr<proto::Control::Stub> stub = current();
    if (stub == nullptr) return error(StatusCode::kUnavailable, "no session with " + endpoint_);
    proto::OpenNamespaceRequest request;
    request.set_secret(secret.data(), secret.size());
    request.set_name(name);
    request.set_fingerprint(canonical);
    proto::OpenNamespaceReply reply;
    TERRACE_RETURN_IF_ERROR(call("OpenNamespace", timeout, [&](grpc::ClientContext* context) {
      return stub->OpenNamespace(context, request, &reply);
    }));
    return reply.namespace_id();
  }

  StatusOr<std::string> open_rdma(const SessionSecret& secret, const std::string& endpoint,
                                  Nanos timeout) override {
    const std::shared_ptr<proto::Control::Stub> stub = current();
    if (stub == nullptr) return error(StatusCode::kUnavailable, "no session with " + endpoint_);
    proto::OpenRdmaRequest request;
    request.set_secret(secret.data(), secret.size());
    request.set_endpoint(endpoint);
    proto::OpenRdmaReply reply;
    TERRACE_RETURN_IF_ERROR(call("OpenRdma", timeout, [&](grpc::ClientContext* context) {
      return stub->OpenRdma(context, request, &reply);
    }));
    return reply.endpoint();
  }

  void shut_down() override {
    const std::lock_guard lock(mutex_);
    shut_down_ = true;
    for (grpc::ClientContext* context : running_) context->TryCancel();
  }

 private:
  std::shared_ptr<proto::Control::Stub> current() {
    const std::lock_guard lock(mutex_);
    return stub_;
  }
  std::shared_ptr<proto::Control::Stub> connect() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    std::shared_ptr<proto::Control::Stub> stub = proto::Control::NewStub(
        grpc::CreateCustomChannel(endpoint_, grpc::InsecureChannelCredentials(), arguments));
    const std::lock_guard lock(mutex_);
    stub_ = stub;
    return stub;
  }

  template <class Call>
  Status call(const char* what, Nanos timeout, Call run) {
    grpc::ClientContext context;
    context.set_deadline(
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_nanos(std::max<int64_t>(timeout.count(), 0), GPR_TIMESPAN)));
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
    {
      const std::lock_guard lock(mutex_);
      if (shut_down_) return error(StatusCode::kCancelled, "client is closing");
      running_.push_back(&context);
    }
    const grpc::Status status = run(&context);
    {
      const std::lock_guard lock(mutex_);
      running_.erase(std::find(running_.begin(), running_.end(), &context));
    }
    if (status.ok()) return ok_status();
    return error(status_code_of(static_cast<int32_t>(status.error_code())),
                 std::string(what) + " at " + endpoint_ + ": " + status.error_message());
  }

  const std::string endpoint_;
  const std::string token_;
  std::mutex mutex_;
  std::shared_ptr<proto::Control::Stub> stub_;  // of the last session; guarded by mutex_
  std::vector<grpc::ClientContext*> running_;   // guarded by mutex_
  bool shut_down_ = false;                      // guarded by mutex_
};
}  // namespace

std::unique_ptr<ControlChannel> grpc_control(const std::string& endpoint,
                                             const std::string& token) {
  return std::make_unique<GrpcControl>(endpoint, token);
}
}  // namespace terrace
