#include "storage/policy/lru_policy.h"

namespace terrace {

void LruPolicy::known(uint32_t id, const ObjectWorth&, Nanos now) {
  last_use_.grow_to(id + 1);
  last_use_[id] = now;
}

void LruPolicy::used(uint32_t id, Nanos now) {
  last_use_[id] = now;
  for (LruLists& lists : tiers_) lists.touch(id);
}

void LruPolicy::entered(Tier tier, uint32_t list, uint32_t id) {
  tiers_[static_cast<size_t>(tier)].push_youngest(id, list);
}

void LruPolicy::left(Tier tier, uint32_t id) {
  tiers_[static_cast<size_t>(tier)].remove(id);
}

void LruPolicy::walk(Tier tier, uint32_t list, Nanos,
                     const std::function<Visit(uint32_t id)>& visit) const {
  const LruLists& lists = tiers_[static_cast<size_t>(tier)];
  for (uint32_t id = lists.oldest(list); id != kNoEntry; id = lists.younger(id)) {
    if (visit(id) == Visit::stop) return;
  }
}

double LruPolicy::value(uint32_t id, Nanos now) const {
  return 1 / (1 + std::chrono::duration<double>(now - last_use_[id]).count());
}

PolicyFacts LruPolicy::facts(uint32_t id, Nanos) const {
  PolicyFacts facts;
  facts.last_use = last_use_[id];
  return facts;
}

uint64_t LruPolicy::size(Tier tier, uint32_t list) const {
  return tiers_[static_cast<size_t>(tier)].size(list);
}

uint64_t LruPolicy::memory_bytes() const {
  uint64_t bytes = last_use_.memory_bytes();
  for (const LruLists& lists : tiers_) bytes += lists.memory_bytes();
  return bytes;
}
}  // namespace terrace
