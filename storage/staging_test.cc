// Goal: buffers are shared fairly: who holds on to a quarter gets no more, who has none gets one
// while others wait for more, and who waits is served or told.
// Method: owners that take, hold and let go, on a manual clock.
#include "storage/staging.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace terrace {
namespace {

class StagingTest : public ::testing::Test {
 protected:
  using Lease = std::shared_ptr<StagingLease>;
  static constexpr size_t kBuffers = 16;
  void wait(uint64_t owner) {
    ASSERT_TRUE(staging
                    .wait({owner, 0},
                          [this, owner](Lease lease) {
                            (lease == nullptr ? late : served).push_back(owner);
                            if (lease != nullptr) held.push_back(std::move(lease));
                          })
                    .ok());
  }
  void turn() { loop->turn(Nanos(0)); }

  ManualClock clock;
  std::unique_ptr<Loop> loop = *Loop::create({}, &clock);
  Staging staging{loop.get(), *BufferPool::create(kBuffers, Staging::kBufferBytes), seconds(5)};
  std::vector<Lease> held;
  std::vector<uint64_t> served, late;
};

TEST_F(StagingTest, a_device_that_keeps_its_buffers_leaves_some_for_the_others) {
  Staging two(loop.get(), *BufferPool::create(kBuffers, Staging::kBufferBytes), seconds(5), 2);
  for (uint64_t owner = 0; owner < 2 * kBuffers; ++owner) {
    if (Lease lease = two.take({owner, 1})) held.push_back(std::move(lease));
  }
  EXPECT_EQ(held.size(), kBuffers * 2 / 3);
  for (uint64_t owner = 0; owner < 4; ++owner) {
    EXPECT_NE(two.take({owner, 0}), nullptr) << "the same owner, another device";
  }
  held.clear();
  EXPECT_TRUE(two.all_home());
}

TEST_F(StagingTest, an_owner_has_a_quarter_at_most) {
  for (size_t i = 0; i < kBuffers / 4; ++i) {
    held.push_back(staging.take({1, 0}));
    EXPECT_NE(held.back(), nullptr);
  }
  EXPECT_EQ(staging.take({1, 0}), nullptr);
  EXPECT_NE(staging.take({2, 0}), nullptr);
  held.pop_back();
  EXPECT_NE(staging.take({1, 0}), nullptr);
}

TEST_F(StagingTest, the_last_quarter_is_for_those_who_have_none) {
  for (uint64_t owner = 1; owner <= 3; ++owner) {
    for (size_t i = 0; i < kBuffers / 4; ++i) held.push_back(staging.take({owner, 0}));
  }
  for (uint64_t owner = 4; owner <= 7; ++owner) {
    held.push_back(staging.take({owner, 0}));
    ASSERT_NE(held.back(), nullptr) << owner;
    EXPECT_EQ(staging.take({owner, 0}), nullptr) << "a second one";
  }
  EXPECT_EQ(staging.take({8, 0}), nullptr) << "all are lent";
}

TEST_F(StagingTest, those_who_wait_are_served_in_turn_and_not_behind_one_who_holds) {
  for (size_t i = 0; i < kBuffers / 4; ++i) held.push_back(staging.take({1, 0}));
  for (int i = 0; i < 5; ++i) wait(1);  // holds, and wants more
  std::vector<Lease> others;
  for (uint64_t owner = 2; Lease lease = staging.take({owner, 0}); ++owner) others.push_back(lease);
  wait(50);
  wait(50);
  wait(51);
  others.pop_back();
  turn();
  others.pop_back();
  turn();
  EXPECT_EQ(served, (std::vector<uint64_t>{50, 51}));
  others.clear();
  turn();
  EXPECT_EQ(served, (std::vector<uint64_t>{50, 51, 50})) << "owner 1 still holds its quarter";
  held.clear();
  turn();
  EXPECT_EQ(served.size(), 7u) << "a quarter for owner 1";
  held.clear();
  turn();
  EXPECT_EQ(served.size(), 8u);
  held.clear();
  EXPECT_TRUE(staging.all_home());
}

TEST_F(StagingTest, who_gets_nothing_for_long_is_told) {
  for (size_t i = 0; i < kBuffers / 4; ++i) held.push_back(staging.take({1, 0}));
  wait(1);
  for (int i = 0; i < 30; ++i) {
    clock.advance(milliseconds(300));
    EXPECT_NE(staging.take({2, 0}), nullptr) << "others go on";
    turn();
  }
  EXPECT_EQ(late, (std::vector<uint64_t>{1}));
  EXPECT_TRUE(served.empty());
}

TEST_F(StagingTest, random_use_loses_no_buffer_and_no_waiter) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    served.clear();
    size_t asked = 0;
    for (int step = 0; step < 200; ++step) {
      const uint64_t owner = prng.below(6);
      if (prng.chance(60)) {
        if (Lease lease = staging.take({owner, 0})) {
          held.push_back(lease);
        } else {
          wait(owner);
          ++asked;
        }
      }
      while (!held.empty() && prng.chance(45)) {
        std::swap(held[prng.below(held.size())], held.back());
        held.pop_back();
      }
      turn();
    }
    for (int i = 0; i < 200 && served.size() < asked; ++i) {
      held.clear();
      turn();
    }
    EXPECT_EQ(served.size(), asked);
    held.clear();
    EXPECT_TRUE(staging.all_home());
    EXPECT_TRUE(late.empty());
  }
}
}  // namespace
}  // namespace terrace
