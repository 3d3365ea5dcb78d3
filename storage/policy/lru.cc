#include "storage/policy/lru.h"

#include "base/check.h"
#include "storage/index.h"

namespace terrace {

void Lru::inserted(uint32_t id, uint32_t list) {
  links_.grow_to(id + 1);
  TERRACE_CHECK(!contains(id));
  links_[id].list = list;
  push_youngest(id, &lists_[list]);
}

void Lru::touched(uint32_t id) {
  if (!contains(id) || links_[id].younger == id + 1) return;
  Ends* const ends = &lists_[links_[id].list];
  unlink(id, ends);
  push_youngest(id, ends);
}

void Lru::removed(uint32_t id) {
  if (!contains(id)) return;
  const auto it = lists_.find(links_[id].list);
  unlink(id, &it->second);
  if (it->second.size == 0) lists_.erase(it);
}

void Lru::push_youngest(uint32_t id, Ends* ends) {
  const uint32_t self = id + 1;
  links_[id].younger = self;
  links_[id].older = ends->youngest == 0 ? self : ends->youngest;
  if (ends->youngest == 0) {
    ends->oldest = self;
  } else {
    links_[ends->youngest - 1].younger = self;
  }
  ends->youngest = self;
  ++ends->size;
}

void Lru::unlink(uint32_t id, Ends* ends) {
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
  links_[id].older = 0;
  links_[id].younger = 0;
  --ends->size;
}

void Lru::candidates(uint32_t list, uint32_t after, uint32_t max,
                     std::vector<uint32_t>* out) const {
  const auto it = lists_.find(list);
  if (it == lists_.end()) return;
  uint32_t at = it->second.oldest;
  if (after != kNoEntry) {
    if (!contains(after) || links_[after].list != list) return;
    at = links_[after].younger == after + 1 ? 0 : links_[after].younger;
  }
  for (uint32_t n = 0; n < max && at != 0; ++n) {
    out->push_back(at - 1);
    const uint32_t next = links_[at - 1].younger;
    at = next == at ? 0 : next;
  }
}

uint64_t Lru::size(uint32_t list) const {
  const auto it = lists_.find(list);
  return it == lists_.end() ? 0 : it->second.size;
}
}  // namespace terrace
