// proto/fragment_map.h - where the logical bytes of an object lie in registered memory, for both
// sides of a transfer. Values only; pure functions.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/region.h"
#include "base/status.h"

namespace terrace {

/// A run of logical bytes.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t end() const { return offset + bytes; }
  bool operator==(const ByteRange&) const = default;
};

class FragmentMap {
 public:
  FragmentMap() = default;
  /// kInvalidArgument: a fragment of 0 bytes, or two that overlap in the object; the message names
  /// both offsets.
  static StatusOr<FragmentMap> create(std::vector<Fragment> fragments);

  /// The runs that are covered, in order, neighbours merged.
  const std::vector<ByteRange>& runs() const { return runs_; }
  uint64_t bytes() const { return bytes_; }
  /// Whether [0, object_bytes) is covered exactly.
  bool covers(uint64_t object_bytes) const;
  /// Where `range` lies, in order. Appends at most `spans_max` spans and returns how many bytes of
  /// `range` they hold: less than asked when spans_max was reached or the range leaves a run.
  uint64_t locate(ByteRange range, size_t spans_max, std::vector<RemoteSpan>* out) const;
  std::span<const Fragment> fragments() const { return fragments_; }

 private:
  std::vector<Fragment> fragments_;  // by object_offset
  std::vector<ByteRange> runs_;
  uint64_t bytes_ = 0;
};
}  // namespace terrace
