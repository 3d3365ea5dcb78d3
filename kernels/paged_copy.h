// kernels/paged_copy.h - between chunks, plane by plane, and the engine's paged KV pool: all layers
// of one or many chunks in one launch. A plane may lie in device memory, where it was staged, or in
// registered host memory, where a view shows it: then the launch is the load. The CPU twin is the
// oracle of the CUDA kernel and takes the same arguments. Stateless: thread-safe as long as
// destinations do not overlap.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/device_memory.h"

namespace terrace {

/// In a block table: nothing of the pool belongs to this block of the chunk; it is passed over.
inline constexpr uint32_t kNoBlock = 0xFFFF'FFFF;
inline constexpr uint64_t kPagedAlignment = 16;  // of every address, stride and length, in bytes

/// The K or the V plane of one layer in the pool: block b lies at pool + b * block_stride.
struct PagedPlane {
  std::byte* pool = nullptr;
  uint64_t block_stride = 0;  // bytes, at least block_bytes
};

/// Shapes, outermost first:
///   planes     [plane_count]                    in the order of the chunk's sections
///   staged     [chunk_count][plane_count] -> [blocks_per_chunk][block_bytes], contiguous
///   block_ids  [chunk_count][blocks_per_chunk]  ids below pool_blocks, or kNoBlock
/// For CUDA the three arrays and all they point to must be within the device's reach; planes of
/// read-only host memory can only be scattered from. Everything is borrowed until the work is done.
struct PagedCopy {
  const PagedPlane* planes = nullptr;
  std::byte* const* staged = nullptr;
  const uint32_t* block_ids = nullptr;
  uint32_t plane_count = 0;
  uint32_t chunk_count = 0;
  uint32_t blocks_per_chunk = 0;
  uint32_t pool_blocks = 0;  // ids from here on are never followed
  uint64_t block_bytes = 0;  // tokens per block * bytes per token of a plane; the same for all
};

enum class PagedDirection : uint8_t {
  scatter,  // staged to pool: after a load
  gather,   // pool to staged: before a store
};

/// Empty, or what is wrong with it: names the array, the index and the limit. For arrays that the
/// host can read, i.e. before they go to the device.
std::string check_paged_copy(const PagedCopy& copy);

/// The twin, on this thread.
void paged_copy_on_cpu(const PagedCopy& copy, PagedDirection direction);

/// Starts the kernel on `stream` and returns. cudaErrorInvalidValue: block_bytes is 0 or no
/// multiple of kPagedAlignment, or more than 2^31 pieces of 4 KiB (split by chunks). Built where
/// CUDA is found.
DeviceResult paged_copy_on_device(const PagedCopy& copy, PagedDirection direction,
                                  DeviceStream stream);
}  // namespace terrace
