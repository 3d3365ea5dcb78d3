// storage/index.h - every object the node holds, in about a hundred bytes each. Thread-confined.
//
// Entries live in fixed chunks and are named by a 32-bit id that stays valid until release(). The
// hash grows one bucket per insert (linear hashing, Litwin 1980): no rehash pause, no second table.
#pragma once
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/chunk_key.h"
#include "base/limits.h"
#include "storage/chunked_array.h"
#include "storage/extent_map.h"

namespace terrace {

inline constexpr uint32_t kNoEntry = ~uint32_t{0};

/// One object. The flags say where it lies and what runs on it.
struct IndexEntry {
  enum Flag : uint8_t {
    used = 1,            // the slot holds an object
    doomed = 2,          // out of the hash: erased, evicted or quarantined, not yet released
    on_nvme = 4,         // extents hold a copy, and a row names it
    durable = 8,         // the row and the data survive a power cut
    persisting = 16,     // a write to nvme runs
    moving_up = 32,      // a promotion waits or runs
    row_pending = 64,    // its row is being deleted
    write_failed = 128,  // the last write to nvme failed: eviction need not wait for another
  };
  ChunkKey key;
  uint64_t generation = 0;
  NamespaceId ns{};
  uint32_t logical_bytes = 0;    // kObjectBytesMax fits
  uint32_t stored_blocks = 0;    // of 4 KiB, header included
  uint32_t header_crc = 0;       // of the nvme copy's header
  Extent first_extent;           // of the nvme copy; the others are in the index's side table
  uint32_t chain = kNoEntry;     // next in the bucket, or in the free list
  uint32_t resident = kNoEntry;  // slot in the table of dram copies
  uint32_t pins = 0;
  uint32_t worth = 0;  // packed, as it was said: object_hints.h
  uint16_t sections = 0;
  uint16_t header_blocks = 0;
  uint8_t flags = 0;
  uint8_t nvme_hits = 0;    // whole reads from nvme or hbm since it was last in dram
  bool queued = false;      // waits for its write to nvme
  bool kept_hints = false;  // storage/retainer.h knows more of it
  bool kept_here = false;   // pinned: never evicted from this node

  bool has(Flag flag) const { return (flags & flag) != 0; }
  void set(Flag flag) { flags = static_cast<uint8_t>(flags | flag); }
  void clear(Flag flag) { flags = static_cast<uint8_t>(flags & ~flag); }
  uint64_t stored_bytes() const { return uint64_t{stored_blocks} * kSectorBytes; }
};
static_assert(sizeof(IndexEntry) <= 96, "the memory budget of a cold object");

class Index {
 public:
  /// kNoEntry when there is none.
  uint32_t find(NamespaceId ns, const ChunkKey& key) const;
  /// A new entry with this name, in the hash. The name must not be there.
  uint32_t insert(NamespaceId ns, const ChunkKey& key);
  /// Takes the entry out of the hash; the slot stays until release().
  void unlink(uint32_t id);
  /// Gives the slot back; the id may come again.
  void release(uint32_t id);

  IndexEntry& operator[](uint32_t id) { return entries_[id]; }
  const IndexEntry& operator[](uint32_t id) const { return entries_[id]; }
  /// The entry, when `id` still is the object of this generation and visible; else null.
  IndexEntry* same(uint32_t id, uint64_t generation);
  /// Ids ever used are below this.
  uint32_t ids_end() const { return ids_end_; }
  /// Visible objects.
  uint64_t count() const { return count_; }

  void set_extents(uint32_t id, std::span<const Extent> extents);
  /// Extents of the nvme copy, in object order.
  std::span<const Extent> extents(uint32_t id) const;
  void clear_extents(uint32_t id);

  uint64_t memory_bytes() const;

 private:
  static uint64_t hash_of(NamespaceId ns, const ChunkKey& key);
  uint32_t bucket_of(uint64_t hash) const;
  void split_one();

  ChunkedArray<IndexEntry> entries_;
  ChunkedArray<uint32_t> buckets_;  // id + 1 of the first entry; 0: empty
  uint32_t buckets_used_ = 0;
  uint32_t mask_ = 0;  // of the round before the running one
  uint32_t ids_end_ = 0;
  uint32_t free_ = kNoEntry;
  uint64_t count_ = 0;
  std::unordered_map<uint32_t, std::vector<Extent>> more_;  // objects of several extents
};
}  // namespace terrace
