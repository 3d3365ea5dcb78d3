// client/grpc_control.h - the control plane over gRPC (proto/control.proto). Thread-safe.
#pragma once
#include <memory>
#include <string>

#include "client/control_channel.h"
#include "client/terrace.h"

namespace terrace {

/// Speaks to the node at `endpoint` with `token`. Nothing is sent before the first call.
std::unique_ptr<ControlChannel> grpc_control(const std::string& endpoint, const std::string& token);
}  // namespace terrace
