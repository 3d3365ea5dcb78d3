// storage/shared_load.h - one load of storage/shared_tier.h, while it runs. Not seen outside the
// room.
#pragma once
#include <memory>
#include <vector>

#include "storage/arena.h"
#include "storage/shared_tier.h"

namespace terrace {

struct SharedTier::Load {
  ObjectName name;
  SharedName copy;
  Nanos since{0};
  std::shared_ptr<SharedHeader> header;  // the thread's until its call is over
  std::shared_ptr<ArenaSpace> space;
  uint64_t header_bytes = 0;  // of the object in dram
  std::vector<Waiter> waiters;
};
}  // namespace terrace
