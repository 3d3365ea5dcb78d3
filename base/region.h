// base/region.h - names for registered memory and for pieces of it. Values only.
#pragma once
#include <cstddef>
#include <cstdint>

namespace terrace {

/// Memory that a process registered for transfers; unique within one session, never reused.
enum class RegionId : uint64_t {};

/// Bytes inside a region the peer registered.
struct RemoteSpan {
  RegionId region{};
  uint64_t offset = 0;
  uint64_t length = 0;  // bytes
  bool operator==(const RemoteSpan&) const = default;
};

/// Where a piece of an object comes from or goes to: `length` logical bytes of the object from
/// `object_offset` lie at `offset` of `region`.
struct Fragment {
  uint64_t object_offset = 0;
  RegionId region{};
  uint64_t offset = 0;
  uint64_t length = 0;
  bool operator==(const Fragment&) const = default;
};
static_assert(sizeof(Fragment) == 32, "travels as a packed array, docs/formats.md");

/// One plane of a paged KV cache as the objects of a request see it: a chunk whose tokens lie in
/// the blocks b0, b1, ... has `block_bytes` logical bytes from `object_offset` at `offset + b0 *
/// block_stride` of `region`, the next ones at `offset + b1 * block_stride`, ...
struct PoolPlane {
  uint64_t object_offset = 0;
  RegionId region{};
  uint64_t offset = 0;
  uint64_t block_stride = 0;  // bytes
  uint64_t block_bytes = 0;
  bool operator==(const PoolPlane&) const = default;
};
static_assert(sizeof(PoolPlane) == 40, "travels as a packed array, docs/formats.md");
}  // namespace terrace
