// storage/staged_read.h - one read of a slower tier on its way: of a header, or of units. Its bytes
// arrive in a staging buffer, or in the arena where a copy of the object comes into being.
// Thread-confined; not seen outside the room.
#pragma once
#include <sys/uio.h>

#include <functional>
#include <memory>
#include <vector>

#include "storage/core.h"

namespace terrace {

struct StagedRead {
  ChunkStore::Core* core = nullptr;
  Op* op = nullptr;
  uint32_t id = 0;                    // pinned until it is over
  uint64_t owner = 0;                 // of the staging buffer
  uint64_t offset = 0;                // in the stored object
  uint64_t bytes = 0;                 // a multiple of 4 KiB, at most a staging buffer
  std::shared_ptr<ArenaSpace> arena;  // null: a staging buffer
  std::shared_ptr<StagingLease> lease;
  std::vector<iovec> memory;  // where the bytes arrive
  Tier from = Tier::nvme;
  Extent copy;  // of nvme: where the copy that is read begins
  /// Looks at the bytes; its result is the operation's.
  std::function<Status(StagedRead&)> arrived;
};

/// Takes a buffer, or waits for one, and reads from device memory if that has the object, else from
/// nvme. `op` is done on a later turn; refused: kResourceExhausted (too many wait).
Status start(const std::shared_ptr<StagedRead>& read);
/// The copy that was read is bad, unless another one took its place meanwhile.
void condemn(const StagedRead& read);
}  // namespace terrace
