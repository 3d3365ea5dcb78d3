// Goal: a policy that recalls what another one took down values and orders objects as that one did,
// whichever of them are still there, and a use over the restart counts as one. Method: two policies
// one after the other, with clocks that have nothing to do with each other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/prng.h"
#include "storage/policy/policy_kind.h"
#include "storage/policy/value_policy.h"

namespace terrace {
namespace {
constexpr uint32_t kList = 1;

ObjectWorth worth(uint64_t name) {
  return {.name = name, .bytes = 1'000'000, .recompute_s = 0.1};
}

UseMemory memory_of(const PlacementPolicy& policy, Nanos now) {
  UseScan scan(now);
  for (int steps = 0; steps < 10'000; ++steps) {
    if (std::optional<UseMemory> memory = policy.remember_step(&scan)) return std::move(*memory);
  }
  ADD_FAILURE() << "the scan never ends";
  return {};
}

std::vector<uint32_t> walk(const PlacementPolicy& policy, Nanos now) {
  std::vector<uint32_t> order;
  policy.walk(Tier::nvme, kList, now, [&](uint32_t id) {
    order.push_back(id);
    return PlacementPolicy::Visit::taken;
  });
  return order;
}

/// A policy that has seen objects 0 to 99 (names 1000 and up) for an hour; ends at `now`.
struct Earlier {
  explicit Earlier(uint64_t seed) {
    Prng prng(seed);
    for (uint32_t id = 0; id < 100; ++id) {
      policy.known(id, worth(1000 + id), now);
      policy.entered(Tier::nvme, kList, id);
      now += milliseconds(prng.below(2000));
    }
    for (int i = 0; i < 400; ++i) {
      policy.used(static_cast<uint32_t>(prng.below(10) * prng.below(10)), now);
      now += milliseconds(1 + prng.below(20'000));
    }
  }
  ValuePolicy policy;
  Nanos now = seconds(5000);
};

TEST(ValueMemoryTest, objects_found_again_are_valued_and_ordered_as_before) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Earlier before(seed);
    ValuePolicy after;
    // The machine started anew: its clock is young, and the objects were used before its zero.
    const Nanos now = seconds(3);
    const Nanos down = seconds(120);
    ASSERT_TRUE(after.recall(memory_of(before.policy, before.now), now - down));
    for (uint32_t id = 0; id < 100; ++id) {  // in another order, with other ids
      after.known_again(id, worth(1000 + (99 - id)), now);
      after.entered(Tier::nvme, kList, id);
    }
    after.recall_over();
    for (uint32_t id = 0; id < 100; ++id) {
      const PolicyFacts was = before.policy.facts(99 - id, before.now + down);
      const PolicyFacts is = after.facts(id, now);
      EXPECT_EQ(is.uses, was.uses);
      EXPECT_LT(std::abs(((now - is.last_use) - (before.now + down - was.last_use)).count()),
                1'000'000)
          << "to the millisecond";
      EXPECT_NEAR(is.uses_per_s, was.uses_per_s, was.uses_per_s * 0.01 + 1e-12) << id;
    }
    // Of equal ones the lower id leaves first, and the ids are others now: values are compared.
    const std::vector<uint32_t> order = walk(after, now);
    const std::vector<uint32_t> was = walk(before.policy, before.now + down);
    ASSERT_EQ(order.size(), was.size());
    for (size_t i = 0; i < order.size(); ++i) {
      const double value = before.policy.value(was[i], before.now + down);
      EXPECT_NEAR(before.policy.value(99 - order[i], before.now + down), value, value * 1e-6)
          << "seed " << seed << " place " << i;
    }
  }
}

TEST(ValueMemoryTest, an_object_that_comes_again_later_is_not_new) {
  Earlier before(1);
  const uint32_t uses = before.policy.facts(0, before.now).uses;
  ValuePolicy after;
  const Nanos now = seconds(1);
  ASSERT_TRUE(after.recall(memory_of(before.policy, before.now), now - seconds(60)));
  after.recall_over();  // nothing was found again
  after.known(7, worth(1000), now);
  EXPECT_EQ(after.facts(7, now).uses, uses + 1);
}

TEST(ValueMemoryTest, what_left_the_store_is_remembered_too) {
  ValuePolicy before;
  before.known(3, worth(77), seconds(10));
  before.used(3, seconds(20));
  before.forgotten(3);
  const UseMemory memory = memory_of(before, seconds(30));
  ASSERT_EQ(memory.objects.size(), 1u);
  EXPECT_EQ(memory.objects[0].name, 77u);
  EXPECT_EQ(memory.objects[0].age_ms, 10'000u);
  EXPECT_EQ(memory.objects[0].history.uses, 2u);
}

TEST(ValueMemoryTest, being_found_again_is_no_use) {
  ValuePolicy before;
  before.known(0, worth(1), seconds(10));
  ValuePolicy after;
  ASSERT_TRUE(after.recall(memory_of(before, seconds(10)), seconds(-100)));
  after.known_again(0, worth(1), seconds(5));
  after.entered(Tier::nvme, kList, 0);
  after.recall_over();
  EXPECT_EQ(after.facts(0, seconds(5)).uses, 1u);
  EXPECT_EQ(after.facts(0, seconds(5)).last_use, seconds(-100));
  after.used(0, seconds(6));
  EXPECT_EQ(after.facts(0, seconds(6)).uses, 2u);
}

TEST(ValueMemoryTest, what_nobody_remembers_is_new_or_older_than_all_that_are_remembered) {
  ValuePolicy before;
  before.known(0, worth(1), seconds(10));
  before.known(1, worth(2), seconds(20));
  UseMemory memory = memory_of(before, seconds(30));
  for (const uint64_t left_out : {0u, 1u}) {
    ValuePolicy after;
    memory.left_out = left_out;
    ASSERT_TRUE(after.recall(memory, seconds(100)));
    after.known_again(5, worth(9), seconds(100));
    after.recall_over();
    EXPECT_EQ(after.facts(5, seconds(100)).last_use, seconds(left_out == 0 ? 100 : 80));
    EXPECT_EQ(after.facts(5, seconds(100)).uses, 1u);
  }
}

TEST(ValueMemoryTest, without_a_memory_found_again_is_new) {
  ValuePolicy policy;
  policy.known_again(0, worth(1), seconds(5));
  policy.recall_over();
  EXPECT_EQ(policy.facts(0, seconds(5)).last_use, seconds(5));
  EXPECT_EQ(policy.facts(0, seconds(5)).uses, 1u);
}

TEST(ValueMemoryTest, numbers_of_another_model_are_refused_and_change_nothing) {
  GapHistogram model;
  for (int i = 0; i < 3000; ++i) model.used_again({1, 0}, 5);
  const std::vector<double> good = model.counts();
  GapHistogram other;
  EXPECT_TRUE(other.restore(good));
  EXPECT_EQ(other.counts(), good);
  EXPECT_DOUBLE_EQ(other.rate({1, 0}, 1), model.rate({1, 0}, 1));
  EXPECT_LE(good.size(), UseMemory::kModelNumbersMax);
  for (const double bad : {-1.0, std::nan(""), HUGE_VAL, 1e16}) {
    std::vector<double> counts = good;
    counts[7] = bad;
    EXPECT_FALSE(other.restore(counts)) << bad;
  }
  std::vector<double> counts = good;
  counts[GapHistogram::kClasses * counts.size() / (GapHistogram::kClasses + 1)] = 0;
  EXPECT_FALSE(other.restore(counts)) << "a division by nothing";
  counts.pop_back();
  EXPECT_FALSE(other.restore(counts));
  EXPECT_EQ(other.counts(), good);
}

/// A batch that comes back as a whole: more gaps than a class has objects, which are halved.
TEST(ValueMemoryTest, a_million_objects_used_alike_are_remembered) {
  GapHistogram model;
  constexpr int kObjects = 1'500'000;
  for (int i = 0; i < kObjects; ++i) model.first_use();
  for (int i = 0; i < kObjects; ++i) model.used_again({1, 0}, 3600);
  const std::vector<double> counts = model.counts();
  EXPECT_GT(*std::max_element(counts.begin(), counts.end()), 1 << 20);
  GapHistogram other;
  EXPECT_TRUE(other.restore(counts));
  EXPECT_EQ(other.counts(), counts);
}

TEST(ValueMemoryTest, the_least_recently_used_remembers_nothing) {
  const auto policy = make_policy(PolicyKind::lru);
  policy->known(0, worth(1), seconds(1));
  EXPECT_EQ(memory_of(*policy, seconds(2)), UseMemory());
  EXPECT_FALSE(policy->recall({}, seconds(2)));
  policy->known_again(1, worth(2), seconds(3));
  policy->recall_over();
  EXPECT_EQ(policy->facts(1, seconds(3)).last_use, seconds(3));
}
}  // namespace
}  // namespace terrace
