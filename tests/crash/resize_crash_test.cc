// Goal: a power cut at any step of a device of nvme becoming smaller or larger loses nothing that
// was acknowledged as nvme, and the node starts with a device of the old size or the new one.
// Method: tests/crash/resize_run.h. The canary cuts more than it was told to and must be caught by
// the same run.
#include <gtest/gtest.h>

#include "tests/crash/resize_run.h"

namespace terrace::testing {
namespace {

TEST(ResizeCrashTest, no_power_cut_while_a_device_is_resized_loses_anything) {
  ResizeResult all;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const ResizeResult result = ResizeRun(seed, 0).run(8);
    ASSERT_EQ(result.lost, 0u) << "seed " << seed;
    ASSERT_EQ(result.wrong, 0u) << "seed " << seed;
    all.cuts += result.cuts;
    all.shrunk += result.shrunk;
    all.grown += result.grown;
    all.unchanged += result.unchanged;
  }
  RecordProperty("cuts", static_cast<int>(all.cuts));
  EXPECT_EQ(all.cuts, 48u) << "in the middle of it";
  EXPECT_GE(all.shrunk, 8u);
  EXPECT_GE(all.grown, 8u);
  EXPECT_GE(all.unchanged, 15u);
}

TEST(ResizeCrashTest, the_canary_that_cuts_off_more_is_caught) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    const ResizeResult result = ResizeRun(seed, 8 * kMiB).run(100);
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 2u);
}
}  // namespace
}  // namespace terrace::testing
