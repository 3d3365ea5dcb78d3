// storage/policy/lru.h - least recently used goes first. A chain that is touched tail first (see
// ChunkStore::touch) therefore loses its tail before its head. Thread-confined.
#pragma once
#include "storage/chunked_array.h"
#include "storage/policy/eviction_policy.h"

namespace terrace {

/// Eight bytes per id.
class Lru final : public EvictionPolicy {
 public:
  void inserted(uint32_t id) override;
  void touched(uint32_t id) override;
  void removed(uint32_t id) override;
  void candidates(uint32_t after, uint32_t max, std::vector<uint32_t>* out) const override;
  uint64_t size() const override { return size_; }
  uint64_t memory_bytes() const { return links_.memory_bytes(); }

 private:
  struct Link {  // ids + 1, so that fresh memory means "nowhere"; an end points to itself
    uint32_t older = 0;
    uint32_t younger = 0;
  };
  bool contains(uint32_t id) const { return id < links_.size() && links_[id].older != 0; }
  void push_youngest(uint32_t id);
  void unlink(uint32_t id);

  ChunkedArray<Link> links_;
  uint32_t oldest_ = 0;    // id + 1; 0: empty
  uint32_t youngest_ = 0;  // id + 1
  uint64_t size_ = 0;
};
}  // namespace terrace
