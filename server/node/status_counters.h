// server/node/status_counters.h - the figures that `terrace node status` shows. Loop thread only.
#pragma once
#include "proto/control.pb.h"
#include "server/node/session.h"

namespace terrace {

void fill_counters(const NodeContext& context, proto::NodeStatusReply* reply);
}  // namespace terrace
