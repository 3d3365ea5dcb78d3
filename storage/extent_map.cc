#include "storage/extent_map.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "storage/extent_region.h"

namespace terrace {
namespace {

constexpr size_t kRunCandidates = 64;  // regions looked at for a long run of whole MiBs

/// Where an aligned hole of class `k` (< 6) starts in a word whose free blocks are `free`.
uint64_t holes_in_word(uint64_t free, uint32_t k) {
  constexpr uint64_t kStarts[] = {~uint64_t{0},        0x5555555555555555u, 0x1111111111111111u,
                                  0x0101010101010101u, 0x0001000100010001u, 0x0000000100000001u};
  for (uint32_t level = 0; level < k; ++level) {
    free &= free >> (uint32_t{1} << level);
    free &= kStarts[level + 1];
  }
  return free;
}

/// Class of the largest hole of a slot, plus 1; 0 when it is full.
uint8_t level_of(const uint64_t* used) {
  const bool low = (used[0] | used[1]) == 0;
  const bool high = (used[2] | used[3]) == 0;
  if (low && high) return 9;
  if (low || high) return 8;
  uint32_t best = 0;
  for (uint32_t w = 0; w < kSlotWords; ++w) {
    if (used[w] == 0) return 7;
    uint32_t k = 6;
    while (k > 0 && holes_in_word(~used[w], k - 1) == 0) --k;
    best = std::max(best, k);
  }
  return static_cast<uint8_t>(best);
}

/// Block of the slot where a class `k` extent goes: into the smallest hole that is large enough.
uint32_t best_hole(const uint64_t* used, uint32_t k) {
  for (uint32_t c = k; c < 6; ++c) {
    for (uint32_t w = 0; w < kSlotWords; ++w) {
      uint64_t holes = holes_in_word(~used[w], c);
      if (c < 5) {
        const uint64_t larger = holes_in_word(~used[w], c + 1);
        holes &= ~(larger | larger << (uint32_t{1} << c));
      } else if (used[w] == 0) {
        holes = 0;
      }
      if (holes != 0) return w * 64 + static_cast<uint32_t>(std::countr_zero(holes));
    }
  }
  if (k <= 6) {
    for (uint32_t w = 0; w < kSlotWords; ++w) {
      if (used[w] == 0 && used[w ^ 1] != 0) return w * 64;
    }
  }
  if (k <= 7) {
    const bool low = (used[0] | used[1]) == 0;
    const bool high = (used[2] | used[3]) == 0;
    if (low != high) return low ? 0 : 128;
  }
  return 0;  // the slot is empty
}

/// Longest run of ones in `bits`, cut at `wanted`: where it starts and how long it is.
std::pair<uint32_t, uint32_t> longest_run(uint64_t bits, uint32_t wanted) {
  uint32_t best_at = 0;
  uint32_t best = 0;
  uint32_t at = 0;
  while (at < 64 && (bits >> at) != 0) {
    at += static_cast<uint32_t>(std::countr_zero(bits >> at));
    const auto run = static_cast<uint32_t>(std::countr_one(bits >> at));
    if (run > best) {
      best = run;
      best_at = at;
      if (best >= wanted) break;
    }
    at += run;
  }
  return {best_at, std::min(best, wanted)};
}

void append(std::vector<Extent>* out, uint64_t block, uint32_t blocks) {
  if (!out->empty() && uint64_t{out->back().block} + out->back().blocks == block) {
    out->back().blocks += blocks;
  } else {
    out->push_back({static_cast<uint32_t>(block), blocks});
  }
}

/// Blocks taken for the part of an object that does not fill a MiB: the coarsest rounding whose
/// waste is at most 1/8, or less than a block.
uint32_t rest_blocks(uint64_t rest_bytes) {
  constexpr uint64_t kBlock = ExtentMap::kBlockBytes;
  for (uint32_t k = kTopClass; k > 0; --k) {
    const uint64_t step = kBlock << k;
    const uint64_t rounded = (rest_bytes + step - 1) / step * step;
    const uint64_t waste = rounded - rest_bytes;
    if (waste <= rest_bytes / 8 || waste < kBlock) {
      return static_cast<uint32_t>(rounded / kBlock);
    }
  }
  return static_cast<uint32_t>((rest_bytes + kBlock - 1) / kBlock);
}
}  // namespace

ExtentMap::ExtentMap(uint64_t first_byte, uint64_t bytes) {
  first_block_ = (first_byte + kBlockBytes - 1) / kBlockBytes;
  const uint64_t end = (first_byte + bytes) / kBlockBytes;
  blocks_ = end > first_block_ ? end - first_block_ : 0;
  if (blocks_ > kRegionBlocks) blocks_ -= blocks_ % kRegionBlocks;
  TERRACE_CHECK(first_block_ + blocks_ <= uint64_t{1} << 32);
  append_regions(blocks_);
}

ExtentMap::ExtentMap(ExtentMap&& other) noexcept = default;
ExtentMap& ExtentMap::operator=(ExtentMap&& other) noexcept = default;
ExtentMap::~ExtentMap() = default;

uint64_t ExtentMap::capacity_bytes() const {
  return blocks_ * kBlockBytes;
}
uint64_t ExtentMap::free_bytes() const {
  return free_blocks_ * kBlockBytes;
}

uint64_t ExtentMap::allocated_bytes(uint64_t bytes) {
  constexpr uint64_t kSlotBytes = uint64_t{kSlotBlocks} * kBlockBytes;
  return bytes / kSlotBytes * kSlotBytes + uint64_t{rest_blocks(bytes % kSlotBytes)} * kBlockBytes;
}

size_t ExtentMap::extents_max(uint64_t bytes) {
  return static_cast<size_t>(8 + 4 * (allocated_bytes(bytes) >> 20));
}

StatusOr<std::vector<Extent>> ExtentMap::allocate(uint64_t bytes) {
  TERRACE_CHECK(bytes > 0);
  const uint64_t blocks = allocated_bytes(bytes) / kBlockBytes;
  const auto refused = [&] {
    return error(StatusCode::kResourceExhausted,
                 "no space for " + std::to_string(bytes) + " bytes; free: " +
                     std::to_string(free_bytes()) + " of " + std::to_string(capacity_bytes()));
  };
  if (blocks > free_blocks_) return refused();
  const size_t most = extents_max(bytes);
  std::vector<Extent> out;
  bool fits = true;
  uint64_t whole = blocks / kSlotBlocks;
  while (whole > 0 && take_run(static_cast<uint32_t>(std::min<uint64_t>(whole, 64)), &out)) {
    whole = blocks / kSlotBlocks;
    for (const Extent& extent : out) whole -= extent.blocks / kSlotBlocks;
  }
  const size_t unsplit = out.size();
  for (; whole > 0 && fits; --whole) fits = take_or_split(kTopClass, most, &out);
  const bool split = out.size() > unsplit;
  const auto rest = static_cast<uint32_t>(blocks % kSlotBlocks);
  for (uint32_t k = kTopClass; k-- > 0 && fits;) {
    if ((rest >> k & 1) != 0) fits = take_or_split(k, most, &out);
  }
  if (!fits || out.size() > most) {
    for (const Extent& extent : out) mark(extent, false);
    return refused();
  }
  if (split || out.size() > 10) {  // a row names the first ten: they shall hold the header
    std::stable_sort(out.begin(), out.end(),
                     [](const Extent& a, const Extent& b) { return a.blocks > b.blocks; });
  }
  return out;
}

Status ExtentMap::claim(std::span<const Extent> extents, uint64_t bytes) {
  uint64_t total = 0;
  for (const Extent& extent : extents) total += extent.blocks;
  if (bytes == 0 || total != allocated_bytes(bytes) / kBlockBytes) {
    return error(StatusCode::kDataLoss, "extents hold " + std::to_string(total) +
                                            " blocks, an object of " + std::to_string(bytes) +
                                            " bytes takes " +
                                            std::to_string(allocated_bytes(bytes) / kBlockBytes));
  }
  for (size_t i = 0; i < extents.size(); ++i) {
    const Extent& extent = extents[i];
    const bool inside = extent.blocks > 0 && extent.block >= first_block_ &&
                        uint64_t{extent.block} + extent.blocks <= first_block_ + blocks_;
    if (inside && mark(extent, true)) continue;
    for (size_t undo = 0; undo < i; ++undo) mark(extents[undo], false);
    return error(StatusCode::kDataLoss, "blocks " + std::to_string(extent.block) + "+" +
                                            std::to_string(extent.blocks) +
                                            (inside ? " are taken" : " lie outside"));
  }
  return ok_status();
}

void ExtentMap::free(std::span<const Extent> extents, uint64_t bytes) {
  uint64_t total = 0;
  for (const Extent& extent : extents) {
    total += extent.blocks;
    TERRACE_CHECK(extent.blocks > 0 && extent.block >= first_block_ &&
                  uint64_t{extent.block} + extent.blocks <= first_block_ + blocks_);
    TERRACE_CHECK(mark(extent, false));  // else freed twice
  }
  TERRACE_CHECK(total == allocated_bytes(bytes) / kBlockBytes);
}

/// Takes the longest run of whole MiBs it can find quickly, at most `mibs`. False: there is none.
bool ExtentMap::take_run(uint32_t mibs, std::vector<Extent>* out) {
  size_t best_region = regions_.size();
  std::pair<uint32_t, uint32_t> best{0, 0};
  size_t region = first_region(kTopClass + 1, run_cursor_);
  for (size_t seen = 0; seen < kRunCandidates && region < regions_.size(); ++seen) {
    const auto run = longest_run(regions_[region].slots_at[kTopClass + 1], mibs);
    if (run.second > best.second) {
      best = run;
      best_region = region;
      if (run.second == mibs) break;
    }
    const size_t next = first_region(kTopClass + 1, region + 1);
    if (next <= region) break;  // once around
    region = next;
  }
  if (best.second == 0) return false;
  run_cursor_ = best_region;
  const uint64_t block =
      first_block_ + best_region * kRegionBlocks + uint64_t{best.first} * kSlotBlocks;
  const Extent extent{static_cast<uint32_t>(block), best.second * kSlotBlocks};
  TERRACE_CHECK(mark(extent, true));
  append(out, extent.block, extent.blocks);
  return true;
}

/// One extent of class `block_class`, from the smallest hole anywhere that holds it.
bool ExtentMap::take(uint32_t block_class, std::vector<Extent>* out) {
  for (size_t level = block_class + 1; level < kLevels; ++level) {
    const size_t region = first_region(level, 0);
    if (region == regions_.size()) continue;
    Region& home = regions_[region];
    const auto slot = static_cast<uint32_t>(std::countr_zero(home.slots_at[level]));
    const uint32_t in_slot = home.used ? best_hole(home.slot(slot), block_class) : 0;
    const uint64_t block =
        first_block_ + region * kRegionBlocks + uint64_t{slot} * kSlotBlocks + in_slot;
    const Extent extent{static_cast<uint32_t>(block), uint32_t{1} << block_class};
    TERRACE_CHECK(mark(extent, true));
    append(out, extent.block, extent.blocks);
    return true;
  }
  return false;
}

bool ExtentMap::take_or_split(uint32_t block_class, size_t extents_max, std::vector<Extent>* out) {
  if (out->size() > extents_max) return false;
  if (take(block_class, out)) return true;
  if (block_class == 0) return false;
  return take_or_split(block_class - 1, extents_max, out) &&
         take_or_split(block_class - 1, extents_max, out);
}

/// The first region at or after `from`, else from the start, with a slot of this level;
/// regions_.size() when there is none.
size_t ExtentMap::first_region(size_t level, size_t from) const {
  const std::vector<uint64_t>& bits = regions_at_[level];
  for (int around = 0; around < 2; ++around, from = 0) {
    for (size_t w = from / 64; w < bits.size(); ++w) {
      uint64_t word = bits[w];
      if (w == from / 64) word &= ~uint64_t{0} << (from % 64);
      if (word != 0) return w * 64 + static_cast<size_t>(std::countr_zero(word));
    }
  }
  return regions_.size();
}

Extent ExtentMap::free_mibs(uint64_t from, uint32_t most) const {
  constexpr size_t kEmpty = kTopClass + 1;
  auto region = static_cast<size_t>(from / kRegionSlots);
  if (region >= regions_.size()) return {};
  uint64_t empty = regions_[region].slots_at[kEmpty] & ~uint64_t{0} << (from % kRegionSlots);
  if (region >= bar_) empty = 0;
  if (empty == 0) {
    const size_t next = first_region(kEmpty, region + 1);
    if (next <= region || next == regions_.size()) return {};
    region = next;
    empty = regions_[region].slots_at[kEmpty];
  }
  const auto slot = static_cast<uint32_t>(std::countr_zero(empty));
  const auto run = static_cast<uint32_t>(std::countr_one(empty >> slot));
  const uint64_t block = first_block_ + region * kRegionBlocks + uint64_t{slot} * kSlotBlocks;
  return {static_cast<uint32_t>(block), std::min(run, most) * kSlotBlocks};
}

/// Sets or clears an extent's bits. False, and nothing changed, when one is so already.
bool ExtentMap::mark(const Extent& extent, bool used) {
  const auto each_word = [&](auto&& visit) {
    uint64_t at = extent.block - first_block_;
    const uint64_t end = at + extent.blocks;
    while (at < end) {
      const uint64_t bits = std::min<uint64_t>(64 - at % 64, end - at);
      const uint64_t mask = (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1) << (at % 64);
      Region& region = regions_[static_cast<size_t>(at / kRegionBlocks)];
      if (!visit(region, static_cast<size_t>(at % kRegionBlocks / 64), mask)) return false;
      at += bits;
    }
    return true;
  };
  const bool can = each_word([&](Region& region, size_t word, uint64_t mask) {
    const uint64_t now = region.used ? region.used[word] : 0;
    return used ? (now & mask) == 0 : (now & mask) == mask;
  });
  if (!can) return false;
  each_word([&](Region& region, size_t word, uint64_t mask) {
    if (!region.used) region.used = std::make_unique<uint64_t[]>(kRegionSlots * kSlotWords);
    region.used[word] = used ? region.used[word] | mask : region.used[word] & ~mask;
    const auto blocks = static_cast<uint64_t>(std::popcount(mask));
    if (static_cast<size_t>(&region - regions_.data()) >= bar_) {
      barred_used_ = used ? barred_used_ + blocks : barred_used_ - blocks;
    } else {
      free_blocks_ = used ? free_blocks_ - blocks : free_blocks_ + blocks;
    }
    return true;
  });
  const uint64_t first_slot = (extent.block - first_block_) / kSlotBlocks;
  const uint64_t last_slot = (extent.block - first_block_ + extent.blocks - 1) / kSlotBlocks;
  for (uint64_t r = first_slot / kRegionSlots; r <= last_slot / kRegionSlots; ++r) {
    const uint64_t base = r * kRegionSlots;
    refresh(static_cast<size_t>(r), static_cast<uint32_t>(std::max(first_slot, base) - base),
            static_cast<uint32_t>(std::min(last_slot, base + kRegionSlots - 1) - base));
  }
  return true;
}

/// Works out the levels of these slots again.
void ExtentMap::refresh(size_t region, uint32_t first_slot, uint32_t last_slot) {
  Region& home = regions_[region];
  for (uint32_t s = first_slot; s <= last_slot; ++s) {
    const uint8_t level = home.used ? level_of(home.slot(s)) : kTopClass + 1;
    home.slots_at[home.level[s]] &= ~(uint64_t{1} << s);
    home.slots_at[level] |= uint64_t{1} << s;
    home.level[s] = level;
  }
  list(region);
  if (home.slots_at[kTopClass + 1] == ~uint64_t{0}) home.used.reset();
}
}  // namespace terrace
