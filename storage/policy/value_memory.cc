// What the policy by value takes over a restart: the uses of objects, and what its model learned.
#include <algorithm>
#include <numeric>
#include <utility>

#include "storage/policy/value_policy.h"

namespace terrace {

UseMemory::Object* ValuePolicy::Recalled::find(uint64_t name) {
  const auto begin = memory.objects.begin();
  const uint64_t bits = name >> kShift;
  const auto found =
      std::lower_bound(begin + begins[bits], begin + begins[bits + 1], name,
                       [](const UseMemory::Object& a, uint64_t b) { return a.name < b; });
  const bool it = found != memory.objects.end() && found->name == name && found->history.uses > 0;
  return it ? &*found : nullptr;
}

bool ValuePolicy::recall(UseMemory memory, Nanos taken) {
  if (!model_->restore(memory.model)) return false;
  Recalled recalled;
  recalled.taken = taken;
  recalled.oldest = taken;
  for (const UseMemory::Object& object : memory.objects) {
    recalled.oldest = std::min<Nanos>(recalled.oldest, taken - milliseconds(object.age_ms));
  }
  std::sort(memory.objects.begin(), memory.objects.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  recalled.begins.resize((size_t{1} << (64 - Recalled::kShift)) + 1);
  for (const UseMemory::Object& object : memory.objects) {
    ++recalled.begins[(object.name >> Recalled::kShift) + 1];
  }
  std::partial_sum(recalled.begins.begin(), recalled.begins.end(), recalled.begins.begin());
  recalled.memory = std::move(memory);
  recalled_ = std::move(recalled);
  return true;
}

void ValuePolicy::known_again(uint32_t id, const ObjectWorth& worth, Nanos now) {
  if (!recalled_) return known(id, worth, now);
  Object& object = add(id, worth, now);
  if (UseMemory::Object* const found = recalled_->find(worth.name); found != nullptr) {
    object.history = std::exchange(found->history, {0, 0});
    object.last_use = recalled_->taken - milliseconds(found->age_ms);
  } else if (recalled_->memory.left_out > 0) {
    object.last_use = recalled_->oldest;  // most likely one of those; the model knows of it
  } else {
    model_->first_use();  // it came after that was taken down
  }
}

void ValuePolicy::recall_over() {
  if (!recalled_) return;
  for (const UseMemory::Object& object : recalled_->memory.objects) {
    if (object.history.uses == 0) continue;
    const Nanos last_use = recalled_->taken - milliseconds(object.age_ms);
    Ghost& ghost = ghosts_[object.name % kGhosts];
    const bool younger = ghost.history.uses > 0 && ghost.last_use >= last_use;
    if (!younger) ghost = {object.name, last_use, object.history};
  }
  recalled_.reset();
  sort_by_last_use();
}

/// Objects were found in any order, and of a list only the oldest are looked at.
void ValuePolicy::sort_by_last_use() {
  std::vector<std::pair<Nanos, uint32_t>> uses;
  for (uint32_t id = 0; id < objects_.size(); ++id) {
    if (objects_[id].history.uses > 0) uses.emplace_back(objects_[id].last_use, id);
  }
  std::sort(uses.begin(), uses.end());
  for (TierState& tier : tiers_) {
    if (tier.lists.empty()) continue;
    for (const auto& [last_use, id] : uses) tier.order.touch(id);
  }
}

std::optional<UseMemory> ValuePolicy::remember_step(UseScan* scan) const {
  for (size_t looked = 0; looked < kRememberedPerStep; ++looked, ++scan->next) {
    if (scan->next < ghosts_.size()) {
      const Ghost& ghost = ghosts_[scan->next];
      if (ghost.history.uses > 0) scan->add(ghost.name, ghost.last_use, ghost.history);
      continue;
    }
    const size_t id = scan->next - ghosts_.size();
    if (id >= objects_.size()) {
      if (scan->again()) return std::nullopt;
      return scan->take(model_->counts());
    }
    const Object& object = objects_[static_cast<uint32_t>(id)];
    if (object.history.uses > 0) scan->add(object.name, object.last_use, object.history);
  }
  return std::nullopt;
}
}  // namespace terrace
