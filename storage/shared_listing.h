// storage/shared_listing.h - one pass over what the shared tier holds, while it runs. Not seen
// outside the room.
#pragma once
#include <vector>

#include "storage/shared_tier.h"

namespace terrace {

struct SharedTier::Listing {
  std::vector<NamespaceId> namespaces;  // still to come; the last one is being listed
  std::vector<uint32_t> folders;        // of it, still to come
};
}  // namespace terrace
