// storage/slab_place.h - how those who map slabs, or register their memory, name what lies in them.
#pragma once
#include <cstdint>

#include "base/handle.h"
#include "storage/domain.h"

namespace terrace {

/// Where in the arena an address lies.
struct SlabPlace {
  uint32_t slab = 0;
  uint64_t epoch = 0;   // of the slab's memory; another one, never used before, once it is replaced
  uint64_t offset = 0;  // from the start of the slab's data
  DomainId domain{};    // whose objects the slab holds
  bool operator==(const SlabPlace&) const = default;
};

/// What a reader outside the process maps.
struct SlabDescriptor {
  Fd fd;                     // can neither be written nor mapped writable
  uint64_t file_offset = 0;  // where the slab's data begins
  uint64_t bytes = 0;        // of data
  uint64_t epoch = 0;        // as SlabPlace::epoch
};
}  // namespace terrace
