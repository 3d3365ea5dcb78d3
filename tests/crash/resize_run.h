// tests/crash/resize_run.h - power cuts in the middle of a device of nvme becoming smaller or
// larger. A store on a simulated device whose first 64 MiB are full, so that small objects lie
// where it is cut; a shrink or a growth begins while others are put and erased, and the power goes
// after a number of steps that the seed picks.
#pragma once
#include <gtest/gtest.h>

#include <set>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace::testing {

struct ResizeResult {
  uint64_t cuts = 0;    // while the resize ran
  uint64_t shrunk = 0;  // resizes that a node found done at its next start
  uint64_t grown = 0;   // the same
  uint64_t unchanged = 0;
  uint64_t lost = 0;
  uint64_t wrong = 0;
};

class ResizeRun {
 public:
  /// `too_much`: of a canary, bytes that the device cuts off more than it was told to.
  ResizeRun(uint64_t seed, uint64_t too_much) : world_(seed, 2 * kRegion), prng_(seed * 7 + 1) {
    world_.config.dram_bytes = 8 * kMiB;
    world_.config.promote_hits = 0;
    world_.device.cut_too_much(too_much);
  }

  /// Until so many cuts came in the middle of a resize, or one cost something. How many steps a
  /// resize takes is the threads' business, too.
  ResizeResult run(uint64_t cuts) {
    EXPECT_TRUE(world_.start().ok());
    for (uint64_t n = kSpare; n < kBallast; ++n) put(ballast(n));
    for (int life = 0; life < kLivesMax && result_.cuts < cuts; ++life) {
      if (::testing::Test::HasFailure() || result_.lost > 0) break;
      live();
    }
    return result_;
  }

 private:
  static constexpr uint64_t kRegion = 64 * kMiB;
  static constexpr uint64_t kBallast = 63;
  static constexpr uint64_t kSpare = 6;  // of the ballast, that leaves to make room
  static constexpr uint64_t kSmall = 16;
  static constexpr int kLivesMax = 400;

  static TestObject ballast(uint64_t n) { return TestObject(1000 + n, {kMiB - 4096}); }

  void put(const TestObject& object) {
    const Status put = world_.driver->put(object, Durability::nvme);
    if (put.ok() || put.code() == StatusCode::kAlreadyExists) kept_.insert(object.number);
  }
  void erase(const TestObject& object) {
    kept_.erase(object.number);
    (void)world_.driver->erase(object);
  }

  void live() {
    const bool shrink = world_.device.size_bytes() > kRegion;
    if (shrink) lay_out();
    const uint64_t from = world_.device.size_bytes();
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::nvme;
    pass->target = shrink ? kRegion : 2 * kRegion;
    const uint64_t steps = !shrink ? 3 : prng_.chance(50) ? 25 : 250;  // half of them end before
    world_.disk.cut_after(prng_.below(steps));
    EXPECT_TRUE(world_.store->resize(pass).ok());
    world_.driver->until([&] {
      if (prng_.chance(5)) put(TestObject(100 + prng_.below(20)));
      if (prng_.chance(2)) erase(TestObject(prng_.below(kSmall)));
      return pass->over || !world_.disk.powered();
    });
    if (!pass->over) ++result_.cuts;
    world_.crash();
    const uint64_t now = world_.device.size_bytes();
    EXPECT_TRUE(now == from || now == pass->target || too_far(now)) << now;
    ++(now == from ? result_.unchanged : shrink ? result_.shrunk : result_.grown);
    const Status started = world_.start();
    ASSERT_TRUE(started.ok()) << started.to_string();
    check();
  }

  static bool too_far(uint64_t bytes) { return bytes % kRegion != 0; }  // of the canary

  /// The first 64 MiB are full when the small ones come; then some of it is free again.
  void lay_out() {
    for (uint64_t n = 0; n < kSmall; ++n) erase(TestObject(n));
    for (uint64_t n = 0; n < kBallast; ++n) put(ballast(n));
    for (uint64_t n = 0; n < kSmall; ++n) put(TestObject(n));
    for (uint64_t n = 0; n < kSpare; ++n) erase(ballast(n));
  }

  /// All small objects, and an eighth of the large ones in turn.
  void check() {
    ++checks_;
    for (const uint64_t number : kept_) {
      if (number >= 1000 && number % 8 != checks_ % 8) continue;
      const TestObject object = number >= 1000 ? ballast(number - 1000) : TestObject(number);
      const Status got = world_.driver->get(object);
      if (got.code() == StatusCode::kInternal) ++result_.wrong;
      if (!got.ok()) ++result_.lost;
    }
  }

  StoreWorld world_;
  Prng prng_;
  std::set<uint64_t> kept_;  // numbers of what is promised
  uint64_t checks_ = 0;
  ResizeResult result_;
};
}  // namespace terrace::testing
