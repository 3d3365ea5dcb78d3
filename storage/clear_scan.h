// storage/clear_scan.h - the clearing of a whole namespace: how far it is. Thread-confined.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/chunk_key.h"

namespace terrace {

/// Owned by shared pointers, because what it began may end after whoever asked for it has gone.
struct ClearScan : std::enable_shared_from_this<ClearScan> {
  static constexpr uint32_t kRunningMax = 256;
  static constexpr uint32_t kSharedRunningMax = 16;  // as many as the tier has threads, and so many
  static constexpr size_t kNamesMax = 1'000'000;     // of the shared tier, listed at once
  NamespaceId ns{};
  std::optional<Tier> tier;    // nullopt: everywhere
  std::vector<ChunkKey> only;  // these; empty: all
  // What was done so far.
  uint64_t cleared = 0;
  uint64_t bytes = 0;  // logical, of those
  uint64_t kept = 0;   // pinned, or in use
  uint64_t failed = 0;
  // Where it stands.
  uint32_t next = 0;  // of the index
  uint32_t running = 0;
  bool listed = false;
  bool whole = true;
  bool cut = false;             // `names` was not all
  uint64_t gone = 0;            // that are not there any more
  uint64_t gone_before = 0;     // when `names` were listed
  std::vector<ChunkKey> names;  // left in the shared tier
};
}  // namespace terrace
