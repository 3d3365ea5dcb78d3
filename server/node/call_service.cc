#include "server/node/call_service.h"

#include <algorithm>

#include "base/identity.h"

namespace terrace {

grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

Status no_answer() {
  return error(StatusCode::kUnavailable, "node is busy: no answer from its loop within 5 s");
}

StatusOr<std::vector<Status>> each_on_loop(Loop* loop, size_t count, Nanos patience,
                                           const std::function<bool()>& wanted,
                                           std::function<void(size_t, LoopThen)> start) {
  constexpr Nanos kLook = milliseconds(100);
  struct All {
    std::vector<Status> results;
    size_t left = 0;
    std::promise<void> over;
  };
  if (count == 0) return std::vector<Status>();
  const auto all = std::make_shared<All>();
  all->results.resize(count);
  all->left = count;
  std::future<void> over = all->over.get_future();
  TERRACE_RETURN_IF_ERROR(loop->post([all, count, start = std::move(start)] {
    for (size_t i = 0; i < count; ++i) {
      start(i, [all, i](Status result) {
        all->results[i] = std::move(result);
        if (--all->left == 0) all->over.set_value();
      });
    }
  }));
  for (Nanos left = patience; left > Nanos(0); left -= kLook) {
    if (over.wait_for(std::min(left, kLook)) == std::future_status::ready) return all->results;
    if (wanted && !wanted()) return error(StatusCode::kCancelled, "what began goes on");
  }
  return error(StatusCode::kDeadlineExceeded, "not over in time; what began goes on");
}

namespace {

/// Whose token the caller has. kUnauthenticated.
StatusOr<TokenConfig> token_of(const NodeConfig& config, const grpc::ServerContext& call) {
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
    if (known.sha256 == digest) return known;
  }
  return error(StatusCode::kUnauthenticated, "unknown token");
}
}  // namespace

Status authenticate(const NodeConfig& config, const grpc::ServerContext& call,
                    const std::string& asked_tenant, std::string* tenant) {
  if (config.dev) {
    *tenant = asked_tenant.empty() ? "default" : asked_tenant;
    return ok_status();
  }
  TERRACE_ASSIGN_OR_RETURN(const TokenConfig known, token_of(config, call));
  if (!asked_tenant.empty() && asked_tenant != known.tenant) {
    return error(StatusCode::kPermissionDenied,
                 "this token is for tenant \"" + known.tenant + "\", not \"" + asked_tenant + "\"");
  }
  *tenant = known.tenant;
  return ok_status();
}

Status authenticate_admin(const NodeConfig& config, const grpc::ServerContext& call) {
  if (config.dev) return ok_status();
  TERRACE_ASSIGN_OR_RETURN(const TokenConfig known, token_of(config, call));
  if (known.admin) return ok_status();
  return error(StatusCode::kPermissionDenied,
               "the token of tenant \"" + known.tenant +
                   "\" is no administrator's: set admin = true in its [[token]]");
}
}  // namespace terrace
