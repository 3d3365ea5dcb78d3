#include "storage/slab_walk.h"

#include <optional>
#include <utility>

#include "base/limits.h"
#include "storage/object_format.h"

namespace terrace {
namespace {

/// Of the largest object: header, sections, the padding of each, and what size classes add.
constexpr uint64_t kBlocksMax =
    (kObjectBytesMax + kHeaderBytesMax) / ExtentMap::kBlockBytes + kSectionsMax + 256;

class Walk {
 public:
  explicit Walk(const SlabDirectories& directories)
      : directories_(directories),
        seen_(directories.slab_blocks * directories.slabs.size(), false) {}

  /// The object that begins at `block`, whose commit word says `generation`.
  std::optional<WalkedObject> follow(uint64_t block, uint64_t generation) {
    WalkedObject object;
    object.generation = generation;
    uint64_t total = 0;
    for (bool first = true; block != SlabDirectoryEntry::kLast; first = false) {
      const SlabDirectoryEntry* const entry = directories_.entry(block);
      if (entry == nullptr || !directories_.has(block, entry->blocks)) return std::nullopt;
      const bool begins = entry->commit.load(std::memory_order_relaxed) != 0;
      if (begins != first || seen_[block]) return std::nullopt;
      seen_[block] = true;  // also of an object that fails: nobody's extent begins here twice
      total += entry->blocks;
      if (total > kBlocksMax) return std::nullopt;
      object.extents.push_back({static_cast<uint32_t>(block), entry->blocks});
      block = entry->next;
    }
    return object;
  }

 private:
  const SlabDirectories& directories_;
  std::vector<bool> seen_;  // by block
};
}  // namespace

SlabDirectoryEntry* SlabDirectories::entry(uint64_t block) const {
  const uint64_t slab = block / slab_blocks;
  if (slab >= slabs.size() || block % slab_blocks >= slabs[slab].size()) return nullptr;
  return &slabs[slab][block % slab_blocks];
}

bool SlabDirectories::has(uint64_t block, uint64_t blocks) const {
  return blocks > 0 && entry(block) != nullptr &&
         block % slab_blocks + blocks <= slabs[block / slab_blocks].size();
}

uint64_t walk_directories(const SlabDirectories& directories,
                          const std::function<void(WalkedObject)>& visit) {
  Walk walk(directories);
  uint64_t bad = 0;
  for (uint64_t slab = 0; slab < directories.slabs.size(); ++slab) {
    const std::span<SlabDirectoryEntry> entries = directories.slabs[slab];
    for (uint64_t at = 0; at < entries.size(); ++at) {
      const uint64_t generation = entries[at].commit.load(std::memory_order_acquire);
      if (generation == 0) continue;
      auto object = walk.follow(slab * directories.slab_blocks + at, generation);
      if (object) {
        visit(std::move(*object));
      } else {
        ++bad;
      }
    }
  }
  return bad;
}
}  // namespace terrace
