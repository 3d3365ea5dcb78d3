// storage/arena.h - the memory of the dram tier: memfd slabs in one run of addresses, each of one
// sharing domain.
//
// A slab belongs to nobody or to one domain, holds objects of that domain only, and changes hands
// only empty and with new memory: whoever mapped its memfd before keeps the old bytes and sees no
// new ones. Thread-confined, but for the thread that it runs itself, which populates and locks slab
// after slab and replaces their memory. The first slab can be used at once, the others when they
// are populated. With a keeper (storage/slab_keeper.h) the memory outlives the arena, and the next
// arena takes back what lies there.
#pragma once
#include <sys/uio.h>

#include <array>
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
#include "storage/slab_keeper.h"
#include "storage/slab_place.h"
#include "storage/slab_walk.h"
#include "storage/store_config.h"
#include "storage/store_metrics.h"

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
  /// A device is about to write here; until commit().
  void mark_filling();
  /// The object is gone: whoever takes the slab back must not find it. What still uses the bytes
  /// may go on.
  void uncommit();
  /// False: taken back from an earlier run, and not one byte was looked at since.
  bool verified() const { return verified_; }
  void set_verified() { verified_ = true; }
  /// Its memory failed a checksum: not to be used again.
  void withhold() { withheld_ = true; }
  /// Index entry whose dram copy this is; kNoEntry (storage/index.h): none's.
  uint32_t entry() const { return entry_; }
  void set_entry(uint32_t entry) { entry_ = entry; }
  /// When it became that.
  Nanos since() const { return since_; }
  void set_since(Nanos since) { since_ = since; }

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
  Nanos since_{0};
  bool withheld_ = false;
  bool verified_ = true;
  std::vector<Part> parts_;
  std::vector<Extent> extents_;
};

class Arena {
 public:
  /// Takes the files that fit out of `keeping`; then settle_kept() must follow. Null: nothing is
  /// kept. kResourceExhausted when the machine has not the memory.
  static StatusOr<std::unique_ptr<Arena>> create(const StoreConfig& config,
                                                 SlabKeeping* keeping = nullptr);
  /// No ArenaSpace may be left, unless the arena was abandoned.
  ~Arena();

  /// In slabs of the domain, else in ones that belong to nobody, which become the domain's. Null
  /// when it does not fit.
  std::shared_ptr<ArenaSpace> allocate(DomainId domain, uint64_t bytes);
  std::byte* at(uint32_t block) { return base_ + uint64_t{block} * ExtentMap::kBlockBytes; }
  /// Null: the address is not in memory that belongs to somebody.
  std::optional<SlabPlace> place_of(const std::byte* address) const;

  uint64_t capacity_bytes() const { return capacity_; }  // once everything is populated
  /// How far it can grow: there are addresses for so much.
  uint64_t capacity_max() const { return slots_max_ * slab_bytes_; }
  uint64_t ready_bytes() const;
  uint64_t free_bytes() const { return ready_bytes() - used_; }  // of what is ready
  uint64_t withheld_bytes() const { return withheld_; }
  uint64_t locked_bytes() const { return locked_.load(std::memory_order_relaxed); }
  /// Those that have memory.
  uint32_t slab_count() const { return slab_count_; }
  uint64_t slab_bytes() const { return slab_bytes_; }
  /// The populating thread is through with so many slabs.
  uint32_t slabs_populated() const { return populated_.load(std::memory_order_acquire); }
  /// With all that were there at the start.
  bool populated() const { return slabs_populated() == order_.size(); }
  /// The n-th of them, n < slabs_populated().
  uint32_t populated_slab(uint32_t n) const { return order_[n]; }
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
  bool retired(uint32_t slab) const;
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
  /// has no memory for it, it is tried again every second. kNobody: the machine gets its memory
  /// back, and there is one slab less.
  void replace(uint32_t slab, DomainId next);
  /// A slab that belongs to nobody is retired: it can only be replaced with kNobody. nullopt: there
  /// is none.
  std::optional<uint32_t> retire_unowned();
  /// A slab more, in the background, which belongs to nobody; once, whether or not the machine has
  /// the memory. False: there are no addresses left for it. All are populated().
  bool add();
  struct Replaced {
    uint32_t slab = 0;
    bool present = false;  // has memory; else it was taken away, or there was none for it
  };
  /// Slabs whose replacement is over since the last call.
  std::vector<Replaced> replaced();
  /// Replacements that are not over.
  size_t replacing() const { return next_owner_.size(); }
  /// Attempts that failed for want of memory.
  uint64_t replace_failures() const { return failures_.load(std::memory_order_relaxed); }

  // What an earlier run left. Before settle_kept() nothing else may be asked for.

  /// The directories of the slabs that came back.
  SlabDirectories kept_directories() const;
  /// These slabs, and whether somebody may have mapped one.
  std::vector<uint32_t> kept() const;
  bool was_claimed(uint32_t slab) const;
  /// The slab that came back holds this domain's objects.
  void own_kept(uint32_t slab, DomainId domain);
  /// The space of a committed object, not verified. Null, and the object is gone, when not all of
  /// it lies in slabs of the domain, or some of it is another object's.
  std::shared_ptr<ArenaSpace> take_back(DomainId domain, uint64_t bytes,
                                        std::span<const Extent> extents);
  /// The slab that came back gets new memory; nothing of it was taken back.
  Status discard_kept(uint32_t slab, NotTaken why);
  /// Directories say from here on what was taken back and nothing else, slabs can be used, and the
  /// thread begins.
  void settle_kept();
  /// Slabs that came back, and those that did not, by reason.
  uint64_t kept_count() const { return kept_count_; }
  uint64_t not_kept(NotTaken why) const { return not_kept_[static_cast<size_t>(why)]; }
  /// Slabs that the keeper did not take: a restart would find them empty.
  uint64_t keep_failures() const { return keep_failures_.load(std::memory_order_relaxed); }
  /// The store ends: the directories go on saying what lies there, whoever lets go of its space.
  void leave_contents() { leaving_ = true; }

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
  uint64_t slab_bytes_for(const StoreConfig& config, const std::vector<KeptFile>& files) const;
  Status map_slabs(std::vector<KeptFile> files);
  std::unordered_map<uint32_t, std::pair<KeptFile, SlabHeader>> fitting(
      std::vector<KeptFile> files);
  bool adopt(uint32_t slab, KeptFile* file, const SlabHeader& header);
  Status map_anew(uint32_t slab);
  void refuse(KeptFile file, NotTaken why, const std::string& what);
  void offer(uint32_t slab);
  void clean_kept(uint32_t slab);
  void withhold_filling(uint32_t slab, SlabDirectoryEntry* entry, uint32_t block);
  void begin_work();
  void give_refused_back();
  void adopt_ready();
  void claim(uint32_t slab, DomainId domain);
  void disown(uint32_t slab);
  void return_untouched(uint32_t slab);
  uint32_t slab_of(uint32_t block) const {
    return static_cast<uint32_t>(uint64_t{block} * ExtentMap::kBlockBytes / slab_bytes_);
  }
  SlabDirectoryEntry& directory(uint32_t block);
  void work(bool lock);
  void work_on_replacements(bool lock, bool wait);
  bool replace_now(uint32_t slab, bool populate, bool lock);
  bool reserve(uint64_t bytes);
  void append_slab(uint64_t bytes);
  void hand_to_worker(uint32_t slab, DomainId next);
  bool settle_replaced(uint32_t slab);

  std::byte* base_ = nullptr;
  std::byte* reserved_ = nullptr;
  uint64_t reserved_bytes_ = 0;
  uint64_t capacity_ = 0;
  uint64_t slots_max_ = 0;  // of slabs_
  uint32_t slab_count_ = 0;
  int64_t resized_ = 0;  // bytes since the start; ready_bytes_ does not know
  uint64_t slab_bytes_ = 0;
  uint64_t used_ = 0;  // withheld space included
  uint64_t withheld_ = 0;
  uint64_t taken_ = 0;  // of slabs that are not unowned
  uint64_t epoch_ = 0;  // the last one given
  bool abandoned_ = false;
  bool leaving_ = false;
  bool populate_ = false;
  bool lock_ = false;
  bool huge_pages_ = false;
  std::optional<uint32_t> numa_node_;
  SlabKeeper* keeper_ = nullptr;
  std::array<std::byte, 16> owner_{};
  std::vector<std::unique_ptr<Slab>> slabs_;  // those without memory too; never reallocated
  std::vector<uint32_t> order_;        // in which slabs become ready: those that came back first
  std::vector<uint64_t> ready_bytes_;  // of the first n of them
  std::deque<uint32_t> unowned_;       // ready, never held anything or were replaced
  uint32_t adopted_ = 0;               // the first n of order_ were seen ready
  std::vector<KeptFile> refused_;      // their memory goes back to the machine
  uint64_t kept_count_ = 0;
  std::array<uint64_t, kNotTakenReasons> not_kept_{};
  std::unordered_map<uint32_t, Holding> holdings_;
  std::unordered_map<uint32_t, DomainId> next_owner_;  // of slabs being replaced

  // Shared with the thread.
  std::atomic<uint32_t> ready_{0};  // so many slabs may be used
  std::atomic<uint32_t> populated_{0};
  std::atomic<uint64_t> locked_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<uint64_t> keep_failures_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint32_t> to_replace_;  // guarded by mutex_
  std::vector<uint32_t> over_;       // the same
  std::thread worker_;
};
}  // namespace terrace
