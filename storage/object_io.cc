#include "storage/object_io.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/nvme_space.h"

namespace terrace {

void add_pieces(std::span<const Extent> extents, uint64_t offset, std::span<const iovec> memory,
                std::vector<IoPiece>* out) {
  for (const iovec& run : memory) {
    auto* at = static_cast<std::byte*>(run.iov_base);
    for (const Extent& extent : slice(extents, offset, run.iov_len)) {
      for (uint64_t done = 0; done < extent.bytes();) {
        const uint64_t bytes = std::min<uint64_t>(kMiB, extent.bytes() - done);
        out->push_back({extent.offset() + done, {at, bytes}, extent.device});
        at += bytes;
        done += bytes;
      }
    }
    offset += run.iov_len;
  }
}

StoredSizes stored_sizes(const ObjectHeader& header) {
  uint64_t padded = 0;
  for (const SectionSpec& section : header.sections) {
    padded += (section.bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  }
  uint64_t bytes = kSectorBytes;
  for (uint64_t last = 0; last != bytes;) {
    last = bytes;
    bytes = std::max(bytes, header_bytes(header, extents_max_of(padded + bytes)));
  }
  return {bytes, padded + bytes};
}

void set_extents(MetadataRow* row, std::span<const Extent> extents) {
  const size_t kept = std::min(extents.size(), kRowExtentsMax);
  row->extents.assign(extents.begin(), extents.begin() + static_cast<ptrdiff_t>(kept));
  row->extents_complete = kept == extents.size();
}

MetadataRow row_of(const IndexEntry& entry, std::span<const Extent> extents, const Kept* kept) {
  MetadataRow row;
  row.key = entry.key;
  row.ns = entry.ns;
  row.generation = entry.generation;
  row.logical_bytes = entry.logical_bytes;
  row.stored_bytes = entry.stored_bytes();
  row.sections = entry.sections;
  row.header_crc = entry.header_crc;
  row.header_bytes = uint32_t{entry.header_blocks} * kSectorBytes;
  if (kept != nullptr) row.kept = *kept;
  row.worth = entry.worth;
  set_extents(&row, extents);
  // Of an object on a missing device only those of its row are known.
  if (NvmeMap::bytes_of(extents) < row.stored_bytes) row.extents_complete = false;
  return row;
}

Status check_identity(const ObjectHeader& header, const IndexEntry& entry) {
  if (header.key == entry.key && header.ns == entry.ns && header.generation == entry.generation &&
      header.sections.size() == entry.sections) {
    return ok_status();
  }
  return error(StatusCode::kDataLoss, "object " + entry.key.hex() + " generation " +
                                          std::to_string(entry.generation) + ": its header names " +
                                          header.key.hex() + " generation " +
                                          std::to_string(header.generation));
}

StatusOr<ObjectHeader> read_arena_header(const ArenaSpace& space, const IndexEntry& entry) {
  const uint64_t bytes = uint64_t{entry.header_blocks} * kSectorBytes;
  std::vector<iovec> memory;
  space.memory(0, bytes, &memory);
  std::vector<std::byte> gathered;
  std::span<const std::byte> whole;
  if (memory.size() == 1) {
    whole = {static_cast<const std::byte*>(memory[0].iov_base), bytes};
  } else {
    for (const iovec& run : memory) {
      const auto* start = static_cast<const std::byte*>(run.iov_base);
      gathered.insert(gathered.end(), start, start + run.iov_len);
    }
    whole = gathered;
  }
  return decode_header_of(whole, entry);
}

StatusOr<ObjectHeader> decode_header_of(std::span<const std::byte> bytes, const IndexEntry& entry) {
  TERRACE_ASSIGN_OR_RETURN(ObjectHeader header, decode_object_header(bytes));
  TERRACE_RETURN_IF_ERROR(check_identity(header, entry));
  return header;
}

StatusOr<ObjectHeader> decode_nvme_header(std::span<const std::byte> bytes,
                                          const IndexEntry& entry) {
  TERRACE_ASSIGN_OR_RETURN(ObjectHeader header, decode_header_of(bytes, entry));
  if (header_crc_of(bytes) != entry.header_crc) {
    return error(StatusCode::kDataLoss,
                 "object " + entry.key.hex() + ": its header is not the one that its row names");
  }
  return header;
}

uint32_t unit_crc_of(const ChunkKey& key, uint32_t section, uint32_t unit,
                     std::span<const iovec> memory) {
  uint32_t crc = unit_crc_seed(key, section, unit);
  for (const iovec& run : memory) {
    crc = crc32c({static_cast<const std::byte*>(run.iov_base), run.iov_len}, crc);
  }
  return crc;
}

uint64_t unit_bytes(uint64_t section_bytes, uint32_t unit) {
  return std::min<uint64_t>(kCrcUnitBytes, section_bytes - uint64_t{unit} * kCrcUnitBytes);
}

SectorMemory::SectorMemory(size_t bytes)
    : data_(static_cast<std::byte*>(std::aligned_alloc(kSectorBytes, bytes))), size_(bytes) {
  TERRACE_CHECK(bytes % kSectorBytes == 0 && data_ != nullptr);
}
SectorMemory::~SectorMemory() {
  std::free(data_);
}

namespace {
uint64_t header_bytes_in(const ArenaSpace& space, const ObjectHeader& header) {
  uint64_t data = 0;
  for (const SectionSpec& section : header.sections) {
    data += (section.bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  }
  return space.bytes() - data;
}
}  // namespace

ArenaCheck::ArenaCheck(ObjectHeader header, std::shared_ptr<ArenaSpace> space)
    : header_(std::move(header)),
      space_(std::move(space)),
      layout_(header_bytes_in(*space_, header_), header_.sections) {}

Status ArenaCheck::step(uint64_t bytes, StoreMetrics* metrics) {
  for (uint64_t done = 0; done < bytes && !over();) {
    const uint64_t section_bytes = header_.sections[section_].bytes;
    const uint64_t length = unit_bytes(section_bytes, unit_);
    memory_.clear();
    space_->memory(layout_.section_offset(section_) + uint64_t{unit_} * kCrcUnitBytes, length,
                   &memory_);
    const uint32_t crc = unit_crc_of(header_.key, section_, unit_, memory_);
    metrics->bytes_verified.add(length);
    if (crc != header_.unit_crcs[layout_.first_unit(section_) + unit_]) {
      return error(StatusCode::kDataLoss, "object " + header_.key.hex() + " section " +
                                              std::to_string(section_) + " unit " +
                                              std::to_string(unit_) + ": checksum differs");
    }
    done += length;
    if (++unit_ >= units_of(section_bytes)) {
      unit_ = 0;
      ++section_;
    }
  }
  return ok_status();
}
}  // namespace terrace
