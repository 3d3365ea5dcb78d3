// proto/fragment_map.h - where the logical bytes of an object lie in registered memory, for both
// sides of a transfer: a list of fragments, or the blocks of a paged pool. Values only; pure.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
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

/// The planes of a paged KV cache, by object_offset; the maps of one request share them.
using PagedPool = std::vector<PoolPlane>;

class FragmentMap {
 public:
  static constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

  FragmentMap() = default;
  /// kInvalidArgument: a fragment of 0 bytes, or two that overlap in the object; the message names
  /// both offsets.
  static StatusOr<FragmentMap> create(std::vector<Fragment> fragments);
  /// The tokens of the object lie in `blocks`, first to last, of every plane: `pool` costs nothing
  /// per object, a block id 4 bytes. kInvalidArgument: no plane, no block, planes out of order or
  /// overlapping in the object, one of 0 bytes per block, or a block past 2^63 of its region.
  static StatusOr<FragmentMap> create_paged(std::shared_ptr<const PagedPool> pool,
                                            std::vector<uint32_t> blocks);

  /// The runs that are covered, in order, neighbours merged.
  const std::vector<ByteRange>& runs() const { return runs_; }
  uint64_t bytes() const { return bytes_; }
  /// Whether [0, object_bytes) is covered exactly.
  bool covers(uint64_t object_bytes) const;
  /// Where `range` lies, in order. Appends at most `spans_max` spans and returns how many bytes of
  /// `range` they hold: less than asked when spans_max was reached or the range leaves a run.
  uint64_t locate(ByteRange range, size_t spans_max, std::vector<RemoteSpan>* out) const;

  bool paged() const { return pool_ != nullptr; }
  /// Of the pool; 0 unless paged().
  size_t planes() const { return paged() ? pool_->size() : 0; }
  /// By object_offset; empty when paged().
  std::span<const Fragment> fragments() const { return fragments_; }
  /// Empty unless paged().
  std::span<const uint32_t> blocks() const { return blocks_; }

 private:
  /// A piece of the map that is contiguous in the object and in memory.
  struct Cursor {
    size_t entry = 0;  // of fragments_, or of *pool_
    size_t block = 0;  // of blocks_, when paged
  };
  /// The last piece that begins at or before `offset`; false when there is none.
  bool seek(uint64_t offset, Cursor* cursor) const;
  bool at_end(const Cursor& cursor) const;
  Fragment piece(const Cursor& cursor) const;
  void step(Cursor* cursor) const;
  /// False when it overlaps what was added before.
  bool add_run(ByteRange run);

  std::vector<Fragment> fragments_;
  std::shared_ptr<const PagedPool> pool_;
  std::vector<uint32_t> blocks_;
  std::vector<ByteRange> runs_;
  uint64_t bytes_ = 0;
};
}  // namespace terrace
