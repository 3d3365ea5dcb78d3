// Goal: after a power cut at any step no wrong byte is ever served, nothing that was acknowledged
// as nvme is lost, and nothing whose erase was acknowledged comes back. Method: a store on
// simulated media, used by two tenants, lives many short lives; each ends in a power cut after a
// number of device or file system steps that the seed picks. A model knows what was acknowledged.
// The canary leaves the flush out and must be caught by the same test.
#include "tests/crash/crash_run.h"

#include <gtest/gtest.h>

namespace terrace::testing {
namespace {

TEST(CrashTest, no_power_cut_loses_what_was_acknowledged) {
  uint64_t cuts = 0;
  uint64_t acknowledged = 0;
  uint64_t slabs_replaced = 0;
  for (uint64_t seed = 1; seed <= 35; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 100});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    cuts += result.cuts_under_way;
    acknowledged += result.acknowledged;
    slabs_replaced += result.slabs_replaced;
  }
  RecordProperty("cuts", static_cast<int>(cuts));
  EXPECT_GE(cuts, 3000u) << "in the middle of work";
  EXPECT_GE(acknowledged, 5000u);
  EXPECT_GE(slabs_replaced, 100u);
}

TEST(CrashTest, no_power_cut_gives_wrong_bytes_while_space_is_reused) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const CrashResult result =
        run_lives({.seed = seed, .lives = 30, .device_bytes = 2 * kMiB, .evicting = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_GT(result.evictions, 0u) << "seed " << seed;
  }
}

TEST(CrashTest, with_several_devices_one_may_die_at_any_point) {
  CrashResult all;
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    const uint32_t devices = 2 + static_cast<uint32_t>(seed % 2);
    const CrashResult result =
        run_lives({.seed = seed, .lives = 40, .devices = devices, .impaired = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    all.impaired_lives += result.impaired_lives;
    all.came_back += result.came_back;
    all.acknowledged += result.acknowledged;
  }
  EXPECT_GE(all.impaired_lives, 500u);
  EXPECT_GE(all.came_back, 100u);
  EXPECT_GE(all.acknowledged, 1000u);
}

TEST(CrashTest, no_power_cut_loses_anything_while_free_space_is_trimmed) {
  CrashResult all;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CrashOptions options{.seed = seed, .lives = 40, .trims = true};
    if (seed % 3 == 0) options.devices = 2;
    if (seed % 6 == 0) options.impaired = true;
    const CrashResult result = run_lives(options);
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_GT(result.trimmed_bytes, 0u) << "seed " << seed;
    all.cuts_under_way += result.cuts_under_way;
    all.acknowledged += result.acknowledged;
  }
  EXPECT_GE(all.cuts_under_way, 300u);
  EXPECT_GE(all.acknowledged, 1000u);
}

TEST(CrashTest, no_wrong_bytes_while_space_is_reused_and_trimmed) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const CrashResult result = run_lives(
        {.seed = seed, .lives = 30, .device_bytes = 8 * kMiB, .evicting = true, .trims = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_GT(result.trimmed_bytes, 0u) << "seed " << seed;
  }
}

TEST(CrashTest, the_canary_that_trims_more_than_is_free_is_caught) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const CrashResult result =
        run_lives({.seed = seed, .lives = 40, .trims = true, .too_much = 4 * kMiB});
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 5u);
}

TEST(CrashTest, the_canary_without_a_flush_is_caught_on_several_devices) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const CrashResult result =
        run_lives({.seed = seed, .lives = 40, .flush = false, .devices = 3, .impaired = true});
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 5u);
}

TEST(CrashTest, the_canary_without_a_flush_is_caught) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 40, .flush = false});
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 5u);
}

TEST(CrashTest, the_canary_without_a_synced_row_is_caught) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 40, .sync_rows = false});
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 5u);
}
}  // namespace
}  // namespace terrace::testing
