// Goal: an object that moves within nvme never loses the row that names a good copy, whichever
// write of the index fails while it moves. Method: an index that refuses one row, the first, then
// the second and so on; then what the store serves, and what a restart after a power cut finds.
#include <gtest/gtest.h>

#include <memory>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::RowRefusal;
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

constexpr uint64_t kObjects = 4;

/// Moves everything off place 0; objects that did not move.
uint64_t empty_first(StoreWorld& world) {
  EXPECT_TRUE(world.store->drain_device(0).ok());
  const auto pass = std::make_shared<EmptyPass>();
  EXPECT_TRUE(world.driver->until([&] { return world.store->empty_step(pass.get()); }));
  return pass->failed;
}

void expect_all(StoreWorld& world, uint64_t skip) {
  for (uint64_t n = 0; n < kObjects; ++n) {
    const Status got = world.driver->get(TestObject(n));
    EXPECT_TRUE(got.ok()) << "refused row " << skip << ", object " << n << ": " << got.to_string();
  }
}

TEST(RelocateTest, a_row_that_cannot_be_written_leaves_the_one_that_is_good) {
  uint64_t stayed = 0;
  bool refused = true;
  for (uint64_t skip = 0; refused; ++skip) {
    StoreWorld world(skip);
    world.config.promote_hits = 0;
    world.refusal = std::make_shared<RowRefusal>();
    ASSERT_TRUE(world.start().ok());
    for (uint64_t n = 0; n < kObjects; ++n) {
      ASSERT_TRUE(world.driver->put(TestObject(n), Durability::nvme).ok());
    }
    world.stop();
    world.add_device();
    ASSERT_TRUE(world.start().ok());
    world.refusal->skip = skip;
    stayed += empty_first(world);
    refused = world.refusal->refused > 0;
    expect_all(world, skip);
    world.crash();
    world.refusal->skip.reset();
    ASSERT_TRUE(world.start().ok());
    EXPECT_EQ(world.places().size(), kObjects) << "refused row " << skip;
    expect_all(world, skip);
    EXPECT_EQ(empty_first(world), 0u) << "what could not move does now";
    for (const auto& [key, place] : world.places()) EXPECT_EQ(place, 1) << skip;
    expect_all(world, skip);
  }
  EXPECT_EQ(stayed, 2 * kObjects) << "each writes a row, and once more when it has moved";
}

TEST(RelocateTest, one_that_is_erased_on_its_way_leaves_the_row_of_the_next_alone) {
  StoreWorld world(5);
  world.config.promote_hits = 0;
  world.refusal = std::make_shared<RowRefusal>();
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1);
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  world.add_device();
  ASSERT_TRUE(world.start().ok());
  world.refusal->hold = object.key;
  ASSERT_TRUE(world.store->drain_device(0).ok());
  const auto pass = std::make_shared<EmptyPass>();
  ASSERT_TRUE(world.driver->until([&] {
    world.store->empty_step(pass.get());
    return world.refusal->held.op != nullptr;
  }));
  Waiting erased;
  ASSERT_TRUE(world.store->erase(world.driver->ns, object.key, &erased).ok());
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok()) << "the next one";
  world.refusal->held.release();
  EXPECT_TRUE(world.driver->wait(&erased).ok());
  world.wait(seconds(1));
  EXPECT_TRUE(world.driver->get(object).ok());
  world.crash();
  ASSERT_TRUE(world.start().ok());
  EXPECT_TRUE(world.driver->get(object).ok()) << "it was acknowledged nvme";
}
}  // namespace
}  // namespace terrace
