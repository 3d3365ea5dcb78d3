// Goal: an object that fits on no device of nvme, or on one of them only, costs no other object its
// place. Method: devices of a few regions of 64 MiB, large objects among small ones; what was
// evicted is counted.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

class ResizeFitTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kRegion = 64 * kMiB;
  static constexpr uint64_t kSmall = 20;
  ResizeFitTest() : world_(9, 3 * kRegion) {
    world_.config.promote_hits = 0;
    world_.config.slab_bytes = 256 * kMiB;
    world_.config.dram_bytes = 256 * kMiB;
  }
  static TestObject large(uint64_t n) { return TestObject(n, {40 * kMiB, 40 * kMiB}); }
  static TestObject small(uint64_t n) { return TestObject(100 + n, {kMiB - 4096}); }
  void put(const TestObject& object) {
    const Status put = world_.driver->put(object, Durability::nvme);
    ASSERT_TRUE(put.ok()) << object.number << ": " << put.to_string();
  }
  void put_small(uint64_t count) {
    for (uint64_t n = 0; n < count; ++n) put(small(n));
  }
  void expect_small(uint64_t count) {
    for (uint64_t n = 0; n < count; ++n) {
      EXPECT_EQ(world_.driver->get(small(n)).to_string(), "OK") << n;
    }
  }
  Status shrink_first() {
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::nvme;
    pass->target = kRegion;
    TERRACE_RETURN_IF_ERROR(world_.store->resize(pass));
    EXPECT_TRUE(world_.driver->until([&] { return pass->over; }));
    return pass->result;
  }
  uint64_t evictions() const {
    return world_.store->metrics().evictions[static_cast<size_t>(Tier::nvme)].get();
  }
  std::set<std::string> keys_at(uint16_t place) {
    std::set<std::string> keys;
    EXPECT_TRUE(world_.metadata
                    ->recover(
                        [&](const MetadataRow& row) {
                          if (row.extents.at(0).device == place) keys.insert(row.key.hex());
                        },
                        [](std::string_view, const Status&) {})
                    .ok());
    return keys;
  }
  StoreWorld world_;
};

TEST_F(ResizeFitTest, what_is_larger_than_the_device_will_be_leaves_alone) {
  ASSERT_TRUE(world_.start().ok());
  put(large(1));
  put_small(kSmall);
  ASSERT_EQ(shrink_first().to_string(), "OK");
  EXPECT_EQ(world_.device.size_bytes(), kRegion);
  EXPECT_EQ(evictions(), 1u);
  EXPECT_EQ(world_.driver->get(large(1)).code(), StatusCode::kNotFound);
  expect_small(kSmall);
}

TEST_F(ResizeFitTest, it_moves_to_another_device_that_can_hold_it) {
  world_.add_device(2 * kRegion);
  ASSERT_TRUE(world_.start().ok());
  put(large(1));
  ASSERT_EQ(keys_at(0).size(), 1u);
  put_small(kSmall);
  ASSERT_EQ(shrink_first().to_string(), "OK");
  EXPECT_EQ(evictions(), 0u);
  EXPECT_EQ(world_.driver->get(large(1)).to_string(), "OK");
  expect_small(kSmall);
}

TEST_F(ResizeFitTest, a_pinned_one_keeps_the_device_as_it_is) {
  ASSERT_TRUE(world_.start().ok());
  put(large(1));
  put_small(kSmall);
  bool pinned = false;
  world_.store->set_pin(world_.driver->ns, large(1).key, true, kGiB, [&](const Status& said) {
    EXPECT_TRUE(said.ok()) << said.to_string();
    pinned = true;
  });
  ASSERT_TRUE(world_.driver->until([&] { return pinned; }));
  EXPECT_EQ(shrink_first().code(), StatusCode::kUnavailable);
  EXPECT_EQ(world_.device.size_bytes(), 3 * kRegion);
  EXPECT_EQ(evictions(), 0u);
  EXPECT_EQ(world_.driver->get(large(1)).to_string(), "OK");
  expect_small(kSmall);
}

TEST_F(ResizeFitTest, one_that_no_device_can_hold_is_refused) {
  world_.config.dram_bytes = 512 * kMiB;
  world_.config.slab_bytes = 512 * kMiB;
  ASSERT_TRUE(world_.start().ok());
  put_small(kSmall);
  const TestObject huge(1, {100 * kMiB, 100 * kMiB});
  const Status refused = world_.driver->put(huge, Durability::nvme);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  const std::string said = refused.to_string();
  EXPECT_NE(said.find(huge.key.hex()), std::string::npos) << said;
  EXPECT_NE(said.find(std::to_string(3 * kRegion - kMiB)), std::string::npos) << said;
  EXPECT_EQ(world_.store->metrics().nvme_too_large.get(), 1u);
  EXPECT_EQ(evictions(), 0u);
  expect_small(kSmall);
  EXPECT_TRUE(world_.driver->put(huge, Durability::memory).ok());
}

TEST_F(ResizeFitTest, room_is_made_only_where_it_helps) {
  constexpr uint64_t kObjects = 235;  // 254 MiB in all
  world_.add_device(kRegion);
  ASSERT_TRUE(world_.start().ok());
  put_small(kObjects);
  const auto at_first = keys_at(0);
  const auto at_second = keys_at(1);
  ASSERT_GT(at_second.size(), 40u);
  for (uint64_t n = 0; n < kObjects; ++n) {  // so that all of the second are worth less
    if (!at_first.contains(small(n).key.hex())) continue;
    EXPECT_TRUE(world_.driver->get(small(n)).ok()) << n;
  }
  put(large(1));
  EXPECT_GT(evictions(), 0u);
  EXPECT_EQ(keys_at(1), at_second);
  EXPECT_EQ(world_.driver->get(large(1)).to_string(), "OK");
}

TEST_F(ResizeFitTest, what_fits_only_a_device_that_takes_nothing_now_stays) {
  ASSERT_TRUE(world_.start().ok());
  constexpr uint64_t kCount = 80;  // more than the first region holds
  put_small(kCount);
  ASSERT_TRUE(world_.store->drain_device(0).ok());
  EXPECT_EQ(shrink_first().code(), StatusCode::kUnavailable);
  EXPECT_EQ(evictions(), 0u);
  expect_small(kCount);
}
}  // namespace
}  // namespace terrace
