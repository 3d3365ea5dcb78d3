// storage/object_format.h - the object header: the bytes in front of every object, in every tier.
// docs/formats.md specifies them; a golden file per version is read for ever.
//
// Layout of a stored object: the header, padded to 4 KiB; then each section, padded to 4 KiB. The
// header holds the section table and one CRC32C per 64 KiB unit of each section, so that fsck can
// rebuild the index from headers, and a stale index row over reused space shows up as another key
// or generation. Pure functions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/geometry.h"
#include "base/status.h"
#include "storage/extent_map.h"

namespace terrace {

struct ObjectHeader {
  static constexpr uint32_t kMagic = 0x4A424F54;  // "TOBJ" in memory order
  static constexpr uint16_t kVersion = 1;
  static constexpr uint32_t kOptionalBytesMax = 4096;
  ChunkKey key;
  NamespaceId ns{};
  uint64_t generation = 0;            // of this copy; grows with every put on the node
  std::string raw_key;                // <= kRawKeyBytesMax
  std::string user_meta;              // <= kUserMetaBytesMax
  std::vector<SectionSpec> sections;  // <= kSectionsMax
  std::vector<uint32_t> unit_crcs;    // section 0's units, then section 1's, ...
  std::vector<Extent> extents;        // where this object lies; empty in tiers other than nvme
  uint32_t optional_features = 0;     // bits of a later build: kept, and otherwise ignored
  std::string optional_fields;        // what they are about; <= kOptionalBytesMax
  bool operator==(const ObjectHeader&) const = default;
};

inline constexpr uint64_t kHeaderBytesMax = 256 * 1024;

/// Bytes of the header on the medium (a multiple of 4 KiB) for these counts; independent of the
/// values, so that space can be taken before the CRCs are known. `extents` is an upper bound.
uint64_t header_bytes(const ObjectHeader& shape, size_t extents_max);
/// Upper bound of extents of an object of `stored_bytes`, header included.
size_t extents_max_of(uint64_t stored_bytes);
/// Writes the header into `into` (header_bytes() long), zero padded, with its checksum. The limits
/// above hold, and there is one CRC per unit.
void encode(const ObjectHeader& header, std::span<std::byte> into);
/// kDataLoss: bad magic, checksum, or counts that do not add up (never reads past `bytes`).
/// kFailedPrecondition: a version or a required feature this build does not know, whole.
/// kOutOfRange: `bytes` is a correct beginning but too short: read as many bytes as header_size_of
/// says.
StatusOr<ObjectHeader> decode_object_header(std::span<const std::byte> bytes);
/// The header's full size, a multiple of 4 KiB and at most kHeaderBytesMax, from its first 4 KiB.
/// Of any version. Errors as above; the checksum is not looked at.
StatusOr<uint64_t> header_size_of(std::span<const std::byte> first_sector);

/// Where the sections of an object lie behind its header.
class ObjectLayout {
 public:
  ObjectLayout(uint64_t header_bytes, std::span<const SectionSpec> sections);
  uint64_t stored_bytes() const { return stored_bytes_; }  // header and padding included
  uint64_t logical_bytes() const { return logical_bytes_; }
  uint64_t section_offset(uint32_t section) const { return stored_offsets_[section]; }
  uint64_t logical_offset(uint32_t section) const { return logical_offsets_[section]; }
  /// The section that holds logical byte `logical_offset` (< logical_bytes).
  uint32_t section_at(uint64_t logical_offset) const;
  /// Index of the first CRC of `section` in ObjectHeader::unit_crcs.
  uint32_t first_unit(uint32_t section) const { return first_units_[section]; }
  uint32_t units() const { return units_; }

 private:
  uint64_t stored_bytes_ = 0;
  uint64_t logical_bytes_ = 0;
  uint32_t units_ = 0;
  std::vector<uint64_t> stored_offsets_;
  std::vector<uint64_t> logical_offsets_;
  std::vector<uint32_t> first_units_;
};
/// Maps [offset, offset + bytes) of a stored object, multiples of 4 KiB, through its extents to
/// runs on the tier. Shorter when the extents end before.
std::vector<Extent> slice(std::span<const Extent> extents, uint64_t offset, uint64_t bytes);
}  // namespace terrace
