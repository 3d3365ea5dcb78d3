// Goal: what saves the least leaves first, nothing leaves before what follows it, a walk shows
// every copy once whatever is pinned, and no order of calls breaks the counts. Method: cases by
// hand, and random lives of many objects checked against a dull model.
#include "storage/policy/value_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/prng.h"

namespace terrace {
namespace {

using Visit = PlacementPolicy::Visit;
constexpr uint32_t kList = 7;

/// Uses per second as told, whatever the age.
class FixedRates final : public ReuseModel {
 public:
  void first_use() override {}
  void used_again(const UseHistory&, double) override {}
  double rate(const UseHistory& history, double age_s) const override {
    return history.uses / (1 + age_s);
  }
  std::vector<double> counts() const override { return {}; }
  bool restore(std::span<const double> counts) override { return counts.empty(); }
};

ObjectWorth worth(uint64_t name, double recompute_s, float importance = 1) {
  return {
      .name = name, .bytes = 1'000'000'000, .recompute_s = recompute_s, .importance = importance};
}

std::vector<uint32_t> walk(const PlacementPolicy& policy, Tier tier, Nanos now,
                           const std::set<uint32_t>& pinned = {}) {
  std::vector<uint32_t> order;
  policy.walk(tier, kList, now, [&](uint32_t id) {
    order.push_back(id);
    return pinned.contains(id) ? Visit::passed : Visit::taken;
  });
  return order;
}

class ValuePolicyTest : public testing::Test {
 protected:
  void add(uint32_t id, double recompute_s, float importance = 1) {
    policy_.known(id, worth(id, recompute_s, importance), now_);
    policy_.entered(Tier::dram, kList, id);
  }
  ValuePolicy policy_{std::make_unique<FixedRates>()};
  Nanos now_ = seconds(100);
};

TEST_F(ValuePolicyTest, cheap_and_unimportant_leave_first) {
  add(0, 1.0);
  add(1, 0.1);
  add(2, 1.0, 0.01f);
  add(3, 10.0);
  EXPECT_EQ(walk(policy_, Tier::dram, now_), (std::vector<uint32_t>{2, 1, 0, 3}));
  EXPECT_NEAR(policy_.value(3, now_) / policy_.value(1, now_), 100, 1e-3);
}

TEST_F(ValuePolicyTest, uses_count_but_not_those_that_follow_at_once) {
  add(0, 1.0);
  add(1, 1.0);
  now_ += milliseconds(20);
  policy_.used(0, now_);  // the touch after a fetch
  EXPECT_NEAR(policy_.value(0, now_) / policy_.value(1, now_), 1.02, 0.001);
  now_ += seconds(10);
  policy_.used(1, now_);
  policy_.used(0, now_ + milliseconds(150));
  EXPECT_NEAR(policy_.value(0, now_ + seconds(5)) / policy_.value(1, now_ + seconds(5)), 1, 0.1);
  EXPECT_EQ(walk(policy_, Tier::dram, now_ + seconds(5)).front(), 1u);
}

TEST_F(ValuePolicyTest, a_parent_outlives_what_follows_it) {
  add(0, 0.001);  // worth little by itself
  add(1, 1.0);
  add(2, 100.0);
  policy_.follows(1, 0);
  policy_.follows(2, 1);
  add(3, 1000.0);
  EXPECT_EQ(walk(policy_, Tier::dram, now_), (std::vector<uint32_t>{2, 1, 0, 3}));
  EXPECT_TRUE(policy_.needed(Tier::dram, 0));
  EXPECT_FALSE(policy_.needed(Tier::dram, 2));
  policy_.left(Tier::dram, 2);
  EXPECT_EQ(walk(policy_, Tier::dram, now_), (std::vector<uint32_t>{1, 0, 3}));
}

TEST_F(ValuePolicyTest, a_slower_tier_keeps_the_parents_of_what_is_in_a_faster_one) {
  add(0, 0.001);
  policy_.entered(Tier::nvme, kList, 0);
  add(1, 1.0);
  policy_.follows(1, 0);  // in dram only
  policy_.known(2, worth(2, 0.5), now_);
  policy_.entered(Tier::nvme, kList, 2);
  EXPECT_TRUE(policy_.needed(Tier::nvme, 0));
  EXPECT_EQ(walk(policy_, Tier::nvme, now_).front(), 2u);
  policy_.left(Tier::dram, 1);
  EXPECT_FALSE(policy_.needed(Tier::nvme, 0));
  EXPECT_EQ(walk(policy_, Tier::nvme, now_).front(), 0u);
}

TEST_F(ValuePolicyTest, when_all_that_may_go_is_pinned_the_parents_go) {
  for (uint32_t id = 0; id < 6; ++id) {
    add(id, 1.0);
    if (id > 0) policy_.follows(id, id - 1);
  }
  EXPECT_EQ(walk(policy_, Tier::dram, now_, {5}), (std::vector<uint32_t>{5, 0, 1, 2, 3, 4}));
}

TEST_F(ValuePolicyTest, nobody_follows_those_who_follow_it) {
  for (uint32_t id = 0; id < 40; ++id) {
    add(id, 1.0);
    if (id > 0) policy_.follows(id, id - 1);
  }
  policy_.follows(0, 5);
  EXPECT_EQ(walk(policy_, Tier::dram, now_).front(), 39u);
  policy_.follows(0, 39);  // too far to be seen: then there is no end to begin with
  const std::vector<uint32_t> all = walk(policy_, Tier::dram, now_);
  EXPECT_EQ(std::set<uint32_t>(all.begin(), all.end()).size(), 40u);
}

TEST_F(ValuePolicyTest, nobody_is_worth_more_than_anybody_may_claim) {
  add(0, 1e30);
  add(1, 1e9);
  EXPECT_DOUBLE_EQ(policy_.value(0, now_), policy_.value(1, now_));
}

TEST_F(ValuePolicyTest, what_stands_behind_many_parents_is_shown_too) {
  constexpr uint32_t kParents = 400;
  for (uint32_t id = 0; id < kParents; ++id) add(id, 1.0);
  add(kParents, 1.0);  // alone, and younger than all of them
  for (uint32_t id = 0; id < kParents; ++id) {
    add(1000 + id, 100.0);
    policy_.follows(1000 + id, id);
  }
  std::set<uint32_t> pinned;
  for (uint32_t id = 0; id < kParents; ++id) pinned.insert(1000 + id);
  const std::vector<uint32_t> shown = walk(policy_, Tier::dram, now_, pinned);
  EXPECT_EQ(shown.size(), 2 * kParents + 1);
  EXPECT_EQ(std::count(shown.begin(), shown.end(), kParents), 1);
}

TEST_F(ValuePolicyTest, an_id_that_comes_again_is_nobodys_parent) {
  add(0, 1.0);
  add(1, 1.0);
  policy_.follows(1, 0);
  policy_.left(Tier::dram, 0);
  policy_.forgotten(0);
  add(0, 0.5);  // another object
  EXPECT_FALSE(policy_.needed(Tier::dram, 0));
  policy_.left(Tier::dram, 1);
  EXPECT_EQ(walk(policy_, Tier::dram, now_), (std::vector<uint32_t>{0}));
}

TEST_F(ValuePolicyTest, an_object_that_comes_back_is_not_new) {
  add(0, 1.0);
  now_ += seconds(5);
  policy_.used(0, now_);
  policy_.left(Tier::dram, 0);
  policy_.forgotten(0);
  now_ += seconds(5);
  policy_.known(9, worth(0, 1.0), now_);  // the same name
  policy_.known(8, worth(8, 1.0), now_);
  EXPECT_NEAR(policy_.value(9, now_) / policy_.value(8, now_), 3, 0.01);
}

/// What a policy should know, kept the dull way.
struct Model {
  struct Object {
    bool dram = false;
    bool nvme = false;
    uint32_t parent = kNoEntry;
  };
  std::map<uint32_t, Object> objects;
  bool leads_to(uint32_t from, uint32_t to) const {
    for (int links = 0; from != kNoEntry && links < 16; ++links) {
      if (from == to) return true;
      from = objects.at(from).parent;
    }
    return false;
  }
  bool needed(Tier tier, uint32_t id) const {
    return std::any_of(objects.begin(), objects.end(), [&](const auto& entry) {
      const Object& o = entry.second;
      return o.parent == id && (o.dram || (tier == Tier::nvme && o.nvme));
    });
  }
};

void check(const ValuePolicy& policy, const Model& model, Nanos now, Prng* prng) {
  for (const Tier tier : {Tier::dram, Tier::nvme}) {
    std::set<uint32_t> here;
    std::set<uint32_t> pinned;
    for (const auto& [id, object] : model.objects) {
      ASSERT_EQ(policy.needed(tier, id), model.needed(tier, id)) << "id " << id;
      if (!(tier == Tier::dram ? object.dram : object.nvme)) continue;
      here.insert(id);
      if (prng->below(4) == 0) pinned.insert(id);
    }
    ASSERT_EQ(policy.size(tier, kList), here.size());
    const std::vector<uint32_t> shown = walk(policy, tier, now, pinned);
    ASSERT_EQ(shown.size(), here.size());
    ASSERT_EQ(std::set<uint32_t>(shown.begin(), shown.end()), here);
  }
}

void step(ValuePolicy* policy, Model* model, uint32_t id, uint32_t other, Nanos now, Prng* prng) {
  const auto it = model->objects.find(id);
  if (it == model->objects.end()) {
    policy->known(id, worth(prng->below(100), static_cast<double>(prng->below(50))), now);
    model->objects[id] = {};
    return;
  }
  Model::Object& object = it->second;
  const Tier tier = prng->below(2) == 0 ? Tier::dram : Tier::nvme;
  bool& there = tier == Tier::dram ? object.dram : object.nvme;
  switch (prng->below(5)) {
    case 0:
      if (!there) policy->entered(tier, kList, id);
      there = true;
      break;
    case 1:
      policy->left(tier, id);
      there = false;
      break;
    case 2:
      policy->used(id, now);
      break;
    case 3:
      if (!model->objects.contains(other) || model->leads_to(other, id)) break;
      policy->follows(id, other);
      object.parent = other;
      break;
    default:
      policy->left(Tier::dram, id);
      policy->left(Tier::nvme, id);
      policy->forgotten(id);
      model->objects.erase(id);
      for (auto& [each, o] : model->objects) {
        if (o.parent == id) o.parent = kNoEntry;
      }
  }
}

TEST(ValuePolicyLifeTest, counts_stay_right_over_random_lives) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Prng prng(seed);
    ValuePolicy policy;
    Model model;
    Nanos now = seconds(1);
    const uint64_t ids = 2 + prng.below(30);
    for (int i = 0; i < 600; ++i) {
      now += milliseconds(prng.below(3000));
      step(&policy, &model, static_cast<uint32_t>(prng.below(ids)),
           static_cast<uint32_t>(prng.below(ids)), now, &prng);
      if (i % 10 != 0) continue;
      ASSERT_NO_FATAL_FAILURE(check(policy, model, now, &prng)) << "seed " << seed;
    }
  }
}
}  // namespace
}  // namespace terrace
