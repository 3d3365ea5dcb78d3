// The size of an extent map, and a part of it that nothing more goes to.
#include <algorithm>
#include <bit>
#include <memory>

#include "base/check.h"
#include "storage/extent_region.h"

namespace terrace {

/// The map has `blocks`, and had fewer: behind those there are free ones.
void ExtentMap::append_regions(uint64_t blocks) {
  const size_t before = regions_.size();
  const size_t regions = static_cast<size_t>((blocks + kRegionBlocks - 1) / kRegionBlocks);
  regions_.resize(regions);
  for (std::vector<uint64_t>& bits : regions_at_) bits.resize((regions + 63) / 64);
  for (size_t r = before; r < regions; ++r) {
    regions_[r].level.fill(0);
    regions_[r].slots_at[0] = ~uint64_t{0};
    const uint64_t have = std::min<uint64_t>(kRegionBlocks, blocks - r * kRegionBlocks);
    if (have < kRegionBlocks) {  // the one short region: what is missing counts as used
      regions_[r].used = std::make_unique<uint64_t[]>(kRegionSlots * kSlotWords);
      for (uint64_t b = have; b < kRegionBlocks; ++b) {
        regions_[r].used[b / 64] |= uint64_t{1} << (b % 64);
      }
    }
    free_blocks_ += have;
    refresh(r, 0, kRegionSlots - 1);
  }
}

/// A region that is short has what is missing as used: not for this.
uint64_t ExtentMap::used_blocks(const Region& region) const {
  uint64_t blocks = 0;
  if (!region.used) return 0;
  for (size_t word = 0; word < size_t{kRegionSlots} * kSlotWords; ++word) {
    blocks += static_cast<uint64_t>(std::popcount(region.used[word]));
  }
  return blocks;
}

void ExtentMap::bar_from(uint64_t bytes) {
  TERRACE_CHECK(bytes % kRegionBytes == 0 || bytes == capacity_bytes());
  const size_t before = std::min(bar_, regions_.size());
  const size_t bar =
      std::min(regions_.size(), static_cast<size_t>((bytes + kRegionBytes - 1) / kRegionBytes));
  bar_ = bytes == capacity_bytes() ? ~size_t{0} : bar;
  for (size_t r = std::min(before, bar); r < std::max(before, bar); ++r) {
    const uint64_t used = used_blocks(regions_[r]);
    barred_used_ = bar < before ? barred_used_ + used : barred_used_ - used;
    free_blocks_ = bar < before ? free_blocks_ - (kRegionBlocks - used)
                                : free_blocks_ + (kRegionBlocks - used);
    list(r);
  }
}

uint64_t ExtentMap::open_bytes() const {
  return bar_ < regions_.size() ? bar_ * kRegionBytes : capacity_bytes();
}

bool ExtentMap::barred(const Extent& extent) const {
  const uint64_t last = uint64_t{extent.block} + extent.blocks - 1 - first_block_;
  return last / kRegionBlocks >= bar_;
}

void ExtentMap::resize(uint64_t bytes) {
  TERRACE_CHECK(bytes % kRegionBytes == 0 && bytes > 0 && bytes <= kBytesMax);
  const uint64_t blocks = bytes / kBlockBytes;
  if (blocks < blocks_) {
    bar_from(bytes);
    TERRACE_CHECK(barred_used_ == 0);
    regions_.resize(static_cast<size_t>(blocks / kRegionBlocks));
    const size_t words = (regions_.size() + 63) / 64;
    for (std::vector<uint64_t>& bits : regions_at_) bits.resize(words);
    bar_ = ~size_t{0};
  } else {
    bar_from(capacity_bytes());
    lengthen_short_region();
    append_regions(blocks);
  }
  blocks_ = blocks;
  run_cursor_ = 0;
}

/// A map that was smaller than a region has one, of which the rest counted as used.
void ExtentMap::lengthen_short_region() {
  if (blocks_ == 0 || blocks_ >= kRegionBlocks) return;
  for (uint64_t block = blocks_; block < kRegionBlocks; ++block) {
    regions_[0].used[block / 64] &= ~(uint64_t{1} << (block % 64));
  }
  free_blocks_ += kRegionBlocks - blocks_;
  refresh(0, 0, kRegionSlots - 1);
}

/// Where the search finds the region.
void ExtentMap::list(size_t region) {
  const uint64_t bit = uint64_t{1} << (region % 64);
  for (size_t level = 0; level < kLevels; ++level) {
    uint64_t& word = regions_at_[level][region / 64];
    const bool has = region < bar_ && regions_[region].slots_at[level] != 0;
    word = has ? word | bit : word & ~bit;
  }
}
}  // namespace terrace
