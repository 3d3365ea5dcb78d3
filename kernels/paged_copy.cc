#include "kernels/paged_copy.h"

#include <cstring>

namespace terrace {
namespace {

bool aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kPagedAlignment == 0;
}

std::string check_planes(const PagedCopy& copy) {
  for (uint32_t p = 0; p < copy.plane_count; ++p) {
    const PagedPlane& plane = copy.planes[p];
    const std::string which = "plane " + std::to_string(p) + ": ";
    if (plane.pool == nullptr || !aligned(plane.pool) ||
        plane.block_stride % kPagedAlignment != 0) {
      return which + "its pool or its stride of " + std::to_string(plane.block_stride) +
             " bytes is no multiple of 16";
    }
    if (plane.block_stride < copy.block_bytes) {
      return which + "blocks of " + std::to_string(copy.block_bytes) + " bytes overlap at " +
             std::to_string(plane.block_stride) + " apart";
    }
  }
  return {};
}
}  // namespace

std::string check_paged_copy(const PagedCopy& copy) {
  if (copy.block_bytes == 0 || copy.block_bytes % kPagedAlignment != 0) {
    return "blocks of " + std::to_string(copy.block_bytes) + " bytes: no multiple of 16";
  }
  if (std::string wrong = check_planes(copy); !wrong.empty()) return wrong;
  for (uint32_t c = 0; c < copy.chunk_count; ++c) {
    const std::string which = "chunk " + std::to_string(c);
    for (uint32_t p = 0; p < copy.plane_count; ++p) {
      const std::byte* const plane = copy.staged[uint64_t{c} * copy.plane_count + p];
      if (plane == nullptr || !aligned(plane)) {
        return which + ", plane " + std::to_string(p) + " does not lie at a multiple of 16";
      }
    }
    const uint32_t* const ids = copy.block_ids + uint64_t{c} * copy.blocks_per_chunk;
    for (uint32_t b = 0; b < copy.blocks_per_chunk; ++b) {
      if (ids[b] == kNoBlock || ids[b] < copy.pool_blocks) continue;
      return which + ", block " + std::to_string(b) + ": the pool's block " +
             std::to_string(ids[b]) + " of " + std::to_string(copy.pool_blocks);
    }
  }
  return {};
}

void paged_copy_on_cpu(const PagedCopy& copy, PagedDirection direction) {
  for (uint32_t c = 0; c < copy.chunk_count; ++c) {
    const uint32_t* const ids = copy.block_ids + uint64_t{c} * copy.blocks_per_chunk;
    for (uint32_t p = 0; p < copy.plane_count; ++p) {
      std::byte* staged = copy.staged[uint64_t{c} * copy.plane_count + p];
      for (uint32_t b = 0; b < copy.blocks_per_chunk; ++b, staged += copy.block_bytes) {
        if (ids[b] >= copy.pool_blocks) continue;
        std::byte* const paged = copy.planes[p].pool + ids[b] * copy.planes[p].block_stride;
        if (direction == PagedDirection::scatter) {
          std::memcpy(paged, staged, copy.block_bytes);
        } else {
          std::memcpy(staged, paged, copy.block_bytes);
        }
      }
    }
  }
}
}  // namespace terrace
