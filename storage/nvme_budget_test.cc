// Goal: with a write budget no more goes to nvme than it allows, durable puts always do, and when
// there is budget again so does the rest. Method: a store on the simulated device, whose day passes
// in the test.
#include <gtest/gtest.h>

#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

TEST(NvmeBudgetTest, what_is_over_the_budget_stays_out_but_for_durable_puts) {
  for (const PolicyKind policy : {PolicyKind::value, PolicyKind::lru}) {
    StoreWorld world(5, 128 * kMiB);
    world.config.policy = policy;
    world.config.nvme_write_budget_gib_per_day = 1;  // saves up 64 MiB at most
    world.config.demote_on_close = false;
    world.config.dram_bytes = 32 * kMiB;
    world.config.device_timeout = std::chrono::hours(24);  // the clock jumps
    ASSERT_TRUE(world.start().ok());
    const StoreMetrics& metrics = world.store->metrics();
    const auto put = [&](uint64_t n, Durability durability) {
      const TestObject object(n, {700'000});
      const Status done = world.driver->put(object, durability);
      ASSERT_TRUE(done.ok()) << n << ": " << done.to_string();
      for (int i = 0; i < 20; ++i) world.turn();
    };
    uint64_t n = 0;
    while (n < 130) put(n++, Durability::memory);
    const uint64_t written = metrics.write_bytes[kNvme].get();
    EXPECT_LT(written, 66 * kMiB);
    EXPECT_GT(written, 20 * kMiB) << "it is used";
    EXPECT_GT(metrics.budget_refused.get(), 20u);
    EXPECT_LT(metrics.budget_left_permille.get(), 500u);
    while (n < 230) put(n++, Durability::nvme);
    EXPECT_GT(metrics.write_bytes[kNvme].get(), written + 60 * kMiB) << "always";
    EXPECT_EQ(metrics.budget_left_permille.get(), 0u);
    EXPECT_EQ(metrics.budget_spent_bytes.get(), metrics.write_bytes[kNvme].get());
    const uint64_t refused = metrics.budget_refused.get();
    const uint64_t before = metrics.write_bytes[kNvme].get();
    while (n < 240) put(n++, Durability::memory);
    EXPECT_EQ(metrics.write_bytes[kNvme].get(), before);
    EXPECT_GT(metrics.budget_refused.get(), refused);
    world.clock.advance(seconds(6 * 3600));
    while (n < 250) put(n++, Durability::memory);
    EXPECT_GT(metrics.write_bytes[kNvme].get(), before)
        << "a new day; left " << metrics.budget_left_permille.get() << " refused "
        << metrics.budget_refused.get() << " unworthy " << metrics.demotions_unworthy.get();
    EXPECT_GT(metrics.devices[0].drive_writes_milli.get(), 0u);
  }
}

TEST(NvmeBudgetTest, without_a_budget_nothing_is_refused) {
  StoreWorld world(6);
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < 40; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n, {700'000}), Durability::memory).ok());
  }
  EXPECT_EQ(world.store->metrics().budget_refused.get(), 0u);
  EXPECT_EQ(world.store->metrics().budget_spent_bytes.get(), 0u);
}
}  // namespace
}  // namespace terrace
