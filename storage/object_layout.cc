#include <algorithm>

#include "base/check.h"
#include "storage/object_format.h"

namespace terrace {

ObjectLayout::ObjectLayout(uint64_t header_bytes, std::span<const SectionSpec> sections)
    : stored_bytes_(header_bytes) {
  TERRACE_CHECK(header_bytes % kSectorBytes == 0);
  stored_offsets_.reserve(sections.size());
  logical_offsets_.reserve(sections.size());
  first_units_.reserve(sections.size());
  for (const SectionSpec& section : sections) {
    stored_offsets_.push_back(stored_bytes_);
    logical_offsets_.push_back(logical_bytes_);
    first_units_.push_back(units_);
    stored_bytes_ += (section.bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
    logical_bytes_ += section.bytes;
    units_ += units_of(section.bytes);
  }
}

uint32_t ObjectLayout::section_at(uint64_t logical_offset) const {
  TERRACE_CHECK(logical_offset < logical_bytes_);
  // The last section that starts at or before it: an empty one before has the same offset.
  const auto after =
      std::upper_bound(logical_offsets_.begin(), logical_offsets_.end(), logical_offset);
  return static_cast<uint32_t>(after - logical_offsets_.begin()) - 1;
}

std::vector<Extent> slice(std::span<const Extent> extents, uint64_t offset, uint64_t bytes) {
  TERRACE_CHECK(offset % kSectorBytes == 0 && bytes % kSectorBytes == 0);
  uint64_t skip = offset / kSectorBytes;
  uint64_t left = bytes / kSectorBytes;
  std::vector<Extent> out;
  for (const Extent& extent : extents) {
    if (left == 0) break;
    if (skip >= extent.blocks) {
      skip -= extent.blocks;
      continue;
    }
    const auto first = static_cast<uint32_t>(skip);
    const auto take = static_cast<uint32_t>(std::min<uint64_t>(extent.blocks - first, left));
    out.push_back({extent.block + first, take, extent.device});
    skip = 0;
    left -= take;
  }
  return out;
}
}  // namespace terrace
