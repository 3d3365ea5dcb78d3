#include <limits>
#include <string>

#include "base/limits.h"
#include "client/terrace.h"

namespace terrace {
namespace {

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "fragments_of: " + what);
}

const char* name_of(SectionKind kind) {
  return kind == SectionKind::k_plane ? "K" : kind == SectionKind::v_plane ? "V" : "other";
}

std::string describe(uint16_t layer, SectionKind kind) {
  return "layer " + std::to_string(layer) + " " + name_of(kind) + " plane";
}

StatusOr<const PoolSegment*> segment_for(const SectionSpec& section,
                                         std::span<const PoolSegment> pool) {
  const PoolSegment* found = nullptr;
  for (const PoolSegment& segment : pool) {
    if (segment.layer != section.layer || segment.kind != section.kind) continue;
    if (found != nullptr) return bad(describe(section.layer, section.kind) + " has two segments");
    found = &segment;
  }
  if (found == nullptr) return bad(describe(section.layer, section.kind) + " has no segment");
  return found;
}

Status check(const SectionSpec& section, const PoolSegment& segment, size_t blocks) {
  const auto total = static_cast<unsigned __int128>(segment.block_bytes) * blocks;
  if (segment.block_bytes == 0 || total != section.bytes) {
    return bad(describe(section.layer, section.kind) + " has " + std::to_string(section.bytes) +
               " bytes; " + std::to_string(blocks) + " blocks of " +
               std::to_string(segment.block_bytes) + " bytes do not add up to it");
  }
  if (blocks > 1 && segment.block_stride < segment.block_bytes) {
    return bad(describe(section.layer, section.kind) + ": stride " +
               std::to_string(segment.block_stride) + " is less than a block of " +
               std::to_string(segment.block_bytes));
  }
  return ok_status();
}
}  // namespace

StatusOr<std::vector<Fragment>> fragments_of(const Geometry& geometry,
                                             std::span<const PoolSegment> pool,
                                             std::span<const uint32_t> block_ids) {
  TERRACE_RETURN_IF_ERROR(geometry.validate());
  std::vector<Fragment> fragments;
  uint64_t object_offset = 0;
  for (const SectionSpec& section : sections_of(geometry, geometry.tokens_per_chunk)) {
    TERRACE_ASSIGN_OR_RETURN(const PoolSegment* segment, segment_for(section, pool));
    TERRACE_RETURN_IF_ERROR(check(section, *segment, block_ids.size()));
    for (const uint32_t block : block_ids) {
      const auto at =
          static_cast<unsigned __int128>(segment->block_stride) * block + segment->offset;
      if (at + segment->block_bytes > std::numeric_limits<uint64_t>::max()) {
        return bad("block " + std::to_string(block) + " lies past the address space");
      }
      const Fragment next{object_offset, segment->region, static_cast<uint64_t>(at),
                          segment->block_bytes};
      object_offset += next.length;
      // Neighbours in the object and in memory become one: fewer entries on the wire.
      if (!fragments.empty() && fragments.back().region == next.region &&
          fragments.back().offset + fragments.back().length == next.offset) {
        fragments.back().length += next.length;
        continue;
      }
      if (fragments.size() == kFragmentsPerRequestMax) {
        return bad("more than " + std::to_string(kFragmentsPerRequestMax) + " fragments");
      }
      fragments.push_back(next);
    }
  }
  return fragments;
}
}  // namespace terrace
