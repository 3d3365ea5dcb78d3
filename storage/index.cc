#include "storage/index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace terrace {

uint64_t Index::hash_of(NamespaceId ns, const ChunkKey& key) {
  uint64_t z = ChunkKeyHash()(key) + (uint64_t{static_cast<uint32_t>(ns)} << 32);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;  // raw test keys are not uniform
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint32_t Index::bucket_of(uint64_t hash) const {
  const auto low = static_cast<uint32_t>(hash);
  const uint32_t wide = low & (2 * mask_ + 1);
  return wide < buckets_used_ ? wide : low & mask_;
}

uint32_t Index::find(NamespaceId ns, const ChunkKey& key) const {
  if (buckets_used_ == 0) return kNoEntry;
  uint32_t id = buckets_[bucket_of(hash_of(ns, key))] - 1;  // 0 - 1 is kNoEntry
  while (id != kNoEntry) {
    const IndexEntry& entry = entries_[id];
    if (entry.ns == ns && entry.key == key) return id;
    id = entry.chain;
  }
  return kNoEntry;
}

void Index::split_one() {
  buckets_.grow_to(buckets_used_ + 1);
  if (buckets_used_ == 2 * mask_ + 2) mask_ = 2 * mask_ + 1;
  const uint32_t fresh = buckets_used_++;
  if (fresh == 0) return;
  const uint32_t old = fresh & mask_;
  uint32_t id = buckets_[old] - 1;
  buckets_[old] = 0;
  while (id != kNoEntry) {
    IndexEntry& entry = entries_[id];
    const uint32_t next = entry.chain;
    const uint32_t bucket = bucket_of(hash_of(entry.ns, entry.key));
    entry.chain = buckets_[bucket] - 1;
    buckets_[bucket] = id + 1;
    id = next;
  }
}

uint32_t Index::insert(NamespaceId ns, const ChunkKey& key) {
  if (count_ >= buckets_used_) split_one();
  uint32_t id = free_;
  if (id != kNoEntry) {
    free_ = entries_[id].chain;
  } else {
    TERRACE_CHECK(ids_end_ < kNoEntry - 1);
    id = ids_end_++;
    entries_.grow_to(ids_end_);
  }
  IndexEntry& entry = entries_[id];
  entry = IndexEntry();
  entry.key = key;
  entry.ns = ns;
  entry.set(IndexEntry::used);
  uint32_t& head = buckets_[bucket_of(hash_of(ns, key))];
  entry.chain = head - 1;
  head = id + 1;
  ++count_;
  return id;
}

void Index::unlink(uint32_t id) {
  IndexEntry& entry = entries_[id];
  TERRACE_CHECK(entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed));
  uint32_t& head = buckets_[bucket_of(hash_of(entry.ns, entry.key))];
  if (head == id + 1) {
    head = entry.chain + 1;
  } else {
    uint32_t at = head - 1;
    while (entries_[at].chain != id) {
      at = entries_[at].chain;
      TERRACE_CHECK(at != kNoEntry);
    }
    entries_[at].chain = entry.chain;
  }
  entry.chain = kNoEntry;
  entry.set(IndexEntry::doomed);
  --count_;
}

void Index::release(uint32_t id) {
  IndexEntry& entry = entries_[id];
  TERRACE_CHECK(entry.has(IndexEntry::doomed) && entry.pins == 0);
  clear_extents(id);
  entry = IndexEntry();
  entry.chain = free_;
  free_ = id;
}

IndexEntry* Index::same(uint32_t id, uint64_t generation) {
  IndexEntry& entry = entries_[id];
  const bool visible = entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed);
  return visible && entry.generation == generation ? &entry : nullptr;
}

void Index::set_extents(uint32_t id, std::span<const Extent> extents) {
  TERRACE_CHECK(!extents.empty());
  clear_extents(id);
  entries_[id].first_extent = extents[0];
  if (extents.size() > 1) more_[id].assign(extents.begin(), extents.end());
}

std::span<const Extent> Index::extents(uint32_t id) const {
  const Extent& first = entries_[id].first_extent;
  if (first.blocks == 0) return {};
  if (!more_.empty()) {
    if (auto it = more_.find(id); it != more_.end()) return it->second;
  }
  return {&first, 1};
}

void Index::clear_extents(uint32_t id) {
  if (!more_.empty()) more_.erase(id);
  entries_[id].first_extent = Extent();
}

uint64_t Index::memory_bytes() const {
  uint64_t bytes = entries_.memory_bytes() + buckets_.memory_bytes();
  for (const auto& [id, extents] : more_) bytes += 64 + extents.capacity() * sizeof(Extent);
  return bytes;
}
}  // namespace terrace
