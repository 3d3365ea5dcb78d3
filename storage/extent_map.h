// storage/extent_map.h - which 4 KiB blocks of a tier are free. Used for DRAM and NVMe alike.
//
// Size classes 4 KiB << k, k = 0..8 (1 MiB), carved from regions of 64 MiB. An extent of class k is
// aligned to its size inside its region, and small extents go where the smallest hole fits them, so
// that whole MiBs stay whole. When no hole of a class is left, an extent is split over smaller
// ones: freeing never leaves a hole that nothing fits. A bitmap per region that is in use and 64
// bytes of summary are all the state, so it is the same after claim() as after allocate().
// Thread-confined.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace terrace {

/// A run of blocks of one device of one tier. 32 bits of 4 KiB blocks address 16 TiB of each. On
/// disk count and device share a word: 24 bits of blocks are far more than an object has.
struct Extent {
  uint32_t block = 0;   // first
  uint32_t blocks = 0;  // count
  uint16_t device = 0;  // the place of a device of nvme, below 255; of dram: 0
  uint64_t offset() const { return uint64_t{block} * 4096; }
  uint64_t bytes() const { return uint64_t{blocks} * 4096; }
  /// The second word of an extent in a row or header.
  uint32_t packed() const { return blocks | uint32_t{device} << 24; }
  static Extent unpack(uint32_t block, uint32_t packed) {
    return {block, packed & 0xFFFFFF, static_cast<uint16_t>(packed >> 24)};
  }
  bool operator==(const Extent&) const = default;
};

class ExtentMap {
 public:
  static constexpr uint32_t kBlockBytes = 4096;
  static constexpr uint32_t kClasses = 9;  // 4 KiB .. 1 MiB
  static constexpr uint64_t kRegionBytes = uint64_t{64} << 20;
  static constexpr uint64_t kBytesMax = uint64_t{16} << 40;

  /// Manages [first_byte, first_byte + bytes), which ends within kBytesMax, cut down to whole
  /// regions; a tier smaller than one region is one short region.
  ExtentMap(uint64_t first_byte, uint64_t bytes);
  ExtentMap(ExtentMap&& other) noexcept;
  ExtentMap& operator=(ExtentMap&& other) noexcept;
  ~ExtentMap();

  /// Space for `bytes` (> 0): whole 1 MiB extents, then few smaller ones for the rest, which waste
  /// at most 1/8 of it, or less than 4 KiB. Neighbouring extents come back merged into one run;
  /// when some had to be split, the largest come first. All or nothing: kResourceExhausted when it
  /// does not fit, or only in more than extents_max(bytes) extents.
  StatusOr<std::vector<Extent>> allocate(uint64_t bytes);
  /// Recovery: marks what an object already holds. kDataLoss when any of it is taken or outside, or
  /// when it is not as much as allocate() would have taken for `bytes`; then nothing is marked.
  Status claim(std::span<const Extent> extents, uint64_t bytes);
  /// Gives back what one allocate() or claim() of `bytes` returned.
  void free(std::span<const Extent> extents, uint64_t bytes);

  /// The first run of whole free MiBs of one region, at or after MiB `from` of the map; at most
  /// `most` (> 0) of them. Stays free. Without blocks: there is none.
  Extent free_mibs(uint64_t from, uint32_t most) const;

  // Another size, in whole regions.

  /// Nothing more is allocated from byte `bytes` of the map on, a multiple of kRegionBytes; what
  /// lies there stays until it is freed. capacity_bytes(): nothing is barred any more.
  void bar_from(uint64_t bytes);
  /// Some of the extent lies behind the bar.
  bool barred(const Extent& extent) const;
  /// Below the bar, used or free.
  uint64_t open_bytes() const;
  /// What lies behind the bar.
  uint64_t barred_used_bytes() const { return barred_used_ * kBlockBytes; }
  /// The map has so many bytes from now on, whole regions: what is cut off is barred and holds
  /// nothing. Nothing is barred then.
  void resize(uint64_t bytes);

  uint64_t capacity_bytes() const;  // barred or not
  uint64_t free_bytes() const;      // not barred
  /// What an object of `bytes` really takes, headers included by the caller.
  static uint64_t allocated_bytes(uint64_t bytes);
  /// Most extents that allocate(bytes) returns; the ten largest of them hold at least 1 MiB, or
  /// all.
  static size_t extents_max(uint64_t bytes);

 private:
  struct Region;
  static constexpr size_t kLevels = kClasses + 1;  // 0: no hole; c + 1: largest hole has class c
  bool take_run(uint32_t mibs, std::vector<Extent>* out);
  bool take(uint32_t block_class, std::vector<Extent>* out);
  bool take_or_split(uint32_t block_class, size_t extents_max, std::vector<Extent>* out);
  size_t first_region(size_t level, size_t from) const;
  bool mark(const Extent& extent, bool used);
  void refresh(size_t region, uint32_t first_slot, uint32_t last_slot);
  void list(size_t region);
  uint64_t used_blocks(const Region& region) const;
  void append_regions(uint64_t blocks);
  void lengthen_short_region();

  uint64_t first_block_ = 0;
  uint64_t blocks_ = 0;
  uint64_t free_blocks_ = 0;  // below the bar
  size_t bar_ = ~size_t{0};   // from this region on nothing is allocated
  uint64_t barred_used_ = 0;  // blocks
  size_t run_cursor_ = 0;     // where the search for a run of whole MiBs goes on
  std::vector<Region> regions_;
  std::array<std::vector<uint64_t>, kLevels> regions_at_;  // bit per region: it has such a slot
};
}  // namespace terrace
