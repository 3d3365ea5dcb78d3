// Goal: full tiers never wedge. Puts keep coming for ten minutes of the node's time, objects of all
// sizes, durable and not, chains that are used again, pins that come and go, a device that hangs
// for a while: each put ends in bounded time, a refused one counts under its reason, probes keep
// nothing alive, and no byte is wrong. Method: a store on simulated media with tiers a few hundred
// times smaller than what is put, for several seeds and both policies.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "base/prng.h"
#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

constexpr Nanos kRun = std::chrono::minutes(10);
constexpr size_t kPinsMax = 12;

struct Load {
  uint64_t puts = 0;
  uint64_t stored = 0;
  uint64_t refused = 0;
  uint64_t refused_in_a_row_max = 0;
  uint64_t bytes = 0;
  std::vector<Nanos> latencies;
};

uint64_t counted_refusals(const StoreMetrics& m) {
  return m.puts_refused_space.get() + m.puts_refused_quota.get() + m.puts_refused_in_flight.get() +
         m.puts_refused_device.get() + m.puts_refused_invalid.get() + m.puts_failed_device.get();
}

class PressureTest : public ::testing::TestWithParam<std::tuple<PolicyKind, uint64_t>> {
 protected:
  void run(Load* load) {
    uint64_t in_a_row = 0;
    while (world_.clock.now() - began_ < kRun) {
      hang_for_a_while();
      const TestObject object = next_object();
      const bool durable = prng_.below(8) == 0;
      const Nanos before = world_.clock.now();
      const Status put =
          world_.driver->put(object, durable ? Durability::nvme : Durability::memory);
      load->latencies.push_back(world_.clock.now() - before);
      ++load->puts;
      in_a_row = put.ok() ? 0 : in_a_row + 1;
      load->refused_in_a_row_max = std::max(load->refused_in_a_row_max, in_a_row);
      if (put.ok()) {
        ++load->stored;
        load->bytes += object.bytes();
        ASSERT_NO_FATAL_FAILURE(use(object));
      } else {
        ++load->refused;
        const bool known = put.code() == StatusCode::kResourceExhausted ||
                           put.code() == StatusCode::kDeadlineExceeded ||
                           put.code() == StatusCode::kUnavailable;
        ASSERT_TRUE(known) << put.to_string();
      }
      world_.clock.advance(milliseconds(prng_.below(60)));  // else ten minutes take too long
    }
  }

  /// From a third of the run on, for two seconds, while puts go on.
  void hang_for_a_while() {
    const Nanos at = world_.clock.now() - began_;
    const bool hang = at > kRun / 3 && at < kRun / 3 + seconds(2);
    if (hang == hanging_) return;
    hanging_ = hang;
    hang ? world_.device.hang() : world_.device.let_go();
  }

  TestObject next_object() {
    const uint64_t kind = prng_.below(10);
    const uint64_t bytes = kind < 6   ? 4096 + prng_.below(60'000)
                           : kind < 9 ? 4096 + prng_.below(300'000)
                                      : kMiB / 2 + prng_.below(kMiB / 2);
    return TestObject(next_++, {bytes});
  }

  /// A chain of the last few, a pin now and then, a read of something old, many probes.
  void use(const TestObject& object) {
    chain_.push_back(object);
    if (chain_.size() > 8) chain_.pop_front();
    if (prng_.below(4) == 0) {
      std::vector<ChunkKey> keys;
      for (const TestObject& each : chain_) keys.push_back(each.key);
      world_.store->touch(world_.driver->ns, keys);
    }
    if (prng_.below(6) == 0) {
      StatusOr<Pin> pin = world_.store->pin(world_.driver->ns, object.key);
      if (pin.ok()) pins_.push_back(std::move(*pin));
      if (pins_.size() > kPinsMax) pins_.pop_front();
    }
    if (prng_.below(6) == 0) {
      const Status read = world_.driver->get(chain_[prng_.below(chain_.size())]);
      ASSERT_NE(read.code(), StatusCode::kInternal) << read.to_string();
      ASSERT_NE(read.code(), StatusCode::kDataLoss) << read.to_string();
    }
    for (int i = 0; i < 20; ++i) (void)world_.store->find(world_.driver->ns, first_.key);
  }

  StoreWorld world_{std::get<1>(GetParam())};
  Prng prng_{std::get<1>(GetParam())};
  Nanos began_{0};
  uint64_t next_ = 1;
  const TestObject first_{0, {50'000}};
  std::deque<TestObject> chain_;
  std::deque<Pin> pins_;
  bool hanging_ = false;
};

TEST_P(PressureTest, full_tiers_take_puts_in_bounded_time) {
  world_.config.policy = std::get<0>(GetParam());
  world_.config.dram_bytes = 8 * kMiB;
  ASSERT_TRUE(world_.start().ok());
  ASSERT_TRUE(world_.driver->put(first_, Durability::memory).ok());
  began_ = world_.clock.now();
  Load load;
  ASSERT_NO_FATAL_FAILURE(run(&load));
  std::sort(load.latencies.begin(), load.latencies.end());
  const Nanos p99 = load.latencies[load.latencies.size() * 99 / 100];
  RecordProperty("puts", static_cast<int>(load.puts));
  RecordProperty("refused", static_cast<int>(load.refused));
  RecordProperty("put_p99_us", static_cast<int>(p99 / microseconds(1)));
  EXPECT_GT(load.bytes, 40 * 56 * kMiB) << "not enough to fill the tiers many times";
  EXPECT_LT(p99, milliseconds(500));
  EXPECT_LT(load.latencies.back(), 2 * world_.config.device_timeout) << "data, then flush";
  EXPECT_LT(load.refused_in_a_row_max, 50u) << "wedged";
  EXPECT_LT(load.refused, load.puts / 10);
  EXPECT_EQ(counted_refusals(world_.store->metrics()), load.refused);
  EXPECT_FALSE(world_.store->find(world_.driver->ns, first_.key)) << "kept alive by probes";
  const ChunkStore::TierUse nvme = world_.store->tier_use(Tier::nvme);
  EXPECT_GT(nvme.used, nvme.capacity / 2);
  pins_.clear();
}

INSTANTIATE_TEST_SUITE_P(Seeds, PressureTest,
                         ::testing::Combine(::testing::Values(PolicyKind::value, PolicyKind::lru),
                                            ::testing::Values(1, 2)));
}  // namespace
}  // namespace terrace
