// Goal: an object that moves within nvme never loses the row that names a good copy, whichever
// write of the index fails while it moves. Method: an index that refuses one row, the first, then
// the second and so on; then what the store serves, and what a restart after a power cut finds.
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::RowRefusal;
using testing::StoreWorld;
using testing::TestObject;

constexpr uint64_t kObjects = 4;

/// Moves everything off place 0; objects that did not move.
uint64_t empty_first(StoreWorld& world) {
  EXPECT_TRUE(world.store->drain_device(0).ok());
  const auto pass = std::make_shared<EmptyPass>();
  EXPECT_TRUE(world.driver->until([&] { return world.store->empty_step(pass.get()); }));
  return pass->failed;
}

std::map<ChunkKey, uint16_t> places(StoreWorld& world) {
  std::map<ChunkKey, uint16_t> out;
  EXPECT_TRUE(world.metadata
                  ->recover([&](const MetadataRow& row) { out[row.key] = row.extents[0].device; },
                            [](std::string_view, const Status&) {})
                  .ok());
  return out;
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
    EXPECT_EQ(places(world).size(), kObjects) << "refused row " << skip;
    expect_all(world, skip);
    EXPECT_EQ(empty_first(world), 0u) << "what could not move does now";
    for (const auto& [key, place] : places(world)) EXPECT_EQ(place, 1) << skip;
    expect_all(world, skip);
  }
  EXPECT_EQ(stayed, 2 * kObjects) << "each writes a row, and once more when it has moved";
}
}  // namespace
}  // namespace terrace
