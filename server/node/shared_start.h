// server/node/shared_start.h - the medium of a node's shared tier, at its start.
#pragma once
#include <memory>

#include "base/clock.h"
#include "storage/shared_medium.h"
#include "storage/store_config.h"

namespace terrace {

/// For a configuration that has a shared tier. Blocks for its shared_timeout at most: one that does
/// not answer is a tier that hangs, not a node that does not start. `clock` is thread-safe and
/// outlives the medium. Errors: it is not what the configuration says; fix that.
StatusOr<std::shared_ptr<SharedMedium>> open_shared_medium(const StoreConfig& config,
                                                           const Clock* clock);
}  // namespace terrace
