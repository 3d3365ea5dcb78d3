// client/regions.h - the memory an engine registered, who uses it, and bytes found in it through
// fragments.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "base/region.h"
#include "base/status.h"
#include "proto/fragment_map.h"

namespace terrace {

/// Thread-safe.
class MemoryTable {
 public:
  void add(RegionId region, std::span<std::byte> memory);
  /// Refuses new users from here on. kNotFound; kFailedPrecondition while an operation uses it.
  Status begin_remove(RegionId region);
  /// Undoes begin_remove: the transport would not let go.
  void keep(RegionId region);
  void remove(RegionId region);
  size_t size() const;

 private:
  friend class RegionUses;
  struct Entry {
    std::span<std::byte> memory;
    uint32_t uses = 0;
    bool removing = false;
  };
  StatusOr<std::span<std::byte>> begin_use(RegionId region);
  void end_use(RegionId region);

  mutable std::mutex mutex_;
  std::map<RegionId, Entry> regions_;  // guarded by mutex_
};

/// The regions one operation uses; while it lives they cannot be unregistered. Move-only.
class RegionUses {
 public:
  explicit RegionUses(MemoryTable* table) : table_(table) {}
  RegionUses(RegionUses&& other) noexcept;
  RegionUses& operator=(RegionUses&&) = delete;
  ~RegionUses() { release(); }

  /// Takes the region of `place`. kInvalidArgument: unknown region, or not inside it; the message
  /// names the limit.
  Status add(const RemoteSpan& place);
  void release();
  /// Memory that add() took; empty when it did not, or the range lies outside.
  std::span<std::byte> at(const RemoteSpan& span) const;

 private:
  struct Use {
    RegionId region;
    std::span<std::byte> memory;
  };
  const Use* find(RegionId region) const;
  MemoryTable* table_;
  std::vector<Use> uses_;  // by region
};

/// Where the logical bytes of `range` lie in memory, in order. The map must cover the range.
void gather(const FragmentMap& map, ByteRange range, const RegionUses& memory,
            std::vector<std::span<const std::byte>>* pieces);

/// Walks gathered pieces: the CRC32C of the next `bytes`, continuing from `crc`.
class PieceReader {
 public:
  explicit PieceReader(std::span<const std::span<const std::byte>> pieces) : pieces_(pieces) {}
  uint32_t crc_of_next(uint64_t bytes, uint32_t crc);

 private:
  std::span<const std::span<const std::byte>> pieces_;
  uint64_t at_ = 0;  // in the first of pieces_
};
}  // namespace terrace
