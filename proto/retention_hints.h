// proto/retention_hints.h - retention as a message and back. Pure functions.
#pragma once
#include "base/retention.h"
#include "proto/data.pb.h"

namespace terrace {
void pack_retention(const Retention& retention, proto::RetentionHints* out);
/// kInvalidArgument: Retention::validate()'s.
StatusOr<Retention> unpack_retention(const proto::RetentionHints& hints);
}  // namespace terrace
