// Goal: LRU orders each of its lists as a dull list does, and the plan takes exactly what it
// should. Method: random operations on both for many seeds; plans are checked against their
// definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>

#include "base/prng.h"
#include "storage/index.h"
#include "storage/policy/evict_plan.h"
#include "storage/policy/lru.h"

namespace terrace {
namespace {

TEST(LruTest, follows_a_list) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Prng prng(seed);
    Lru lru;
    std::map<uint32_t, std::list<uint32_t>> models;  // by list; oldest first
    const uint64_t ids = 1 + prng.below(40);
    for (int step = 0; step < 400; ++step) {
      const auto id = static_cast<uint32_t>(prng.below(ids));
      const uint32_t list = id % 3;
      std::list<uint32_t>& model = models[list];
      const auto it = std::find(model.begin(), model.end(), id);
      switch (prng.below(3)) {
        case 0:
          if (it != model.end()) break;
          lru.inserted(id, list);
          model.push_back(id);
          break;
        case 1:
          lru.touched(id);
          if (it != model.end()) model.splice(model.end(), model, it);
          break;
        default:
          lru.removed(id);
          if (it != model.end()) model.erase(it);
      }
      ASSERT_EQ(lru.size(list), model.size()) << "seed " << seed;
      std::vector<uint32_t> order;  // read in pages
      uint32_t after = kNoEntry;
      while (true) {
        const size_t before = order.size();
        lru.candidates(list, after, 3, &order);
        if (order.size() == before) break;
        after = order.back();
      }
      ASSERT_EQ(order, std::vector<uint32_t>(model.begin(), model.end())) << "seed " << seed;
    }
  }
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
