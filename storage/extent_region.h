// storage/extent_region.h - what an extent map knows of 64 MiB. Not seen outside extent_map*.cc.
#pragma once
#include <array>
#include <cstdint>
#include <memory>

#include "storage/extent_map.h"

namespace terrace {

inline constexpr uint32_t kSlotBlocks = 256;  // a slot is 1 MiB, the largest class
inline constexpr uint32_t kSlotWords = kSlotBlocks / 64;
inline constexpr uint32_t kRegionSlots = 64;
inline constexpr uint32_t kRegionBlocks = kRegionSlots * kSlotBlocks;
inline constexpr uint32_t kTopClass = ExtentMap::kClasses - 1;
static_assert(uint64_t{kRegionBlocks} * ExtentMap::kBlockBytes == ExtentMap::kRegionBytes);
static_assert((ExtentMap::kBlockBytes << kTopClass) == kSlotBlocks * ExtentMap::kBlockBytes);

struct ExtentMap::Region {
  std::unique_ptr<uint64_t[]> used;           // bit per block; null while nothing is
  std::array<uint8_t, kRegionSlots> level{};  // of each slot
  std::array<uint64_t, kLevels> slots_at{};   // bit per slot of that level
  uint64_t* slot(uint32_t index) { return used.get() + size_t{index} * kSlotWords; }
};
}  // namespace terrace
