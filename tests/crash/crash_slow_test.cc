// Goal: as crash_test.cc, over far more power cuts.
// Method: the same run with other seeds, 20,000 lives; 10,000 that memory survives; and 24,000 with
// two or three devices of which one is away.
#include <gtest/gtest.h>

#include "tests/crash/crash_run.h"

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
}  // namespace
}  // namespace terrace::testing
