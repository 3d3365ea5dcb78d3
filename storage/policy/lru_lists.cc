#include "storage/policy/lru_lists.h"

#include "base/check.h"

namespace terrace {

void LruLists::push_youngest(uint32_t id, uint64_t list) {
  links_.grow_to(id + 1);
  TERRACE_CHECK(!contains(id));
  Ends* const ends = &lists_[list];
  const uint32_t self = id + 1;
  links_[id] = {ends->youngest == 0 ? self : ends->youngest, self, list};
  if (ends->youngest == 0) {
    ends->oldest = self;
  } else {
    links_[ends->youngest - 1].younger = self;
  }
  ends->youngest = self;
  ++ends->size;
}

void LruLists::touch(uint32_t id) {
  if (!contains(id) || links_[id].younger == id + 1) return;
  const uint64_t list = links_[id].list;
  remove(id);
  push_youngest(id, list);
}

void LruLists::remove(uint32_t id) {
  if (!contains(id)) return;
  const auto it = lists_.find(links_[id].list);
  Ends* const ends = &it->second;
  const uint32_t self = id + 1;
  const Link link = links_[id];
  const bool first = link.older == self;
  const bool last = link.younger == self;
  if (first) {
    ends->oldest = last ? 0 : link.younger;
    if (!last) links_[link.younger - 1].older = link.younger;
  } else {
    links_[link.older - 1].younger = last ? link.older : link.younger;
  }
  if (last) {
    ends->youngest = first ? 0 : link.older;
  } else if (!first) {
    links_[link.younger - 1].older = link.older;
  }
  links_[id] = {};
  if (--ends->size == 0) lists_.erase(it);
}

uint32_t LruLists::oldest(uint64_t list) const {
  const auto it = lists_.find(list);
  return it == lists_.end() ? kNoEntry : it->second.oldest - 1;
}

uint64_t LruLists::size(uint64_t list) const {
  const auto it = lists_.find(list);
  return it == lists_.end() ? 0 : it->second.size;
}
}  // namespace terrace
