// storage/policy/lru_lists.h - lists of objects in the order of their last use, each object in one
// list at most. A list exists while it has objects. Thread-confined.
#pragma once
#include <unordered_map>

#include "storage/chunked_array.h"
#include "storage/index.h"

namespace terrace {

/// Sixteen bytes per id.
class LruLists {
 public:
  /// `id`, which is in no list, becomes the youngest of `list`.
  void push_youngest(uint32_t id, uint64_t list);
  /// Does nothing when `id` is in no list.
  void remove(uint32_t id);
  /// It becomes the youngest of its list. Ids that are in none are ignored.
  void touch(uint32_t id);
  bool contains(uint32_t id) const { return id < links_.size() && links_[id].older != 0; }
  /// kNoEntry: the list is empty.
  uint32_t oldest(uint64_t list) const;
  /// The neighbour of a member, on the younger side; kNoEntry: it is the youngest.
  uint32_t younger(uint32_t id) const {
    return links_[id].younger == id + 1 ? kNoEntry : links_[id].younger - 1;
  }
  uint64_t size(uint64_t list) const;
  uint64_t memory_bytes() const { return links_.memory_bytes(); }

 private:
  struct Link {  // ids + 1, so that fresh memory means "nowhere"; an end points to itself
    uint32_t older = 0;
    uint32_t younger = 0;
    uint64_t list = 0;
  };
  struct Ends {
    uint32_t oldest = 0;    // id + 1; 0: empty
    uint32_t youngest = 0;  // id + 1
    uint64_t size = 0;
  };

  ChunkedArray<Link> links_;
  std::unordered_map<uint64_t, Ends> lists_;  // those with objects
};
}  // namespace terrace
