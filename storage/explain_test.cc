// Goal: a store can say of each key where it is and why, or when, where from and why it went, and
// counts misses by that. Method: puts, evictions and erases through the front door on a small
// arena.
#include "storage/explanation.h"

#include <gtest/gtest.h>

#include "tests/sim/dram_store_fixture.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::TestObject;

class ExplainTest : public DramStoreTest {
 protected:
  uint64_t misses(size_t reason) const { return store_->metrics().misses[reason].get(); }
  static constexpr auto kEvicted = static_cast<size_t>(DepartReason::evicted);
};

TEST_F(ExplainTest, says_where_an_object_is_and_what_it_is_worth) {
  open(8 * kMiB);
  const TestObject object(1);
  PutSpec spec = driver_->spec_of(object, Durability::memory);
  spec.worth.recompute_us = 1000;
  spec.worth.importance = 0.5;
  ASSERT_TRUE(driver_->put(object, spec).ok());
  const TestObject child(2);
  ASSERT_TRUE(driver_->put(child, Durability::memory).ok());
  const std::vector<ChunkKey> chain = {object.key, child.key};
  store_->touch(driver_->ns, chain);
  clock_.advance(seconds(5));
  const Explanation said = store_->explain(driver_->ns, object.key);
  ASSERT_TRUE(said.here);
  ASSERT_EQ(said.copies.size(), 1u);
  EXPECT_EQ(said.copies[0].tier, Tier::dram);
  EXPECT_GE(said.copies[0].bytes, object.bytes());
  ASSERT_TRUE(said.copies[0].age);
  EXPECT_GE(*said.copies[0].age, seconds(5));
  EXPECT_TRUE(said.copies[0].needed) << "its child is in dram";
  EXPECT_GT(said.value, 0);
  EXPECT_GE(said.since_use, seconds(5));
  EXPECT_GE(said.policy.uses, 1u);
  EXPECT_FALSE(said.parent);
  EXPECT_TRUE(said.departures.empty());
  const Explanation childs = store_->explain(driver_->ns, child.key);
  ASSERT_TRUE(childs.parent);
  EXPECT_EQ(*childs.parent, object.key);
  EXPECT_FALSE(childs.copies[0].needed);
}

TEST_F(ExplainTest, says_why_an_object_was_evicted_and_counts_its_misses) {
  open(4 * kMiB);
  uint64_t n = 1;
  while (store_->metrics().evictions[static_cast<size_t>(Tier::dram)].get() == 0) {
    ASSERT_TRUE(driver_->put(TestObject(n++, {kMiB}), Durability::memory).ok());
    clock_.advance(seconds(2));
    ASSERT_LT(n, 20u);
  }
  const ChunkKey gone = TestObject(1, {kMiB}).key;
  store_->count_miss(driver_->ns, gone);
  clock_.advance(seconds(3));
  const Explanation said = store_->explain(driver_->ns, gone);
  EXPECT_FALSE(said.here);
  ASSERT_EQ(said.departures.size(), 1u);
  const Departure& why = said.departures[0];
  EXPECT_EQ(why.reason, DepartReason::evicted);
  EXPECT_EQ(why.tier, Tier::dram);
  EXPECT_TRUE(why.last);
  EXPECT_GE(why.at, seconds(3)) << "so long ago";
  EXPECT_LE(why.value, why.price);
  EXPECT_GT(why.value, 0);
  EXPECT_EQ(why.misses, 1u);
  EXPECT_GE(why.last_miss, seconds(3));
  EXPECT_EQ(misses(kEvicted), 1u);
  store_->count_miss(driver_->ns, TestObject(99).key);
  EXPECT_EQ(misses(kMissUnknown), 1u);
  const auto dram = static_cast<size_t>(Tier::dram);
  EXPECT_GE(store_->metrics().departures[dram][kEvicted].get(), 1u);
  EXPECT_GT(store_->metrics().evicted_value_e9[dram].get(), 0u);
}

TEST_F(ExplainTest, says_that_an_object_was_erased_and_came_back) {
  open(8 * kMiB);
  const TestObject object(1);
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  ASSERT_TRUE(driver_->erase(object).ok());
  EXPECT_EQ(store_->explain(driver_->ns, object.key).departures.at(0).reason, DepartReason::erased);
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  const Explanation said = store_->explain(driver_->ns, object.key);
  EXPECT_TRUE(said.here);
  EXPECT_EQ(said.departures.size(), 1u);
}
}  // namespace
}  // namespace terrace
