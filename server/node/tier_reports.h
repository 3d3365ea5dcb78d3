// server/node/tier_reports.h - what a node says of an object and of its tiers, as messages. Loop
// thread.
#pragma once
#include "proto/tiers.pb.h"
#include "server/node/session.h"
#include "storage/tier_pass.h"

namespace terrace {

proto::ExplainReply explain_reply(const NodeContext& context, NamespaceId ns, const ChunkKey& key);
proto::VerifyProgress verify_progress(const VerifyPass& pass);
proto::ResizeProgress resize_progress(const ResizePass& pass);
proto::TrimDevicesProgress trim_progress(const TrimPass& pass);
proto::TierStatusReply tier_status_reply(const NodeContext& context);
}  // namespace terrace
