// transport/region_table.h - the memory that peers may name, and who is using it. Every span off
// the wire passes through resolve() before a byte of it is read or written. Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/region.h"
#include "base/status.h"

namespace terrace {

class RegionTable {
 public:
  /// `memory` must outlive the region. kInvalidArgument: empty. kResourceExhausted: over
  /// kRegionsPerSessionMax. Ids are never reused.
  StatusOr<RegionId> add(std::span<std::byte> memory);
  /// kFailedPrecondition while pinned; kNotFound.
  Status remove(RegionId region);
  /// kNotFound.
  Status check(RegionId region) const;
  /// The memory of a region; empty when there is none.
  std::span<std::byte> find(RegionId region) const;

  /// Appends the memory of `spans` to `places`, in order; nothing on error. kNotFound: a region
  /// that is gone, which an honest peer may not know yet. kOutOfRange: a region that never was, or
  /// bytes outside of one.
  Status resolve(std::span<const RemoteSpan> spans, std::vector<iovec>* places) const;
  /// While pinned, the regions of `spans` (which resolve() accepted) cannot be removed.
  void pin(std::span<const RemoteSpan> spans);
  void unpin(std::span<const RemoteSpan> spans);
  bool pinned(RegionId region) const;
  size_t size() const { return regions_.size(); }

 private:
  struct Region {
    std::span<std::byte> memory;
    uint64_t pins = 0;
  };
  std::unordered_map<uint64_t, Region> regions_;
  uint64_t next_id_ = 1;
};
}  // namespace terrace
