// storage/take_back.h - takes back what the slabs of an earlier run hold, after the durable index
// was recovered. Runs once, inside ChunkStore::open, on the loop's thread.
//
// An object comes back when its directory entries, its header and its namespace agree. It is
// committed in the directory as long as it is visible, so one that was erased or evicted is not
// there. Its bytes are looked at before their first use (storage/verifier.h), not here.
#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "storage/core.h"
#include "storage/slab_walk.h"

namespace terrace {

class TakeBack {
 public:
  TakeBack(ChunkStore::Core& core, const SlabKeeping& keeping);
  /// kResourceExhausted: the machine has no memory for slabs in the place of those that cannot be
  /// used.
  Status run();

 private:
  struct Found {
    ObjectFacts facts;
    DomainId domain{};
    std::vector<Extent> extents;
  };
  void look(WalkedObject object);
  StatusOr<ObjectHeader> header_of(const WalkedObject& object) const;
  void vote();
  void take(const Found& found);
  /// What the index knows of the name speaks against the object; else whose entry it goes to,
  /// kNoEntry for a new one.
  std::optional<NotTaken> refusal(const Found& found, uint32_t* entry) const;
  void refuse(NotTaken why, uint64_t objects = 1);
  Status settle();

  ChunkStore::Core& core_;
  std::unordered_map<uint32_t, DomainId> domains_;  // by namespace
  uint64_t slab_blocks_ = 0;
  std::vector<Found> found_;
  uint64_t after_ = 0;       // as MetadataStore::kept_after
  std::vector<bool> mixed_;  // by slab: it cannot be anybody's
};
}  // namespace terrace
