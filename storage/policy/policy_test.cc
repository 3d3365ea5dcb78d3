// Goal: LRU orders each of its lists as a dull list does, and the plan takes exactly what it
// should. Method: random operations on both for many seeds; plans are checked against their
// definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <vector>

#include "base/prng.h"
#include "storage/policy/evict_plan.h"
#include "storage/policy/lru_policy.h"

namespace terrace {
namespace {

std::vector<uint32_t> order_of(const PlacementPolicy& policy, Tier tier, uint32_t list) {
  std::vector<uint32_t> order;
  policy.walk(tier, list, Nanos(0), [&](uint32_t id) {
    order.push_back(id);
    return PlacementPolicy::Visit::taken;
  });
  return order;
}

TEST(LruTest, follows_a_list) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Prng prng(seed);
    LruPolicy lru;
    std::map<uint32_t, std::list<uint32_t>> models;  // by list; oldest first
    const uint64_t ids = 1 + prng.below(40);
    for (uint32_t id = 0; id < ids; ++id) lru.known(id, {}, Nanos(0));
    for (int step = 0; step < 400; ++step) {
      const auto id = static_cast<uint32_t>(prng.below(ids));
      const uint32_t list = id % 3;
      std::list<uint32_t>& model = models[list];
      const auto it = std::find(model.begin(), model.end(), id);
      switch (prng.below(3)) {
        case 0:
          if (it != model.end()) break;
          lru.entered(Tier::nvme, list, id);
          model.push_back(id);
          break;
        case 1:
          lru.used(id, Nanos(0));
          if (it != model.end()) model.splice(model.end(), model, it);
          break;
        default:
          lru.left(Tier::nvme, id);
          if (it != model.end()) model.erase(it);
      }
      ASSERT_EQ(lru.size(Tier::nvme, list), model.size()) << "seed " << seed;
      ASSERT_EQ(order_of(lru, Tier::nvme, list), std::vector<uint32_t>(model.begin(), model.end()))
          << "seed " << seed;
      ASSERT_TRUE(order_of(lru, Tier::dram, list).empty());
    }
  }
}

TEST(LruTest, values_the_younger_more) {
  LruPolicy lru;
  lru.known(1, {}, seconds(1));
  lru.known(2, {}, seconds(5));
  EXPECT_LT(lru.value(1, seconds(9)), lru.value(2, seconds(9)));
  lru.used(1, seconds(8));
  EXPECT_GT(lru.value(1, seconds(9)), lru.value(2, seconds(9)));
}

TEST(EvictPlanTest, takes_the_first_that_suffice_and_no_pinned_one) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    Prng prng(seed);
    std::vector<EvictCandidate> candidates(prng.below(20));
    uint64_t available = 0;
    for (uint32_t i = 0; i < candidates.size(); ++i) {
      EvictCandidate& c = candidates[i];
      c = {i, 1 + prng.below(100), prng.chance(30), prng.chance(50), prng.chance(50)};
      if (!c.pinned) available += c.bytes;
    }
    const uint64_t need = prng.below(600);
    const EvictPlan plan = plan_eviction(candidates, need);
    ASSERT_EQ(plan, plan_eviction(candidates, need)) << "seed " << seed;
    const uint64_t won = plan.dropped_bytes + plan.demoted_bytes;
    ASSERT_GE(won, std::min(need, available)) << "seed " << seed;
    std::vector<uint32_t> taken = plan.drop;
    taken.insert(taken.end(), plan.demote.begin(), plan.demote.end());
    std::sort(taken.begin(), taken.end());
    uint64_t before_last = 0;
    size_t next = 0;
    for (const EvictCandidate& c : candidates) {
      if (next == taken.size()) break;
      if (c.pinned) {
        ASSERT_NE(taken[next], c.id) << "seed " << seed;
        continue;
      }
      ASSERT_EQ(taken[next], c.id) << "in order, none skipped; seed " << seed;
      if (++next < taken.size()) before_last += c.bytes;
    }
    ASSERT_TRUE(taken.empty() || before_last < need) << "seed " << seed;
    for (uint32_t id : plan.drop) {
      ASSERT_TRUE(candidates[id].has_slower_copy || !candidates[id].may_demote);
    }
    for (uint32_t id : plan.demote) {
      ASSERT_TRUE(!candidates[id].has_slower_copy && candidates[id].may_demote);
    }
  }
}
}  // namespace
}  // namespace terrace
