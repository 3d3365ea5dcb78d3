// Goal: what was said of an object's worth is known wherever it comes from: its row, its slab, the
// shared tier, a rebuilt index. Method: stores on simulated media live several lives; two share a
// directory.
#include <gtest/gtest.h>

#include "storage/explanation.h"
#include "tests/sim/shared_nodes.h"
#include "tests/sim/warm_world.h"

namespace terrace {
namespace {
using testing::TestNode;
using testing::TestObject;

constexpr WorthHint kWorth{.recompute_us = 1'234, .importance = 0.25};

PutSpec said(PutSpec spec) {
  spec.worth = kWorth;
  return spec;
}

class KeptWorthTest : public testing::WarmWorld {
 protected:
  void put(uint64_t number, Durability durability) {
    const TestObject object(number);
    ASSERT_TRUE(world_.driver->put(object, said(world_.driver->spec_of(object, durability))).ok());
  }
  Explanation explain(uint64_t number) {
    return world_.store->explain(NamespaceId{1}, TestObject(number).key);
  }
  /// What the policy counts for the object is what was said.
  void expect_known(uint64_t number) {
    const Explanation found = explain(number);
    ASSERT_TRUE(found.here) << number;
    EXPECT_EQ(found.worth, kWorth) << number;
    EXPECT_NEAR(found.recompute_s, 0.001234 * 0.25, 1e-8) << number;
  }
};

TEST_F(KeptWorthTest, a_row_brings_it_back) {
  world_.keeper.reset();  // nothing stays in dram
  start();
  put(1, Durability::nvme);
  testing::WarmWorld::put(2, Durability::nvme);
  killed();
  expect_known(1);
  EXPECT_EQ(explain(2).worth, WorthHint()) << "nothing was said";
}

TEST_F(KeptWorthTest, a_slab_brings_it_back) {
  start();
  put(1, Durability::memory);
  killed();
  EXPECT_EQ(explain(1).info.tiers, mask_of(Tier::dram));
  expect_known(1);
}

TEST_F(KeptWorthTest, a_row_that_is_written_later_has_it) {
  world_.keeper.reset();
  start();
  for (uint64_t n = 1; n <= 20; ++n) put(n, Durability::memory);
  world_.stop();  // writes them, several with one write
  start();
  for (uint64_t n = 1; n <= 20; ++n) expect_known(n);
}

TEST_F(KeptWorthTest, a_row_that_is_written_anew_for_a_pin_has_it) {
  world_.keeper.reset();
  start();
  put(1, Durability::nvme);
  bool over = false;
  world_.store->set_pin(NamespaceId{1}, TestObject(1).key, true, ~uint64_t{0},
                        [&](const Status& result) { over = result.ok(); });
  ASSERT_TRUE(world_.driver->until([&] { return over; }));
  killed();
  expect_known(1);
  EXPECT_TRUE(explain(1).kept->pinned);
}

class SharedWorthTest : public testing::SharedNodesTest {};

TEST_F(SharedWorthTest, a_load_on_another_node_brings_it_along) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  PutSpec spec = said(one.driver->spec_of(object, Durability::shared));
  spec.retention.type = "document";
  ASSERT_TRUE(one.driver->put(object, spec).ok());
  ASSERT_TRUE(knows(other, object));
  ASSERT_TRUE(other.driver->get(object).ok());
  const Explanation found = other.store->explain(other.driver->ns, object.key);
  EXPECT_EQ(found.worth, kWorth);
  EXPECT_NEAR(found.recompute_s, 0.001234 * 0.25, 1e-8);
  ASSERT_TRUE(found.kept);
  EXPECT_EQ(found.kept->type, "document");
}
}  // namespace
}  // namespace terrace
