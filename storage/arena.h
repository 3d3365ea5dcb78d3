// storage/arena.h - the memory of the dram tier: memfd slabs in one run of addresses.
//
// Thread-confined, but for the thread that it runs itself to populate and lock slab after slab. The
// first slab can be used at once, the others when they are populated.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/handle.h"
#include "base/status.h"
#include "storage/extent_map.h"
#include "storage/slab_format.h"
#include "storage/store_config.h"

namespace terrace {

class Arena;

/// Space of one object in the arena; frees it on destruction. Whoever uses the bytes holds a
/// shared_ptr to it: the index, a transfer that the kernel may still be running.
class ArenaSpace {
 public:
  ~ArenaSpace();
  ArenaSpace(const ArenaSpace&) = delete;
  ArenaSpace& operator=(const ArenaSpace&) = delete;
  uint64_t bytes() const { return bytes_; }
  /// Bytes it takes from the arena.
  uint64_t allocated_bytes() const { return allocated_; }
  /// Arena blocks, in object order.
  std::span<const Extent> extents() const { return extents_; }
  /// Appends the memory of [offset, offset + bytes) of the object, in order.
  void memory(uint64_t offset, uint64_t bytes, std::vector<iovec>* out) const;
  /// Publishes the object in the slab's directory; its bytes are complete.
  void commit(uint64_t generation);
  /// Its memory failed a checksum: not to be used again.
  void withhold() { withheld_ = true; }

 private:
  friend class Arena;
  struct Part {  // one allocation of one slab
    uint32_t slab = 0;
    uint64_t bytes = 0;
    std::vector<Extent> extents;
  };
  ArenaSpace(Arena* arena, uint64_t bytes) : arena_(arena), bytes_(bytes) {}
  Arena* const arena_;
  const uint64_t bytes_;
  uint64_t allocated_ = 0;
  bool withheld_ = false;
  std::vector<Part> parts_;
  std::vector<Extent> extents_;
};

class Arena {
 public:
  /// kResourceExhausted when the machine has not the memory.
  static StatusOr<std::unique_ptr<Arena>> create(const StoreConfig& config);
  /// No ArenaSpace may be left, unless the arena was abandoned.
  ~Arena();

  /// Null when it does not fit.
  std::shared_ptr<ArenaSpace> allocate(uint64_t bytes);
  std::byte* at(uint32_t block) { return base_ + uint64_t{block} * ExtentMap::kBlockBytes; }
  uint64_t capacity_bytes() const { return capacity_; }  // once everything is populated
  uint64_t ready_bytes() const;
  uint64_t free_bytes() const;  // of what is ready
  uint64_t withheld_bytes() const { return withheld_; }
  uint64_t locked_bytes() const { return locked_.load(std::memory_order_relaxed); }
  uint32_t slab_count() const { return static_cast<uint32_t>(slabs_.size()); }
  /// The populating thread is through with slabs [0, n).
  uint32_t slabs_populated() const { return populated_.load(std::memory_order_acquire); }
  /// The data of a slab.
  std::span<std::byte> memory_of(uint32_t slab);
  /// Header block and directory of a slab, for those who check them.
  std::span<const std::byte> meta(uint32_t slab) const;
  /// The kernel still writes somewhere into this memory: never give it back to the machine.
  void abandon() { abandoned_ = true; }

 private:
  friend class ArenaSpace;
  struct Slab;
  Arena() = default;
  Status map_slab(uint64_t first_byte, uint64_t bytes, bool huge_pages);
  bool take_part(ArenaSpace* space, uint32_t slab, uint64_t bytes);
  void free(ArenaSpace* space);
  SlabDirectoryEntry& directory(uint32_t block);
  void populate(bool lock);
  void populate_slab(Slab& slab, bool lock);

  std::byte* base_ = nullptr;
  std::byte* reserved_ = nullptr;
  uint64_t reserved_bytes_ = 0;
  uint64_t capacity_ = 0;
  uint64_t slab_bytes_ = 0;
  uint64_t withheld_ = 0;
  bool abandoned_ = false;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::atomic<uint32_t> ready_{1};  // slabs that may be used
  std::atomic<uint32_t> populated_{0};
  std::atomic<uint64_t> locked_{0};
  std::atomic<bool> stop_{false};
  std::thread populator_;
};
}  // namespace terrace
