// storage/slab_walk.h - which objects the directories of slabs name. Nothing in there is believed:
// every place is checked, and the work is bounded by the number of blocks. Pure functions.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "storage/extent_map.h"
#include "storage/slab_format.h"

namespace terrace {

/// The slabs of an arena, all of the same size but for the last.
struct SlabDirectories {
  uint64_t slab_blocks = 0;
  /// By slab, an entry per data block; empty: this slab's directory is not looked at.
  std::vector<std::span<SlabDirectoryEntry>> slabs;

  /// Null when the block is outside, or of a slab that is not looked at.
  SlabDirectoryEntry* entry(uint64_t block) const;
  /// [block, block + blocks) is not empty and lies in one slab that is looked at.
  bool has(uint64_t block, uint64_t blocks) const;
};

/// An object that was committed, as the directory has it.
struct WalkedObject {
  uint64_t generation = 0;
  std::vector<Extent> extents;  // in object order, each in one slab; the first blocks of no two
                                // extents of a walk are the same, but extents may overlap
};

/// Visits what is committed. Returns how many committed objects were left out, because their
/// extents lead outside, in circles, into another object, or on and on.
uint64_t walk_directories(const SlabDirectories& directories,
                          const std::function<void(WalkedObject)>& visit);
}  // namespace terrace
