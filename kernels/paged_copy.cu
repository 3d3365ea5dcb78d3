// The CUDA twin of kernels/paged_copy.cc. A warp moves a tile of a block at a time: every lane has
// kLoads accesses of 16 bytes in flight before the first store, neighbours side by side. The grid
// fills the device once and walks over the tiles, so that one launch serves any number of chunks.
#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "kernels/cuda_said.h"
#include "kernels/paged_copy.h"

namespace terrace {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kWarpsPerGroup = 8;
constexpr uint32_t kGroupsPerProcessor = 8;
constexpr uint64_t kTilesMax = uint64_t{1} << 31;

/// One warp's next tile, and where it lies on both sides.
struct Tile {
  uint4* staged;
  uint4* paged;
  uint32_t vectors;  // of 16 bytes, at most a tile's
};

/// `tile` counts tiles of a block, blocks of a plane, planes of a chunk, chunks: innermost first.
template <uint32_t kLoads>
__device__ bool find(const PagedCopy& copy, uint32_t vectors, uint32_t tiles_per_block,
                     uint32_t tile, Tile* out) {
  const uint32_t piece = tile / tiles_per_block;
  const uint32_t first = (tile - piece * tiles_per_block) * (kLoads * kWarp);
  const uint32_t row = piece / copy.blocks_per_chunk;
  const uint32_t block = piece - row * copy.blocks_per_chunk;
  const uint32_t chunk = row / copy.plane_count;
  const uint32_t plane = row - chunk * copy.plane_count;
  const uint32_t id = copy.block_ids[uint64_t{chunk} * copy.blocks_per_chunk + block];
  if (id >= copy.pool_blocks) return false;
  const PagedPlane where = copy.planes[plane];
  const uint64_t in_plane = uint64_t{block} * copy.block_bytes;
  out->staged = reinterpret_cast<uint4*>(copy.staged[row] + in_plane) + first;
  out->paged = reinterpret_cast<uint4*>(where.pool + id * where.block_stride) + first;
  out->vectors = min(vectors - first, kLoads * kWarp);
  return true;
}

template <uint32_t kLoads, PagedDirection kDirection>
__global__ void __launch_bounds__(kWarp* kWarpsPerGroup)
    move_tiles(PagedCopy copy, uint32_t vectors, uint32_t tiles_per_block, uint32_t tiles) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t warp = blockIdx.x * kWarpsPerGroup + threadIdx.x / kWarp;
  for (uint32_t t = warp; t < tiles; t += gridDim.x * kWarpsPerGroup) {
    Tile tile;
    if (!find<kLoads>(copy, vectors, tiles_per_block, t, &tile)) continue;
    const uint4* const from = kDirection == PagedDirection::scatter ? tile.staged : tile.paged;
    uint4* const to = kDirection == PagedDirection::scatter ? tile.paged : tile.staged;
    uint4 held[kLoads];
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t at = i * kWarp + lane;
      if (at < tile.vectors) held[i] = __ldcs(from + at);  // read once
    }
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t at = i * kWarp + lane;
      if (at < tile.vectors) to[at] = held[i];
    }
  }
}

template <uint32_t kLoads>
DeviceResult launch(const PagedCopy& copy, PagedDirection direction, cudaStream_t stream) {
  const uint64_t vectors = copy.block_bytes / sizeof(uint4);
  const uint64_t tiles_per_block = (vectors + kLoads * kWarp - 1) / (kLoads * kWarp);
  const uint64_t rows = uint64_t{copy.chunk_count} * copy.plane_count;
  const uint64_t tiles = rows * copy.blocks_per_chunk * tiles_per_block;
  if (tiles == 0) return {};
  if (vectors > kTilesMax || tiles > kTilesMax) {
    return cuda_said(cudaErrorInvalidValue, "paged copy of " + std::to_string(tiles) +
                                                " tiles in one launch, at most " +
                                                std::to_string(kTilesMax));
  }
  int device = 0, processors = 0;
  cudaError_t code = cudaGetDevice(&device);
  if (code == cudaSuccess) {
    code = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (code != cudaSuccess) return cuda_said(code, "paged copy: the device's size");
  const uint64_t groups = std::min<uint64_t>((tiles + kWarpsPerGroup - 1) / kWarpsPerGroup,
                                             uint64_t{kGroupsPerProcessor} * processors);
  const auto kernel = direction == PagedDirection::scatter
                          ? &move_tiles<kLoads, PagedDirection::scatter>
                          : &move_tiles<kLoads, PagedDirection::gather>;
  kernel<<<static_cast<uint32_t>(groups), kWarp * kWarpsPerGroup, 0, stream>>>(
      copy, static_cast<uint32_t>(vectors), static_cast<uint32_t>(tiles_per_block),
      static_cast<uint32_t>(tiles));
  return cuda_said(cudaGetLastError(), "paged copy: launch");
}
}  // namespace

DeviceResult paged_copy_on_device(const PagedCopy& copy, PagedDirection direction,
                                  DeviceStream stream) {
  if (copy.block_bytes == 0 || copy.block_bytes % kPagedAlignment != 0) {
    return cuda_said(cudaErrorInvalidValue,
                     "paged copy: blocks of " + std::to_string(copy.block_bytes) +
                         " bytes: no multiple of 16");
  }
  auto* const on = static_cast<cudaStream_t>(stream);
  // Small blocks would leave most lanes of a large tile without work.
  if (copy.block_bytes >= 8 * kWarp * sizeof(uint4)) return launch<8>(copy, direction, on);
  if (copy.block_bytes >= 2 * kWarp * sizeof(uint4)) return launch<2>(copy, direction, on);
  return launch<1>(copy, direction, on);
}
}  // namespace terrace
