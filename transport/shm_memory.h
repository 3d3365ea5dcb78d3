// transport/shm_memory.h - memory files that two processes share: made by the listening side,
// mapped by both. Sealed against shrinking, so that a peer cannot make us fault. Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/handle.h"
#include "base/memory_file.h"
#include "base/status.h"
#include "transport/shm_format.h"

namespace terrace {

/// A mapping of a memory file; unmapped on destruction, or when the last who holds it lets go.
/// Move-only.
class ShmMapping {
 public:
  ShmMapping() = default;
  ShmMapping(ShmMapping&& other) noexcept;
  ShmMapping& operator=(ShmMapping&& other) noexcept;
  /// Maps `facts` of `file`, which the peer sent. kInvalidArgument: no memory file, not sealed
  /// against shrinking, or smaller than that. kResourceExhausted: no room to map it.
  static StatusOr<ShmMapping> map(const Fd& file, const ShmFileFacts& facts, bool writable);
  std::span<std::byte> memory() const { return memory_; }
  /// The bytes of [offset, offset + length); empty when they are not all inside.
  std::span<const std::byte> at(uint64_t offset, uint64_t length) const;
  /// What keeps the memory mapped without this object. Safe beside other const calls.
  std::shared_ptr<const void> hold() const { return mapped_; }

 private:
  explicit ShmMapping(std::span<std::byte> memory);
  std::span<std::byte> memory_;
  std::shared_ptr<const void> mapped_;
};

/// Where one side puts bytes for the other: 64 slots that are lent until the peer is done.
class ShmArea {
 public:
  static constexpr uint64_t kSlotBytes = uint64_t{128} << 10;
  static constexpr uint64_t kSlots = 64;
  static constexpr uint64_t kBytes = kSlots * kSlotBytes;

  void adopt(ShmMapping mapping) { mapping_ = std::move(mapping); }
  /// Slots for `bytes`, as a set of bits; 0: not so many are free.
  uint64_t take(uint64_t bytes);
  void give_back(uint64_t slots) { free_ |= slots; }
  bool all_free() const { return free_ == ~uint64_t{0}; }
  /// The first `bytes` of the slots, in order, as the peer names them, and as we do.
  static std::vector<ShmPiece> pieces(uint64_t slots, uint64_t bytes);
  std::vector<iovec> memory(uint64_t slots, uint64_t bytes) const;

 private:
  ShmMapping mapping_;
  uint64_t free_ = ~uint64_t{0};
};
static_assert(ShmArea::kSlots == 64, "one bit each");

/// Copies `from` to `to`, in order; equal totals. With `crc_runs`, appends the CRC32C of runs of
/// these lengths to `sums`. `streaming`: see base/copy_crc32c.h.
void copy_bytes(std::span<const iovec> from, std::span<const iovec> to,
                std::span<const uint32_t> crc_runs, bool streaming, std::vector<uint32_t>* sums);
}  // namespace terrace
