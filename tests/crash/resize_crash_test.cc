// Goal: a power cut at any step of a device of nvme becoming smaller or larger loses nothing that
// was acknowledged as nvme, and the node starts with a device of the old size or the new one.
// Method: a store on a simulated device whose first 64 MiB are full, so that small objects lie
// where it is cut; a shrink or a growth begins while others are put and erased, and the power goes
// after a number of steps that the seed picks. The canary cuts more than it was told to and must be
// caught by the same run.
#include <gtest/gtest.h>

#include <set>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace::testing {
namespace {

constexpr uint64_t kRegion = 64 * kMiB;
constexpr uint64_t kBallast = 63;
constexpr uint64_t kSpare = 6;  // of the ballast, that leaves to make room
constexpr uint64_t kSmall = 16;
constexpr int kLivesMax = 400;

struct Result {
  uint64_t cuts = 0;    // while the resize ran
  uint64_t shrunk = 0;  // resizes that a node found done at its next start
  uint64_t grown = 0;   // the same
  uint64_t unchanged = 0;
  uint64_t lost = 0;
  uint64_t wrong = 0;
};

class ResizeRun {
 public:
  ResizeRun(uint64_t seed, uint64_t too_much) : world_(seed, 2 * kRegion), prng_(seed * 7 + 1) {
    world_.config.dram_bytes = 8 * kMiB;
    world_.config.promote_hits = 0;
    world_.device.cut_too_much(too_much);
  }

  /// Until so many cuts came in the middle of a resize, or one cost something. How many steps a
  /// resize takes is the threads' business, too.
  Result run(uint64_t cuts) {
    EXPECT_TRUE(world_.start().ok());
    for (uint64_t n = kSpare; n < kBallast; ++n) put(ballast(n));
    for (int life = 0; life < kLivesMax && result_.cuts < cuts; ++life) {
      if (::testing::Test::HasFailure() || result_.lost > 0) break;
      live();
    }
    return result_;
  }

 private:
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
  Result result_;
};

TEST(ResizeCrashTest, no_power_cut_while_a_device_is_resized_loses_anything) {
  Result all;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Result result = ResizeRun(seed, 0).run(8);
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
    const Result result = ResizeRun(seed, 8 * kMiB).run(100);
    if (result.lost > 0) ++caught;
    ASSERT_EQ(result.wrong, 0u) << "even then no wrong byte; seed " << seed;
  }
  EXPECT_EQ(caught, 2u);
}
}  // namespace
}  // namespace terrace::testing
