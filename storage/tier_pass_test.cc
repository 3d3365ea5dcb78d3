// Goal: a pass over a tier finds what is damaged there, and draining dram leaves nothing that only
// memory has. Method: flipped bytes in memory; a power cut after a drain.
#include "storage/tier_pass.h"

#include <gtest/gtest.h>

#include "storage/explanation.h"
#include "tests/sim/dram_store_fixture.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

TEST_F(DramStoreTest, a_pass_over_dram_finds_a_flipped_byte) {
  config_.scrub_period = seconds(0);
  open(8 * kMiB);
  for (uint64_t n = 1; n <= 5; ++n) {
    ASSERT_TRUE(driver_->put(TestObject(n, {300'000}), Durability::memory).ok());
  }
  const TestObject bad(3, {300'000});
  {
    ChunkReader reader;
    Waiting opened;
    ASSERT_TRUE(store_->open_reader(driver_->ns, bad.key, 1, &reader, &opened).ok());
    ASSERT_TRUE(driver_->wait(&opened).ok());
    ReadBuffer buffer;
    Waiting read;
    ASSERT_TRUE(store_->read(&reader, 0, 2, 1, &buffer, &read).ok());
    ASSERT_TRUE(driver_->wait(&read).ok());
    static_cast<std::byte*>(buffer.pieces()[0].iov_base)[77] ^= std::byte{4};
  }
  const auto pass = std::make_shared<VerifyPass>();
  pass->tier = Tier::dram;
  pass->mib_per_s = 1000;
  ASSERT_TRUE(store_->verify(pass).ok());
  EXPECT_EQ(store_->verify(std::make_shared<VerifyPass>()).code(), StatusCode::kUnavailable)
      << "no nvme here";
  const auto second = std::make_shared<VerifyPass>();
  second->tier = Tier::dram;
  EXPECT_EQ(store_->verify(second).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(driver_->until([&] { return pass->over; }));
  EXPECT_EQ(pass->expected, 5u);
  EXPECT_EQ(pass->objects, 5u);
  EXPECT_EQ(pass->bad, 1u);
  EXPECT_EQ(driver_->get(bad).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->explain(driver_->ns, bad.key).departures.at(0).reason,
            DepartReason::quarantined);
  ASSERT_TRUE(store_->verify(second).ok()) << "the first one is over";
  ASSERT_TRUE(driver_->until([&] { return second->over; }));
  EXPECT_EQ(second->objects, 4u);
  EXPECT_EQ(second->bad, 0u);
}

TEST_F(DramStoreTest, a_pass_that_is_cancelled_ends) {
  config_.scrub_period = seconds(0);
  open(8 * kMiB);
  for (uint64_t n = 1; n <= 5; ++n) {
    ASSERT_TRUE(driver_->put(TestObject(n, {300'000}), Durability::memory).ok());
  }
  const auto pass = std::make_shared<VerifyPass>();
  pass->tier = Tier::dram;
  pass->mib_per_s = 1;
  ASSERT_TRUE(store_->verify(pass).ok());
  pass->cancelled = true;
  ASSERT_TRUE(driver_->until([&] { return pass->over; }));
  EXPECT_LT(pass->objects, 5u);
}

TEST(TierPassTest, a_drained_dram_survives_a_power_cut) {
  StoreWorld world(3);
  world.config.write_through = false;
  world.config.dram_bytes = 32 * kMiB;
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 1; n <= 12; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n), Durability::memory).ok());
  }
  const auto pass = std::make_shared<DrainPass>();
  ASSERT_TRUE(world.driver->until([&] { return world.store->drain_step(pass.get()); }));
  EXPECT_EQ(pass->done, 12u);
  EXPECT_EQ(pass->failed, 0u);
  const auto nvme = std::make_shared<VerifyPass>();
  nvme->tier = Tier::nvme;
  nvme->mib_per_s = 10'000;
  ASSERT_TRUE(world.store->verify(nvme).ok());
  ASSERT_TRUE(world.driver->until([&] { return nvme->over; }));
  EXPECT_EQ(nvme->objects, 12u);
  EXPECT_EQ(nvme->bad, 0u);
  world.crash();
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 1; n <= 12; ++n) EXPECT_TRUE(world.driver->get(TestObject(n)).ok()) << n;
}
}  // namespace
}  // namespace terrace
