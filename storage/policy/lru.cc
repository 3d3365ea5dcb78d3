#include "storage/policy/lru.h"

#include "base/check.h"
#include "storage/index.h"

namespace terrace {

void Lru::inserted(uint32_t id) {
  links_.grow_to(id + 1);
  TERRACE_CHECK(!contains(id));
  push_youngest(id);
}

void Lru::touched(uint32_t id) {
  if (!contains(id) || youngest_ == id + 1) return;
  unlink(id);
  push_youngest(id);
}

void Lru::removed(uint32_t id) {
  if (contains(id)) unlink(id);
}

void Lru::push_youngest(uint32_t id) {
  const uint32_t self = id + 1;
  links_[id].younger = self;
  links_[id].older = youngest_ == 0 ? self : youngest_;
  if (youngest_ == 0) {
    oldest_ = self;
  } else {
    links_[youngest_ - 1].younger = self;
  }
  youngest_ = self;
  ++size_;
}

void Lru::unlink(uint32_t id) {
  const uint32_t self = id + 1;
  const Link link = links_[id];
  if (oldest_ == self) {
    oldest_ = link.younger == self ? 0 : link.younger;
    if (oldest_ != 0) links_[oldest_ - 1].older = oldest_;
  } else {
    links_[link.older - 1].younger = link.younger == self ? link.older : link.younger;
  }
  if (youngest_ == self) {
    youngest_ = link.older == self ? 0 : link.older;
  } else if (oldest_ != link.younger) {
    links_[link.younger - 1].older = link.older;
  }
  links_[id] = Link();
  --size_;
}

void Lru::candidates(uint32_t after, uint32_t max, std::vector<uint32_t>* out) const {
  uint32_t at = oldest_;
  if (after != kNoEntry) {
    if (!contains(after)) return;
    at = links_[after].younger == after + 1 ? 0 : links_[after].younger;
  }
  for (uint32_t n = 0; n < max && at != 0; ++n) {
    out->push_back(at - 1);
    const uint32_t next = links_[at - 1].younger;
    at = next == at ? 0 : next;
  }
}
}  // namespace terrace
