// Goal: the device forgets what was freed and nothing else; what puts need stays theirs, and a
// device that hangs, fails or rests is left alone. Method: a store on the simulated device, which
// counts the sectors it keeps; tests/crash does it under power cuts.
#include "storage/trimmer.h"

#include <gtest/gtest.h>

#include "storage/nvme_space.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

class TrimmerTest : public ::testing::Test {
 protected:
  TrimmerTest() : world_(3) {
    world_.config.nvme_trim_interval_hours = 0;
    world_.config.demote_on_close = false;
  }
  void put(uint64_t first, uint64_t end) {
    for (uint64_t n = first; n < end; ++n) {
      ASSERT_TRUE(world_.driver->put(object(n), Durability::nvme).ok()) << n;
    }
  }
  void erase(uint64_t first, uint64_t end) {
    for (uint64_t n = first; n < end; ++n) ASSERT_TRUE(world_.driver->erase(object(n)).ok()) << n;
  }
  static TestObject object(uint64_t n) { return TestObject(n, {1'300'000}); }
  std::shared_ptr<TrimPass> begin(std::optional<uint16_t> place = std::nullopt) {
    auto pass = std::make_shared<TrimPass>();
    pass->place = place;
    const Status begun = world_.store->trim(pass);
    EXPECT_TRUE(begun.ok()) << begun.to_string();
    return pass;
  }
  std::shared_ptr<TrimPass> trim(std::optional<uint16_t> place = std::nullopt) {
    auto pass = begin(place);
    EXPECT_TRUE(world_.driver->until([&] { return pass->over; }));
    return pass;
  }
  StoreWorld world_;
};

TEST_F(TrimmerTest, what_was_freed_is_forgotten_and_the_rest_stays) {
  ASSERT_TRUE(world_.start().ok());
  put(0, 15);
  const size_t before = world_.device.sectors_kept();
  erase(0, 10);
  EXPECT_EQ(world_.device.sectors_kept(), before) << "not by itself";
  const auto pass = trim();
  ASSERT_EQ(pass->devices.size(), 1u);
  EXPECT_TRUE(pass->devices[0].result.ok());
  EXPECT_GT(pass->devices[0].bytes, 30 * kMiB) << "all that was free";
  EXPECT_EQ(world_.store->devices()[0].trimmed_bytes, pass->devices[0].bytes);
  EXPECT_EQ(trim()->devices[0].bytes, 0u) << "it was forgotten already";
  put(20, 22);
  erase(20, 22);
  const uint64_t again = trim()->devices[0].bytes;
  EXPECT_GE(again, 2 * kMiB) << "what was used since";
  EXPECT_LE(again, 5 * kMiB);
  for (int life = 0; life < 2; ++life) {
    for (uint64_t n = 10; n < 15; ++n) EXPECT_TRUE(world_.driver->get(object(n)).ok()) << n;
    world_.crash();
    ASSERT_TRUE(world_.start().ok());
  }
}

TEST(NvmeMapTest, a_piece_is_at_most_a_quarter_of_what_is_free_and_nobody_gets_it) {
  NvmeMap map(41 * kMiB);
  uint64_t next = 0;
  Extent piece;
  ASSERT_FALSE(map.take_untrimmed(&next, &piece));
  EXPECT_EQ(piece.bytes(), 10 * kMiB);
  EXPECT_EQ(map.free_bytes(), 40 * kMiB) << "it counts as free: nothing is evicted for it";
  std::vector<std::shared_ptr<NvmeSpace>> spaces;
  while (auto space = map.allocate(kMiB)) {
    for (const Extent& extent : space->extents()) {
      EXPECT_TRUE(extent.block >= piece.block + piece.blocks ||
                  extent.block + extent.blocks <= piece.block);
    }
    spaces.push_back(std::move(space));
  }
  EXPECT_EQ(spaces.size(), 30u);
  Extent none;
  EXPECT_TRUE(map.take_untrimmed(&next, &none)) << "nothing is taken from those who put";
  int freed = 0;
  map.on_freed([&] { ++freed; });
  map.end_trim(piece, true);
  map.on_freed(nullptr);
  EXPECT_EQ(freed, 1) << "who waits for space is told";
  EXPECT_NE(map.allocate(10 * kMiB), nullptr);
}

TEST_F(TrimmerTest, a_trim_that_hangs_ends_the_pass_and_its_space_rests) {
  ASSERT_TRUE(world_.start().ok());
  put(0, 4);
  world_.device.hang();
  const auto pass = begin();
  EXPECT_EQ(world_.store->trim(std::make_shared<TrimPass>()).code(), StatusCode::kResourceExhausted)
      << "one at a time";
  ASSERT_TRUE(world_.driver->until([&] { return pass->over; }));
  EXPECT_EQ(pass->devices[0].result.code(), StatusCode::kDeadlineExceeded);
  const uint64_t used = world_.store->devices()[0].used;
  world_.device.time_out();  // what else waits
  world_.device.let_go();
  ASSERT_TRUE(world_.driver->until([&] { return world_.store->devices()[0].used < used; }))
      << "free again";
  EXPECT_TRUE(trim()->devices[0].result.ok());
  for (uint64_t n = 0; n < 4; ++n) EXPECT_TRUE(world_.driver->get(object(n)).ok()) << n;
}

TEST_F(TrimmerTest, a_store_closes_while_a_trim_hangs) {
  ASSERT_TRUE(world_.start().ok());
  put(0, 1);
  world_.device.hang();
  const auto pass = begin();
  for (int i = 0; i < 10; ++i) world_.turn();
  world_.stop();
  EXPECT_TRUE(pass->over);
  world_.device.answer_again();
  for (int i = 0; i < 10; ++i) world_.turn();  // the answer finds nobody
  ASSERT_TRUE(world_.start().ok());
  EXPECT_TRUE(world_.driver->get(object(0)).ok());
}

TEST_F(TrimmerTest, one_device_fails_and_another_one_drains) {
  world_.add_device();
  world_.add_device();
  ASSERT_TRUE(world_.start().ok());
  world_.device_at(0).fail(0, error(StatusCode::kFailedPrecondition, "no discard"), true);
  ASSERT_TRUE(world_.store->drain_device(1).ok());
  const auto pass = trim();
  ASSERT_EQ(pass->devices.size(), 3u);
  EXPECT_EQ(pass->devices[0].result.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(pass->devices[1].result.code(), StatusCode::kUnavailable);
  EXPECT_EQ(pass->devices[1].bytes, 0u);
  EXPECT_TRUE(pass->devices[2].result.ok());
  EXPECT_GT(pass->devices[2].bytes, 40 * kMiB);
  const auto refused = std::make_shared<TrimPass>();
  refused->place = 1;
  EXPECT_EQ(world_.store->trim(refused).code(), StatusCode::kUnavailable);
  refused->place = 7;
  EXPECT_EQ(world_.store->trim(refused).code(), StatusCode::kNotFound);
  world_.device_at(0).heal();
  EXPECT_EQ(trim(0)->devices.size(), 1u);
}

TEST_F(TrimmerTest, a_pass_is_cancelled_or_begins_by_itself) {
  world_.config.nvme_trim_interval_hours = 3;
  world_.config.device_timeout = std::chrono::hours(24);  // the clock jumps
  ASSERT_TRUE(world_.start().ok());
  const auto pass = begin();
  pass->cancelled = true;
  ASSERT_TRUE(world_.driver->until([&] { return pass->over; }));
  EXPECT_LT(world_.store->devices()[0].trimmed_bytes, 20 * kMiB);
  for (int pass_of_its_own = 0; pass_of_its_own < 2; ++pass_of_its_own) {
    put(0, 5);
    erase(0, 5);
    const uint64_t before = world_.store->devices()[0].trimmed_bytes;
    world_.clock.advance(std::chrono::hours(3));
    for (int i = 0; i < 1000; ++i) world_.turn();
    EXPECT_GE(world_.store->devices()[0].trimmed_bytes, before + 5 * kMiB) << pass_of_its_own;
  }
}
}  // namespace
}  // namespace terrace
