// Goal: as crash_test.cc, over far more power cuts.
// Method: the same run with other seeds, 20,000 lives; 10,000 that memory survives; 24,000 with two
// or three devices of which one is away; and 2,000 power cuts while a device is resized.
#include <gtest/gtest.h>

#include "tests/crash/crash_run.h"
#include "tests/crash/resize_run.h"

namespace terrace::testing {
namespace {

TEST(CrashSlowTest, no_power_cut_loses_what_was_acknowledged) {
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 100});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
  }
}

TEST(CrashSlowTest, with_several_devices_one_may_die_at_any_point) {
  for (uint64_t seed = 1000; seed < 4000; ++seed) {
    const uint32_t devices = 2 + static_cast<uint32_t>(seed % 2);
    const bool small = seed % 5 == 0;
    const CrashResult result = run_lives({.seed = seed,
                                          .lives = 8,
                                          .device_bytes = small ? 2 * kMiB : 48 * kMiB,
                                          .evicting = small,
                                          .devices = devices,
                                          .impaired = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
  }
}

TEST(CrashSlowTest, no_kill_loses_or_raises_what_memory_survived) {
  for (uint64_t seed = 1000; seed < 1100; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 100, .warm = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    ASSERT_EQ(result.failed_checks, 0u) << "seed " << seed;
  }
}

TEST(CrashSlowTest, no_power_cut_while_a_device_is_resized_loses_anything) {
  uint64_t cuts = 0;
  for (uint64_t seed = 1000; seed < 1250; ++seed) {
    const ResizeResult result = ResizeRun(seed, 0).run(8);
    ASSERT_EQ(result.lost, 0u) << "seed " << seed;
    ASSERT_EQ(result.wrong, 0u) << "seed " << seed;
    cuts += result.cuts;
  }
  EXPECT_EQ(cuts, 2000u) << "in the middle of it";
}
}  // namespace
}  // namespace terrace::testing
