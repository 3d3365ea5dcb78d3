#include "storage/policy/value_policy.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "base/check.h"

namespace terrace {
namespace {

constexpr Nanos kOneUse = milliseconds(100);  // a fetch and the touch after it
// What nobody names a cost for: 128 KiB of KV per token, 10,000 tokens a second.
constexpr double kSecondsPerByte = 1.0 / (131072.0 * 10000.0);
constexpr double kMostPerByte = 1000 * kSecondsPerByte;  // what anybody may claim
constexpr float kMostWeight = 8;
constexpr double kLeastDensity = 1e-12;  // of class 0; a class is a factor of two
constexpr uint32_t kCircleMax = 16;
constexpr uint32_t kSkipMax = 256;  // parents passed by to find one without children
}  // namespace

ValuePolicy::ValuePolicy(std::unique_ptr<ReuseModel> model)
    : model_(model != nullptr ? std::move(model) : std::make_unique<GapHistogram>()),
      ghosts_(kGhosts) {}

uint32_t ValuePolicy::class_of(const Object& object) {
  const double octave =
      std::floor(std::log2(std::max<double>(object.density, kLeastDensity) / kLeastDensity));
  const auto density = static_cast<uint32_t>(std::min<double>(octave, kDensityClasses - 1));
  return static_cast<uint32_t>(GapHistogram::class_of(object.history)) * kDensityClasses + density;
}

uint64_t ValuePolicy::key_of(uint32_t list, uint32_t object_class) {
  return uint64_t{list} << 10 | object_class;
}

uint32_t ValuePolicy::parent_of(uint32_t id) const {
  const Object& object = objects_[id];
  if (object.parent == kNoEntry || objects_[object.parent].life != object.parent_life) {
    return kNoEntry;
  }
  return object.parent;
}

ValuePolicy::Object& ValuePolicy::add(uint32_t id, const ObjectWorth& worth, Nanos now) {
  objects_.grow_to(id + 1);
  Object& object = objects_[id];
  object.name = worth.name;
  object.parent = kNoEntry;
  object.last_use = now;
  const double bytes = static_cast<double>(std::max<uint64_t>(worth.bytes, 1));
  const double claimed = std::min(worth.recompute_s / bytes, kMostPerByte);
  const double per_byte = worth.recompute_s > 0 ? claimed : kSecondsPerByte;
  object.density = static_cast<float>(per_byte * std::clamp(worth.importance, 0.0f, 1.0f) *
                                      std::clamp(worth.weight, 0.0f, kMostWeight));
  object.history = {};
  return object;
}

void ValuePolicy::known(uint32_t id, const ObjectWorth& worth, Nanos now) {
  Object& object = add(id, worth, now);
  Ghost& ghost = ghosts_[worth.name % kGhosts];
  if (ghost.name != worth.name || ghost.history.uses == 0) return model_->first_use();
  const double gap_s = std::chrono::duration<double>(now - ghost.last_use).count();
  model_->used_again(ghost.history, gap_s);
  object.history = ghost.history;
  object.history.use_again(gap_s);
  ghost = {};
}

void ValuePolicy::forgotten(uint32_t id) {
  Object& object = objects_[id];
  ghosts_[object.name % kGhosts] = {object.name, object.last_use, object.history};
  object.history = {0, 0};
  ++object.life;
  for (TierState& tier : tiers_) {
    if (id >= tier.copies.size()) continue;
    TERRACE_CHECK(!tier.copies[id].here);
    tier.copies[id].children = 0;  // they name one that is gone
  }
}

void ValuePolicy::used(uint32_t id, Nanos now) {
  Object& object = objects_[id];
  const Nanos gap = now - object.last_use;
  const uint32_t before = class_of(object);
  if (gap >= kOneUse) {
    const double gap_s = std::chrono::duration<double>(gap).count();
    model_->used_again(object.history, gap_s);
    object.history.use_again(gap_s);
  }
  object.last_use = now;
  const uint32_t after = class_of(object);
  for (TierState& tier : tiers_) {
    if (!tier.order.contains(id)) continue;
    if (before == after) {
      tier.order.touch(id);
    } else {
      unlink(&tier, id, before);
      link(&tier, id);
    }
  }
}

void ValuePolicy::follows(uint32_t id, uint32_t parent) {
  if (parent_of(id) == parent || leads_to(parent, id)) return;
  count_at_parent(id, false);
  objects_[id].parent = parent;
  objects_[id].parent_life = objects_[parent].life;
  count_at_parent(id, true);
}

/// Whether `to` is `from` or a near ancestor of it: then it cannot follow it. Longer circles only
/// cost their objects their place in the order.
bool ValuePolicy::leads_to(uint32_t from, uint32_t to) const {
  for (uint32_t links = 0; from != kNoEntry && links < kCircleMax; ++links) {
    if (from == to) return true;
    from = parent_of(from);
  }
  return false;
}

/// In the fastest tier that has a copy of the object, and in all slower ones.
void ValuePolicy::count_at_parent(uint32_t id, bool add) {
  const uint32_t parent = parent_of(id);
  if (parent == kNoEntry) return;
  bool here = false;
  for (TierState& tier : tiers_) {
    here = here || (id < tier.copies.size() && tier.copies[id].here);
    if (!here) continue;
    tier.copies.grow_to(parent + 1);
    uint32_t& children = tier.copies[parent].children;
    if (add) ++children;
    if (!add && children > 0) --children;  // 0: its life came round again, and it is another one
  }
}

void ValuePolicy::entered(Tier tier, uint32_t list, uint32_t id) {
  TierState& there = state(tier);
  there.copies.grow_to(id + 1);
  TERRACE_CHECK(!there.copies[id].here);
  count_at_parent(id, false);
  there.copies[id].here = true;
  there.copies[id].list = list;
  count_at_parent(id, true);
  link(&there, id);
}

/// As the youngest of its list and class.
void ValuePolicy::link(TierState* tier, uint32_t id) {
  const uint32_t list = tier->copies[id].list;
  const uint32_t its_class = class_of(objects_[id]);
  tier->order.push_youngest(id, key_of(list, its_class));
  List& there = tier->lists[list];
  ++there.size;
  ++there.of_class[its_class];
}

void ValuePolicy::unlink(TierState* tier, uint32_t id, uint32_t its_class) {
  tier->order.remove(id);
  const auto it = tier->lists.find(tier->copies[id].list);
  --it->second.of_class[its_class];
  if (--it->second.size == 0) tier->lists.erase(it);
}

void ValuePolicy::left(Tier tier, uint32_t id) {
  TierState& there = state(tier);
  if (id >= there.copies.size() || !there.copies[id].here) return;
  count_at_parent(id, false);
  there.copies[id].here = false;
  count_at_parent(id, true);
  unlink(&there, id, class_of(objects_[id]));
}

void ValuePolicy::walk(Tier tier, uint32_t list, Nanos now,
                       const std::function<Visit(uint32_t id)>& visit) const {
  const TierState& there = state(tier);
  const auto classes = there.lists.find(list);
  if (classes == there.lists.end()) return;
  struct Next {
    double value;
    uint32_t id;
    bool from_list;
    bool operator<(const Next& other) const {  // the least on top; of equals the lower id
      return value != other.value ? value > other.value : id > other.id;
    }
  };
  std::priority_queue<Next> heap;
  uint32_t skipped = 0;
  const auto push_leaf = [&](uint32_t id) {  // the first one from there on
    while (id != kNoEntry && there.copies[id].children > 0 && ++skipped < kSkipMax) {
      id = there.order.younger(id);
    }
    if (id != kNoEntry && there.copies[id].children == 0) heap.push({value(id, now), id, true});
  };
  for (uint32_t c = 0; c < kClasses; ++c) {
    if (classes->second.of_class[c] == 0) continue;
    skipped = 0;
    push_leaf(there.order.oldest(key_of(list, c)));
  }
  std::unordered_set<uint32_t> shown;
  std::unordered_map<uint32_t, uint32_t> taken;  // children, by parent
  while (!heap.empty()) {
    const Next next = heap.top();
    heap.pop();
    const Visit answer = visit(next.id);
    if (answer == Visit::stop) return;
    shown.insert(next.id);
    skipped = 0;
    if (next.from_list) push_leaf(there.order.younger(next.id));
    const uint32_t parent = parent_of(next.id);
    if (answer == Visit::passed || parent == kNoEntry) continue;
    const Copy& copy = there.copies[parent];
    const bool bare = ++taken[parent] == copy.children && copy.here && copy.list == list;
    if (bare) heap.push({value(parent, now), parent, false});
  }
  walk_rest(there, list, visit, shown);
}

/// Whose children are all in use, and what stands behind too many parents of its class.
void ValuePolicy::walk_rest(const TierState& there, uint32_t list,
                            const std::function<Visit(uint32_t id)>& visit,
                            const std::unordered_set<uint32_t>& shown) const {
  for (uint32_t c = 0; c < kClasses; ++c) {
    for (uint32_t id = there.order.oldest(key_of(list, c)); id != kNoEntry;
         id = there.order.younger(id)) {
      if (!shown.contains(id) && visit(id) == Visit::stop) return;
    }
  }
}

double ValuePolicy::value(uint32_t id, Nanos now) const {
  const Object& object = objects_[id];
  const double age = std::chrono::duration<double>(now - object.last_use).count();
  return model_->rate(object.history, age) * object.density;
}

bool ValuePolicy::worth(uint32_t id, Tier tier, double price, Nanos now) const {
  return price == 0 || needed(tier, id) || value(id, now) > price;
}

bool ValuePolicy::needed(Tier tier, uint32_t id) const {
  const TierState& there = state(tier);
  return id < there.copies.size() && there.copies[id].children > 0;
}

PolicyFacts ValuePolicy::facts(uint32_t id, Nanos now) const {
  const Object& object = objects_[id];
  PolicyFacts facts;
  facts.last_use = object.last_use;
  facts.uses = object.history.uses;
  facts.uses_per_s =
      model_->rate(object.history, std::chrono::duration<double>(now - object.last_use).count());
  facts.density = object.density;
  if (const uint32_t parent = parent_of(id); parent != kNoEntry) facts.parent = parent;
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    const TierState& there = tiers_[tier];
    if (id < there.copies.size()) facts.children[tier] = there.copies[id].children;
  }
  return facts;
}

uint64_t ValuePolicy::size(Tier tier, uint32_t list) const {
  const auto it = state(tier).lists.find(list);
  return it == state(tier).lists.end() ? 0 : it->second.size;
}

uint64_t ValuePolicy::memory_bytes() const {
  uint64_t bytes = objects_.memory_bytes() + ghosts_.size() * sizeof(Ghost);
  for (const TierState& tier : tiers_) {
    bytes += tier.copies.memory_bytes() + tier.order.memory_bytes();
  }
  return bytes;
}
}  // namespace terrace
