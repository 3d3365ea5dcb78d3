// Goal: a node that is killed at any step, and whose memory survives, serves no wrong byte, has
// what it acknowledged, from memory or from nvme, and has nothing whose erase was acknowledged;
// also when it is killed while it takes back, and when bits flip in what it takes back. Method: as
// crash_test.cc, with a keeper; the kill loses what was not synced, too. The canary finds memory
// that is older than the kill, and must be caught.
#include <gtest/gtest.h>

#include "tests/crash/crash_run.h"

namespace terrace::testing {
namespace {

TEST(WarmCrashTest, no_kill_loses_or_raises_what_was_acknowledged) {
  uint64_t cuts = 0, taken_back = 0, starts_cut = 0, slabs_replaced = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 60, .warm = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_EQ(result.failed_checks, 0u) << "what was committed is whole; seed " << seed;
    cuts += result.cuts_under_way;
    taken_back += result.taken_back;
    starts_cut += result.starts_cut;
    slabs_replaced += result.slabs_replaced;
  }
  RecordProperty("cuts", static_cast<int>(cuts));
  RecordProperty("taken_back", static_cast<int>(taken_back));
  EXPECT_GE(cuts, 800u) << "in the middle of work";
  EXPECT_GE(taken_back, 5'000u);
  EXPECT_GE(starts_cut, 50u);
  EXPECT_GE(slabs_replaced, 30u);
}

TEST(WarmCrashTest, no_kill_gives_wrong_bytes_while_both_tiers_are_reused) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const CrashResult result = run_lives(
        {.seed = seed, .lives = 30, .device_bytes = 2 * kMiB, .evicting = true, .warm = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_GT(result.evictions, 0u) << "seed " << seed;
  }
}

TEST(WarmCrashTest, no_kill_costs_a_promise_while_dram_is_resized) {
  uint64_t cuts = 0, taken_back = 0, resizes = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const CrashResult result =
        run_lives({.seed = seed, .lives = 40, .warm = true, .resizes = true});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    EXPECT_EQ(result.failed_checks, 0u) << "what was committed is whole; seed " << seed;
    cuts += result.cuts_under_way;
    taken_back += result.taken_back;
    resizes += result.resizes;
  }
  EXPECT_GE(cuts, 300u) << "in the middle of work";
  EXPECT_GE(taken_back, 500u);
  EXPECT_GE(resizes, 100u);
}

TEST(WarmCrashTest, flipped_bits_are_misses) {
  uint64_t failed_checks = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 40, .warm = true, .flips = 60});
    ASSERT_EQ(result.failure, "") << "seed " << seed;
    ASSERT_EQ(result.wrong, 0u) << "seed " << seed;
    failed_checks += result.failed_checks;
  }
  EXPECT_GE(failed_checks, 50u);
}

TEST(WarmCrashTest, the_canary_with_older_memory_is_caught) {
  uint64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const CrashResult result = run_lives({.seed = seed, .lives = 40, .warm = true, .stale = true});
    if (result.risen > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 5u);
}
}  // namespace
}  // namespace terrace::testing
