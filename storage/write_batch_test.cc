// Goal: small objects reach nvme many in one write, each of them whole, its own, and gone when it
// was erased; a write that fails costs nothing but time. Method: bursts of small puts on the
// simulated device, with errors at every write, erases and power cuts in between.
#include <gtest/gtest.h>

#include "storage/device_queue.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

TestObject small(uint64_t n) {
  return TestObject(n, {1 + n * 397 % 24'000, 1 + n % 3000});
}

/// Every second one is too large for a batch.
TestObject mixed(uint64_t n) {
  return n % 2 == 0 ? small(n) : TestObject(n, {300'000});
}

class WriteBatchTest : public ::testing::Test {
 protected:
  void begin(StoreWorld& world) {
    world.config.dram_bytes = 16 * kMiB;
    world.config.demote_on_close = false;
    ASSERT_TRUE(world.start().ok());
  }
  /// Puts that are committed at once, so that their write-back is wanted at once.
  void burst(StoreWorld& world, uint64_t from, uint64_t to,
             TestObject (*object)(uint64_t) = small) {
    struct One {
      ChunkWriter writer;
      Waiting opened, committed;
    };
    std::vector<std::unique_ptr<One>> all;
    for (uint64_t n = from; n < to; ++n) {
      all.push_back(std::make_unique<One>());
      One& one = *all.back();
      const PutSpec spec = world.driver->spec_of(object(n), Durability::memory);
      ASSERT_TRUE(world.store->open_writer(spec, &one.writer, &one.opened).ok());
    }
    for (uint64_t n = from; n < to; ++n) {
      One& one = *all[n - from];
      ASSERT_TRUE(world.driver->wait(&one.opened).ok());
      ASSERT_TRUE(world.driver->fill(&one.writer, object(n)).ok());
    }
    for (auto& one : all) ASSERT_TRUE(world.store->commit(&one->writer, &one->committed).ok());
    for (auto& one : all) ASSERT_TRUE(world.driver->wait(&one->committed).ok());
  }
  uint64_t on_nvme(StoreWorld& world, uint64_t count) {
    uint64_t there = 0;
    for (uint64_t n = 0; n < count; ++n) {
      const auto info = world.store->find(world.driver->ns, small(n).key);
      if (info && (info->tiers & mask_of(Tier::nvme)) != 0) ++there;
    }
    return there;
  }
};

TEST_F(WriteBatchTest, a_burst_is_written_in_few_writes_and_read_back) {
  StoreWorld world(1);
  begin(world);
  burst(world, 0, 300);
  ASSERT_TRUE(world.driver->until([&] { return on_nvme(world, 300) == 300; }));
  const StoreMetrics& metrics = world.store->metrics();
  EXPECT_GT(metrics.write_batched_objects.get(), 250u);
  EXPECT_LT(metrics.writes[kNvme].get(), 60u);
  world.stop();
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < 300; ++n) {
    Tier tier = Tier::hbm;
    ASSERT_TRUE(world.driver->get(small(n), &tier).ok()) << n;
    EXPECT_EQ(tier, Tier::nvme);
  }
  // Each goes alone: the space of its neighbours is theirs.
  for (uint64_t n = 0; n < 300; n += 2) ASSERT_TRUE(world.driver->erase(small(n)).ok());
  burst(world, 300, 400);
  for (uint64_t n = 1; n < 300; n += 2) ASSERT_TRUE(world.driver->get(small(n)).ok()) << n;
}

TEST_F(WriteBatchTest, large_ones_between_small_ones_do_not_make_them_wait) {
  StoreWorld world(2);
  begin(world);
  world.device.hang();
  burst(world, 0, 24, mixed);
  for (int i = 0; i < 20; ++i) world.turn();
  constexpr auto kWrite = static_cast<size_t>(IoKind::write);
  EXPECT_GE(world.store->metrics().device_in_flight[kWrite].get(), 6u);
  world.device.let_go();
  ASSERT_TRUE(world.driver->until([&] { return on_nvme(world, 24) == 24; }));
  for (uint64_t n = 0; n < 24; ++n) ASSERT_TRUE(world.driver->get(mixed(n)).ok()) << n;
}

TEST_F(WriteBatchTest, a_write_that_fails_costs_nothing_but_time) {
  for (const StatusCode code : {StatusCode::kDataLoss, StatusCode::kUnavailable}) {
    for (uint64_t skip = 0; skip < 12; ++skip) {
      StoreWorld world(skip);
      world.add_device();
      begin(world);
      world.device_at(skip % 2).fail(skip / 2, error(code, "broken"));
      burst(world, 0, 200);
      EXPECT_TRUE(world.driver->until([&] { return on_nvme(world, 200) >= 199; })) << skip;
      for (uint64_t n = 0; n < 200; ++n) ASSERT_TRUE(world.driver->get(small(n)).ok()) << n;
      world.stop();
      ASSERT_TRUE(world.start().ok());
      uint64_t there = 0;
      for (uint64_t n = 0; n < 200; ++n) {
        const Status got = world.driver->get(small(n));
        ASSERT_NE(got.code(), StatusCode::kInternal);
        there += got.ok() ? 1 : 0;
      }
      EXPECT_GE(there, 199u) << skip;
    }
  }
}

TEST_F(WriteBatchTest, erased_on_the_way_is_erased) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    StoreWorld world(seed);
    begin(world);
    burst(world, 0, 150);
    for (uint64_t i = 0; i < seed; ++i) world.turn();
    std::vector<std::unique_ptr<Waiting>> erased;
    for (uint64_t n = 0; n < 150; n += 3) {
      erased.push_back(std::make_unique<Waiting>());
      ASSERT_TRUE(world.store->erase(world.driver->ns, small(n).key, erased.back().get()).ok());
    }
    for (auto& each : erased) ASSERT_TRUE(world.driver->wait(each.get()).ok());
    world.crash();
    ASSERT_TRUE(world.start().ok());
    for (uint64_t n = 0; n < 150; ++n) {
      const Status got = world.driver->get(small(n));
      ASSERT_NE(got.code(), StatusCode::kInternal) << n;
      ASSERT_TRUE(n % 3 != 0 || !got.ok()) << n << " is back; seed " << seed;
    }
  }
}

TEST_F(WriteBatchTest, no_power_cut_gives_wrong_bytes) {
  for (uint64_t steps = 0; steps < 120; ++steps) {
    StoreWorld world(steps);
    begin(world);
    world.disk.cut_after(steps);
    for (uint64_t n = 0; n < 80 && world.disk.powered(); ++n) {
      (void)world.driver->put(small(n), Durability::memory);
    }
    for (int i = 0; i < 200 && world.disk.powered(); ++i) world.turn();
    world.crash();
    ASSERT_TRUE(world.start().ok());
    for (uint64_t n = 0; n < 80; ++n) {
      ASSERT_NE(world.driver->get(small(n)).code(), StatusCode::kInternal) << n;
    }
  }
}
}  // namespace
}  // namespace terrace
