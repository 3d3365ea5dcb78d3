#include "server/node/call_service.h"

#include "base/identity.h"

namespace terrace {

grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

Status no_answer() {
  return error(StatusCode::kUnavailable, "node is busy: no answer from its loop within 5 s");
}

Status authenticate(const NodeConfig& config, const grpc::ServerContext& call,
                    const std::string& asked_tenant, Caller* caller) {
  if (config.dev) {
    *caller = {asked_tenant.empty() ? "default" : asked_tenant, true};
    return ok_status();
  }
  const auto header = call.client_metadata().find("authorization");
  const std::string prefix = "Bearer ";
  if (header == call.client_metadata().end() || !header->second.starts_with(prefix)) {
    return error(StatusCode::kUnauthenticated,
                 "no token: send metadata \"authorization: Bearer TOKEN\"");
  }
  const std::string token(header->second.data() + prefix.size(),
                          header->second.size() - prefix.size());
  const std::string digest = sha256(token).hex();
  for (const TokenConfig& known : config.tokens) {
    if (known.sha256 != digest) continue;
    if (!asked_tenant.empty() && asked_tenant != known.tenant) {
      return error(StatusCode::kPermissionDenied, "this token is for tenant \"" + known.tenant +
                                                      "\", not \"" + asked_tenant + "\"");
    }
    *caller = {known.tenant, known.admin};
    return ok_status();
  }
  return error(StatusCode::kUnauthenticated, "unknown token");
}
}  // namespace terrace
