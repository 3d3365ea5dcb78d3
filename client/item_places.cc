#include "client/item_places.h"

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "proto/message_kind.h"

namespace terrace {
namespace {

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, what);
}

std::string describe(const SectionSpec& section) {
  const char* const plane = section.kind == SectionKind::k_plane   ? "K"
                            : section.kind == SectionKind::v_plane ? "V"
                                                                   : "other";
  return "layer " + std::to_string(section.layer) + " " + plane + " plane";
}

StatusOr<const PoolSegment*> segment_for(const SectionSpec& section,
                                         std::span<const PoolSegment> pool) {
  const PoolSegment* found = nullptr;
  for (const PoolSegment& segment : pool) {
    if (segment.layer != section.layer || segment.kind != section.kind) continue;
    if (found != nullptr) return bad("pool: the " + describe(section) + " has two segments");
    found = &segment;
  }
  if (found == nullptr) return bad("pool: the " + describe(section) + " has no segment");
  return found;
}

Status check_fragment(const Fragment& fragment) {
  if (fragment.length <= kObjectBytesMax && fragment.object_offset <= kObjectBytesMax) {
    return ok_status();
  }
  return bad("fragment of " + std::to_string(fragment.length) + " bytes at object offset " +
             std::to_string(fragment.object_offset) + "; objects have at most " +
             std::to_string(kObjectBytesMax) + " bytes");
}
}  // namespace

StatusOr<PagedPool> planes_of(const ObjectShape& shape, std::span<const PoolSegment> pool) {
  if (shape.raw()) return bad("pool: a raw namespace has no planes; use fragments");
  PagedPool planes;
  for (size_t s = 0; s < shape.sections.size(); ++s) {
    const SectionSpec& section = shape.sections[s];
    TERRACE_ASSIGN_OR_RETURN(const PoolSegment* segment, segment_for(section, pool));
    const uint64_t bytes = segment->block_bytes;
    if (bytes == 0 || bytes > section.bytes || segment->block_stride < bytes) {
      return bad("pool: the " + describe(section) + " of " + std::to_string(section.bytes) +
                 " bytes has blocks of " + std::to_string(bytes) + " bytes every " +
                 std::to_string(segment->block_stride));
    }
    planes.push_back(
        {shape.section_starts[s], segment->region, segment->offset, segment->block_stride, bytes});
  }
  return planes;
}

Status ItemPlaces::use_pool(std::span<const PoolSegment> pool) {
  if (pool.empty()) return ok_status();
  TERRACE_ASSIGN_OR_RETURN(PagedPool planes, planes_of(*shape_, pool));
  packed_pool_ = pack_planes(planes);
  pool_ = std::make_shared<const PagedPool>(std::move(planes));
  return ok_status();
}

Status ItemPlaces::check_blocks(size_t blocks) const {
  for (size_t s = 0; s < pool_->size(); ++s) {
    const SectionSpec& section = shape_->sections[s];
    const uint64_t block_bytes = (*pool_)[s].block_bytes;  // at most the section's, 2^30
    if (blocks <= kBlockIdsPerRequestMax && blocks * block_bytes == section.bytes) continue;
    return bad("the " + describe(section) + " has " + std::to_string(section.bytes) + " bytes; " +
               std::to_string(blocks) + " blocks of " + std::to_string(block_bytes) +
               " bytes do not add up to it");
  }
  return ok_status();
}

Status ItemPlaces::use(const FragmentMap& map) {
  for (const Fragment& fragment : map.fragments()) {
    TERRACE_RETURN_IF_ERROR(check_fragment(fragment));
    TERRACE_RETURN_IF_ERROR(memory_.add({fragment.region, fragment.offset, fragment.length}));
  }
  if (!map.paged()) return ok_status();
  // The block that lies last: offsets grow with ids.
  const uint32_t last = *std::max_element(map.blocks().begin(), map.blocks().end());
  for (const PoolPlane& plane : *pool_) {
    TERRACE_RETURN_IF_ERROR(
        memory_.add({plane.region, plane.offset + last * plane.block_stride, plane.block_bytes}));
  }
  return ok_status();
}

StatusOr<FragmentMap> ItemPlaces::next(std::span<const Fragment> fragments,
                                       std::span<const uint32_t> block_ids) {
  if (fragments.empty() == block_ids.empty()) {
    return bad(fragments.empty() ? "an item without fragments and without block ids"
                                 : "an item with fragments and with block ids");
  }
  FragmentMap map;
  if (block_ids.empty()) {
    if (fragments.size() > kFragmentsPerRequestMax) {
      return bad("more than " + std::to_string(kFragmentsPerRequestMax) + " fragments");
    }
    TERRACE_ASSIGN_OR_RETURN(map, FragmentMap::create({fragments.begin(), fragments.end()}));
  } else {
    if (pool_ == nullptr) return bad("block ids without a pool in the options");
    TERRACE_RETURN_IF_ERROR(check_blocks(block_ids.size()));
    TERRACE_ASSIGN_OR_RETURN(
        map, FragmentMap::create_paged(pool_, {block_ids.begin(), block_ids.end()}));
  }
  TERRACE_RETURN_IF_ERROR(budget_.take(map));
  TERRACE_RETURN_IF_ERROR(use(map));
  return map;
}
}  // namespace terrace
