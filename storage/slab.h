// storage/slab.h - the memory of one slab: a memfd, mapped where the arena wants its data, and its
// header and directory beside it. Confined to one thread at a time.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/handle.h"
#include "base/status.h"
#include "storage/slab_format.h"

namespace terrace {

/// What a slab with this uuid is called where it is kept.
std::string slab_name(const std::array<std::byte, 16>& uuid);
/// The machine has the file's pages again, and whoever still maps it sees zeros from here on.
void give_memory_back(const Fd& file, uint64_t bytes);

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
  /// that any more. A mapping of the old memfd somewhere else shows zeros from here on. `owner` and
  /// `epoch`: as SlabHeader. kResourceExhausted: no memory or descriptors; then nothing is mapped,
  /// and it may be tried again.
  Status map(const std::array<std::byte, 16>& owner, uint64_t epoch);
  /// A memfd of an earlier run, with all that it holds, where nothing is mapped yet. `header`: its
  /// own, which fits this place. `file` is taken on success. kResourceExhausted: it cannot be
  /// mapped.
  Status adopt(Fd* file, const SlabHeader& header);
  /// The machine has the memory again, as map() gives back what was there; map() may follow.
  /// `locked`: as populate()'s.
  void drop(std::atomic<uint64_t>* locked);
  /// False: nothing is mapped.
  bool mapped() const { return static_cast<bool>(fd_); }
  /// Unmaps the memfd and gives it away; nobody may use the memory any more.
  Fd take_file();
  /// Touches every page and locks it when `lock` and the machine allow, until `stop`. `locked`
  /// counts the bytes of all slabs. kResourceExhausted: the machine has no memory for some of it,
  /// and who used that would be killed; it may be tried again.
  Status populate(bool lock, const std::atomic<bool>& stop, std::atomic<uint64_t>* locked);
  /// A descriptor of the memfd that can neither write nor map it writable. kUnavailable: /proc is
  /// not there; kResourceExhausted: no descriptors.
  StatusOr<Fd> open_read_only() const;
  /// What the file is called where it is kept.
  std::string name() const { return slab_name(uuid_); }
  const Fd& file() const { return fd_; }
  /// See kSlabClaimOffset.
  std::atomic<uint64_t>& claim_word() const;
  /// An entry for each data block.
  std::span<SlabDirectoryEntry> directory() const;
  /// Takes what is beside the place down; the place is its owner's.
  void unmap_meta();

  std::span<std::byte> data() const { return {place_, bytes_}; }
  std::span<std::byte> meta() const { return {meta_, slab_data_offset(bytes_)}; }
  /// The entry of arena block `block`, one of this slab's.
  SlabDirectoryEntry& entry(uint32_t block) const;

 private:
  Status map_from(const Fd& fd);
  void let_go();
  void prefer_node();

  std::byte* const place_;
  const uint64_t first_block_;
  const uint64_t bytes_;
  const bool huge_pages_;
  const std::optional<uint32_t> numa_node_;
  Fd fd_;
  std::array<std::byte, 16> uuid_{};
  std::byte* meta_ = nullptr;
  uint64_t locked_ = 0;  // of this slab
};
}  // namespace terrace
