// storage/arena.h - the memory of the dram tier: memfd slabs in one run of addresses, each of one
// sharing domain.
//
// A slab belongs to nobody or to one domain, holds objects of that domain only, and changes hands
// only empty and with new memory: whoever mapped its memfd before keeps the old bytes and sees no
// new ones. Thread-confined, but for the thread that it runs itself, which populates and locks slab
// after slab and replaces their memory. The first slab can be used at once, the others when they
// are populated.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "storage/domain.h"
#include "storage/extent_map.h"
#include "storage/slab_format.h"
#include "storage/slab_place.h"
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
  DomainId domain() const { return domain_; }
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
  /// Index entry whose dram copy this is; kNoEntry (storage/index.h): none's.
  uint32_t entry() const { return entry_; }
  void set_entry(uint32_t entry) { entry_ = entry; }

 private:
  friend class Arena;
  struct Part {  // one allocation of one slab; a slab has at most one of an object
    uint32_t slab = 0;
    uint64_t bytes = 0;
    size_t place = 0;  // among the spaces of the slab
    std::vector<Extent> extents;
  };
  ArenaSpace(Arena* arena, DomainId domain, uint64_t bytes)
      : arena_(arena), domain_(domain), bytes_(bytes) {}
  Arena* const arena_;
  const DomainId domain_;
  const uint64_t bytes_;
  uint64_t allocated_ = 0;
  uint32_t entry_ = ~uint32_t{0};
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

  /// In slabs of the domain, else in ones that belong to nobody, which become the domain's. Null
  /// when it does not fit.
  std::shared_ptr<ArenaSpace> allocate(DomainId domain, uint64_t bytes);
  std::byte* at(uint32_t block) { return base_ + uint64_t{block} * ExtentMap::kBlockBytes; }
  /// Null: the address is not in memory that belongs to somebody.
  std::optional<SlabPlace> place_of(const std::byte* address) const;

  uint64_t capacity_bytes() const { return capacity_; }  // once everything is populated
  uint64_t ready_bytes() const;
  uint64_t free_bytes() const { return ready_bytes() - used_; }  // of what is ready
  uint64_t withheld_bytes() const { return withheld_; }
  uint64_t locked_bytes() const { return locked_.load(std::memory_order_relaxed); }
  uint32_t slab_count() const { return static_cast<uint32_t>(slabs_.size()); }
  uint64_t slab_bytes() const { return slab_bytes_; }
  /// The populating thread is through with slabs [0, n).
  uint32_t slabs_populated() const { return populated_.load(std::memory_order_acquire); }
  /// The data of a slab.
  std::span<std::byte> memory_of(uint32_t slab);
  /// Header block and directory of a slab, for those who check them.
  std::span<const std::byte> meta(uint32_t slab) const;
  /// The kernel still writes somewhere into this memory: never give it back to the machine.
  void abandon() { abandoned_ = true; }

  // Who has which slabs.

  struct Holding {
    std::vector<uint32_t> slabs;
    uint64_t capacity = 0;
    uint64_t free = 0;
  };
  /// What a domain has, retired slabs left out.
  const Holding& holding(DomainId domain) const;
  /// Of those who have any.
  const std::unordered_map<uint32_t, Holding>& holdings() const { return holdings_; }
  /// Bytes, all free, of the ready slabs that belong to nobody.
  uint64_t unowned_bytes() const { return ready_bytes() - taken_; }
  uint64_t slab_free_bytes(uint32_t slab) const;

  // How a slab changes hands.

  /// Nothing more is allocated there. The slab belongs to somebody.
  void retire(uint32_t slab);
  /// A retired slab is its domain's as before.
  void restore(uint32_t slab);
  /// What lies there, objects being written too; changes whenever one of them is freed.
  std::span<ArenaSpace* const> spaces_in(uint32_t slab) const;
  /// Nothing lies there, nothing is withheld.
  bool empty(uint32_t slab) const;
  /// Some of it is not to be used again: it stays where it is.
  bool has_withheld(uint32_t slab) const;
  /// A retired, empty slab gets new memory of zeros at the same address, in the background, and is
  /// `next`'s then. Nothing may use its memory until it is among the replaced(). When the machine
  /// has no memory for it, it is tried again every second.
  void replace(uint32_t slab, DomainId next);
  /// Slabs whose replacement is over since the last call.
  std::vector<uint32_t> replaced();
  /// Replacements that are not over.
  size_t replacing() const { return next_owner_.size(); }
  /// Attempts that failed for want of memory.
  uint64_t replace_failures() const { return failures_.load(std::memory_order_relaxed); }

  /// As ChunkStore::export_slab.
  StatusOr<SlabDescriptor> export_slab(uint32_t slab);
  /// Somebody got a descriptor of the memory that it has now.
  bool exported(uint32_t slab) const;

 private:
  friend class ArenaSpace;
  struct Slab;
  Arena() = default;
  bool take_part(ArenaSpace* space, uint32_t slab, uint64_t bytes);
  bool spread(ArenaSpace* space, const std::vector<uint32_t>& over);
  std::shared_ptr<ArenaSpace> spread_with_unowned(DomainId domain, uint64_t bytes);
  void free(ArenaSpace* space);
  void adopt_ready();
  void claim(uint32_t slab, DomainId domain);
  void disown(uint32_t slab);
  void return_untouched(uint32_t slab);
  SlabDirectoryEntry& directory(uint32_t block);
  void work(bool lock);
  void work_on_replacements(bool lock, bool wait);
  bool replace_now(uint32_t slab, bool populate, bool lock);

  std::byte* base_ = nullptr;
  std::byte* reserved_ = nullptr;
  uint64_t reserved_bytes_ = 0;
  uint64_t capacity_ = 0;
  uint64_t slab_bytes_ = 0;
  uint64_t used_ = 0;  // withheld space included
  uint64_t withheld_ = 0;
  uint64_t taken_ = 0;  // of slabs that are not unowned
  uint64_t epoch_ = 0;  // the last one given
  bool abandoned_ = false;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::deque<uint32_t> unowned_;  // ready, never held anything or were replaced
  uint32_t adopted_ = 0;          // slabs [0, n) were seen ready
  std::unordered_map<uint32_t, Holding> holdings_;
  std::unordered_map<uint32_t, DomainId> next_owner_;  // of slabs being replaced

  // Shared with the thread.
  std::atomic<uint32_t> ready_{1};  // slabs that may be used
  std::atomic<uint32_t> populated_{0};
  std::atomic<uint64_t> locked_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint32_t> to_replace_;  // guarded by mutex_
  std::vector<uint32_t> over_;       // the same
  std::thread worker_;
};
}  // namespace terrace
