// storage/policy/lru.h - least recently used goes first. A chain that is touched tail first (see
// ChunkStore::touch) therefore loses its tail before its head. Thread-confined.
#pragma once
#include <unordered_map>

#include "storage/chunked_array.h"
#include "storage/policy/eviction_policy.h"

namespace terrace {

/// Twelve bytes per id.
class Lru final : public EvictionPolicy {
 public:
  void inserted(uint32_t id, uint32_t list) override;
  void touched(uint32_t id) override;
  void removed(uint32_t id) override;
  void candidates(uint32_t list, uint32_t after, uint32_t max,
                  std::vector<uint32_t>* out) const override;
  uint64_t size(uint32_t list) const override;
  uint64_t memory_bytes() const { return links_.memory_bytes(); }

 private:
  struct Link {  // ids + 1, so that fresh memory means "nowhere"; an end points to itself
    uint32_t older = 0;
    uint32_t younger = 0;
    uint32_t list = 0;
  };
  struct Ends {
    uint32_t oldest = 0;    // id + 1; 0: empty
    uint32_t youngest = 0;  // id + 1
    uint64_t size = 0;
  };
  bool contains(uint32_t id) const { return id < links_.size() && links_[id].older != 0; }
  void push_youngest(uint32_t id, Ends* ends);
  void unlink(uint32_t id, Ends* ends);

  ChunkedArray<Link> links_;
  std::unordered_map<uint32_t, Ends> lists_;  // those with objects
};
}  // namespace terrace
