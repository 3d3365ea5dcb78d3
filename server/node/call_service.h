// server/node/call_service.h - what every call of the node's gRPC services does: find out who
// calls, and let the loop answer. gRPC threads; they wait for the loop a bounded time.
#pragma once
#include <grpcpp/grpcpp.h>

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/loop.h"
#include "base/status.h"
#include "server/node/config.h"

namespace terrace {

inline constexpr Nanos kLoopAnswerTimeout = seconds(5);

grpc::Status to_grpc(const Status& status);
/// kUnavailable: what a call says whose loop did not answer in time.
Status no_answer();

/// Runs `work` on the loop and waits for its value. kUnavailable when the loop does not answer.
template <class Work>
auto on_loop(Loop* loop, Work work) -> StatusOr<std::invoke_result_t<Work>> {
  using Value = std::invoke_result_t<Work>;
  auto promise = std::make_shared<std::promise<Value>>();
  std::future<Value> answer = promise->get_future();
  TERRACE_RETURN_IF_ERROR(loop->post([promise, work] { promise->set_value(work()); }));
  if (answer.wait_for(kLoopAnswerTimeout) != std::future_status::ready) return no_answer();
  return answer.get();
}

/// Starts `count` things on the loop, whose `then` runs there later, once each, and waits for all
/// at most `patience`, and while `wanted` (null: always), which is asked on this thread.
/// kUnavailable, kDeadlineExceeded, kCancelled (not wanted any more): some go on.
using LoopThen = std::function<void(Status)>;
StatusOr<std::vector<Status>> each_on_loop(Loop* loop, size_t count, Nanos patience,
                                           const std::function<bool()>& wanted,
                                           std::function<void(size_t, LoopThen)> start);

/// Who calls: the tenant that the bearer token stands for; with --dev whoever is named.
/// kUnauthenticated, kPermissionDenied (another tenant's token).
Status authenticate(const NodeConfig& config, const grpc::ServerContext& call,
                    const std::string& asked_tenant, std::string* tenant);
/// Who calls may do what concerns all tenants: with --dev everybody. kPermissionDenied.
Status authenticate_admin(const NodeConfig& config, const grpc::ServerContext& call);
}  // namespace terrace
