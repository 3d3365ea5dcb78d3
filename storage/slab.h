// storage/slab.h - the memory of one slab: a memfd, mapped where the arena wants its data, and its
// header and directory beside it. Confined to one thread at a time.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/handle.h"
#include "base/status.h"
#include "storage/slab_format.h"

namespace terrace {

class SlabMemory {
 public:
  /// `place`: where the data goes, `bytes` of address space that are the caller's.
  /// `numa_node`: where its pages should come from.
  SlabMemory(std::byte* place, uint64_t first_block, uint64_t bytes, bool huge_pages,
             std::optional<uint32_t> numa_node)
      : place_(place),
        first_block_(first_block),
        bytes_(bytes),
        huge_pages_(huge_pages),
        numa_node_(numa_node) {}
  SlabMemory(const SlabMemory&) = delete;
  SlabMemory& operator=(const SlabMemory&) = delete;

  /// A new memfd of zeros with a header of its own, in the place of what was mapped; nobody may use
  /// that any more. A mapping of the old memfd somewhere else keeps the old bytes.
  /// kResourceExhausted: no memory or descriptors; then nothing is mapped, and it may be tried
  /// again.
  Status map();
  /// Touches every page and locks it when `lock` and the machine allow, until `stop`. `locked`
  /// counts the bytes of all slabs.
  void populate(bool lock, const std::atomic<bool>& stop, std::atomic<uint64_t>* locked);
  /// A descriptor of the memfd that can neither write nor map it writable. kUnavailable: /proc is
  /// not there; kResourceExhausted: no descriptors.
  StatusOr<Fd> open_read_only() const;
  /// Takes what is beside the place down; the place is its owner's.
  void unmap_meta();

  std::span<std::byte> data() const { return {place_, bytes_}; }
  std::span<std::byte> meta() const { return {meta_, slab_data_offset(bytes_)}; }
  /// The entry of arena block `block`, one of this slab's.
  SlabDirectoryEntry& entry(uint32_t block) const;

 private:
  Status map_from(const Fd& fd);
  void let_go();

  std::byte* const place_;
  const uint64_t first_block_;
  const uint64_t bytes_;
  const bool huge_pages_;
  const std::optional<uint32_t> numa_node_;
  Fd fd_;
  std::byte* meta_ = nullptr;
  uint64_t locked_ = 0;  // of this slab
};
}  // namespace terrace
