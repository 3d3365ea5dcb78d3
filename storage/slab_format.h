// storage/slab_format.h - the bytes that make a slab of the arena self-describing: its header block
// and one directory word pair per 4 KiB block. docs/formats-slab.md specifies them. Pure functions.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace terrace {

struct SlabHeader {
  static constexpr uint64_t kMagic = 0x42414C5352524554;  // "TERRSLAB" in memory order
  static constexpr uint16_t kVersion = 2;
  std::array<std::byte, 16> uuid{};   // of this slab, fresh each time it is made
  uint64_t data_bytes = 0;            // behind the directory
  uint64_t first_block = 0;           // number of its first data block in the arena
  std::array<std::byte, 16> owner{};  // the data directory whose node made it; zeros: none
  uint64_t epoch = 0;                 // of its memory; grows from slab to slab, over restarts too
  bool operator==(const SlabHeader&) const = default;
};

/// What the directory says of the data block with the same number. Only the first block of an
/// extent has more than zeros.
struct SlabDirectoryEntry {
  static constexpr uint32_t kLast = ~uint32_t{0};
  /// In `next`, with no commit word: a device may still be writing into this extent. A request that
  /// a kill leaves behind ends when the device likes, so the extent is not used by the next run;
  /// that counts down, and the one that finds kFillingOver uses it.
  static constexpr uint32_t kFilling = kLast - 1;
  static constexpr uint32_t kFillingOver = kFilling - 8;
  uint32_t blocks = 0;  // of the extent that begins here; 0: none does
  uint32_t next = 0;    // arena block where the object goes on; kLast: nowhere
  /// Generation of the object whose header begins here; 0: none, or not committed. Written last
  /// when an object is committed and zeroed first when its space is freed.
  std::atomic<uint64_t> commit{0};
};
static_assert(sizeof(SlabDirectoryEntry) == 16, "lies in the slab as it is");

inline constexpr uint64_t kSlabHeaderBytes = 4096;
/// Where in the header block a word lies that its checksum does not cover: 0 until the slab first
/// belongs to somebody, who may then have mapped it. Set before anything is written to the slab.
inline constexpr uint64_t kSlabClaimOffset = 4080;
/// Where the data of a slab begins in its file: behind header and directory, at a multiple of 2 MiB
/// so that huge pages fit both parts.
constexpr uint64_t slab_data_offset(uint64_t data_bytes) {
  constexpr uint64_t kAlign = uint64_t{2} << 20;
  const uint64_t bytes = kSlabHeaderBytes + data_bytes / 4096 * sizeof(SlabDirectoryEntry);
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

/// Fills the header block.
void encode(const SlabHeader& header, std::span<std::byte, kSlabHeaderBytes> into);
/// kDataLoss: magic or checksum; kFailedPrecondition: another version.
StatusOr<SlabHeader> decode_slab_header(std::span<const std::byte, kSlabHeaderBytes> block);
}  // namespace terrace
