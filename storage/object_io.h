// storage/object_io.h - small steps that several operations share: how a stored object maps to
// device requests, how its header is read and checked, how its units are verified. Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/arena.h"
#include "storage/device_queue.h"
#include "storage/index.h"
#include "storage/metadata_store.h"
#include "storage/object_format.h"
#include "storage/store_metrics.h"

namespace terrace {

/// Appends the requests that move [offset, offset + all of `memory`) of a stored object between
/// `memory` and the device. Everything is a multiple of 4 KiB.
void add_pieces(std::span<const Extent> extents, uint64_t offset, std::span<const iovec> memory,
                std::vector<IoPiece>* out);

/// What a row says of an encoded header: the CRC32C of all of it.
inline uint32_t header_crc_of(std::span<const std::byte> encoded) {
  return crc32c(encoded);
}
/// Gives the row as many of the object's extents as it may hold.
void set_extents(MetadataRow* row, std::span<const Extent> extents);
/// The row of an object on the device. `extents` are all of its extents that are known; `kept`
/// null: nothing was said of its retention.
MetadataRow row_of(const IndexEntry& entry, std::span<const Extent> extents, const Kept* kept);

/// Bytes of an object in the arena and on the device. They depend on each other: the header holds
/// the extents, whose number depends on the size.
struct StoredSizes {
  uint64_t header_bytes = 0;
  uint64_t stored_bytes = 0;  // header included
};
StoredSizes stored_sizes(const ObjectHeader& header);

/// kDataLoss: the header is of another object, or of another put of this one.
Status check_identity(const ObjectHeader& header, const IndexEntry& entry);
/// The header in front of an object in the arena. kDataLoss: damaged, or of another object.
StatusOr<ObjectHeader> read_arena_header(const ArenaSpace& space, const IndexEntry& entry);
/// A header that was read from anywhere: intact, this object's. Else kDataLoss.
StatusOr<ObjectHeader> decode_header_of(std::span<const std::byte> bytes, const IndexEntry& entry);
/// The header that was read from the device: intact, the row's, this object's. Else kDataLoss.
StatusOr<ObjectHeader> decode_nvme_header(std::span<const std::byte> bytes,
                                          const IndexEntry& entry);
/// CRC of a unit that lies in `memory`.
uint32_t unit_crc_of(const ChunkKey& key, uint32_t section, uint32_t unit,
                     std::span<const iovec> memory);
/// Bytes of `unit` of a section of `section_bytes`.
uint64_t unit_bytes(uint64_t section_bytes, uint32_t unit);

/// Memory that a device can take, without a mapping of its own.
class SectorMemory {
 public:
  explicit SectorMemory(size_t bytes);
  ~SectorMemory();
  SectorMemory(const SectorMemory&) = delete;
  SectorMemory& operator=(const SectorMemory&) = delete;
  std::span<std::byte> span() const { return {data_, size_}; }

 private:
  std::byte* const data_;
  const size_t size_;
};

/// Verifies every unit of an object in the arena, in bounded steps.
class ArenaCheck {
 public:
  static constexpr uint64_t kStepBytes = kMiB;
  ArenaCheck(ObjectHeader header, std::shared_ptr<ArenaSpace> space);
  /// Verifies about `bytes` more. kDataLoss names the section and unit that differ.
  Status step(uint64_t bytes, StoreMetrics* metrics);
  bool over() const { return section_ == header_.sections.size(); }
  /// Which copy it looks at.
  const ArenaSpace* space() const { return space_.get(); }

 private:
  const ObjectHeader header_;
  const std::shared_ptr<ArenaSpace> space_;
  const ObjectLayout layout_;
  uint32_t section_ = 0;
  uint32_t unit_ = 0;
  std::vector<iovec> memory_;
};
}  // namespace terrace
