// storage/arena_slab.h - what the arena knows of a slab. Not seen outside arena*.cc.
#pragma once
#include <cstdint>
#include <vector>

#include "storage/arena.h"
#include "storage/slab.h"

namespace terrace {

struct Arena::Slab {
  enum class State : uint8_t {
    unowned,    // or not ready yet
    owned,      // takes objects of `domain`
    retired,    // holds objects of `domain`, takes no more
    replacing,  // its memory is the worker's
    absent,     // has none
  };
  enum class Work : uint8_t { replace, add, remove };
  Slab(std::byte* place, uint64_t first_byte, uint64_t bytes, bool huge_pages,
       std::optional<uint32_t> numa_node)
      : space(first_byte, bytes),
        memory(place, first_byte / ExtentMap::kBlockBytes, bytes, huge_pages, numa_node) {}
  ExtentMap space;
  SlabMemory memory;
  State state = State::unowned;
  Work work = Work::replace;  // the worker's, while it is replacing
  bool exported = false;
  bool kept = false;  // came back from an earlier run
  DomainId domain = kNobody;
  uint64_t epoch = 0;
  uint64_t withheld = 0;
  std::vector<ArenaSpace*> spaces;
};
}  // namespace terrace
