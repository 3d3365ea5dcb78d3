// tools/cli/admin_call.h - one call of a node's administration, blocking, bounded by --timeout-ms.
// Single-threaded.
#pragma once
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "base/status.h"
#include "tools/cli/command.h"

namespace terrace {

/// The token of --token-file; empty without one. kNotFound, kInvalidArgument.
StatusOr<std::string> read_token(const std::string& path);
Status from_grpc(const grpc::Status& status, const std::string& node);

/// A channel, and a context that carries the token and the deadline.
struct AdminCall {
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<grpc::ClientContext> context;
};
/// `endless`: without a deadline, for a call that says how far it is. Errors: read_token's.
StatusOr<AdminCall> begin_admin_call(const Globals& globals, const std::string& node,
                                     bool endless = false);

/// How a stream ended: its error; kUnavailable when the node went before it said that it was
/// `over`.
Status end_of_stream(const grpc::Status& finished, bool over, const std::string& node);
/// The only node of --node: a device's number means another one on each. kInvalidArgument.
StatusOr<std::string> node_of_device(const Globals& globals);

/// Of `node`, whose error messages name it.
template <class Service, class Stub, class Request, class Reply>
StatusOr<Reply> admin_call(const Globals& globals, const std::string& node, const Request& request,
                           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Reply*)) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node));
  const auto stub = Service::NewStub(call.channel);
  Reply reply;
  TERRACE_RETURN_IF_ERROR(
      from_grpc((stub.get()->*method)(call.context.get(), request, &reply), node));
  return reply;
}
}  // namespace terrace
