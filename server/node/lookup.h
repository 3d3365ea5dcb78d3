// server/node/lookup.h - existence and prefix questions, answered within one turn. Loop thread
// only.
#pragma once
#include "proto/data.pb.h"
#include "server/node/session.h"

namespace terrace {

/// Answers for one session; `outcome` in the reply carries refusals: kInvalidArgument (key length,
/// counts), kPermissionDenied (namespace not opened), kResourceExhausted (leases).
proto::LookupReply lookup(NodeContext* context, Session* session,
                          const proto::LookupRequest& request);
proto::MatchReply match_prefix(NodeContext* context, Session* session,
                               const proto::MatchRequest& request);
}  // namespace terrace
