// server/node/tier_service.h - the gRPC service of proto/tiers.proto: explains objects and
// administers tiers. gRPC threads; they reach the loop through its mailbox.
#pragma once
#include <memory>
#include <string>

#include "server/node/session.h"

namespace grpc {
class Service;
}

namespace terrace {

/// `context` outlives the service, which outlives the server that it is registered with.
std::unique_ptr<grpc::Service> make_tier_service(NodeContext* context, std::string node_id);
}  // namespace terrace
