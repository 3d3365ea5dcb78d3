// Goal: with several devices an object lies on one, a device that is full, broken, hanging, slow,
// draining or missing costs only what is there, and it comes back with what it has.
// Method: a store on two or three simulated devices; faults are injected into one of them.
#include <gtest/gtest.h>

#include <map>

#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;
constexpr auto kDram = static_cast<size_t>(Tier::dram);

void put_objects(StoreWorld& world, uint64_t from, uint64_t to) {
  for (uint64_t n = from; n < to; ++n) {
    const Status put = world.driver->put(TestObject(n), Durability::nvme);
    ASSERT_TRUE(put.ok()) << n << ": " << put.to_string();
  }
}

/// Objects of [0, count) that are read whole; the others must be misses. `lost`: those on a place.
void expect_all_but(StoreWorld& world, uint64_t count, const std::map<ChunkKey, uint16_t>& where,
                    uint16_t lost) {
  for (uint64_t n = 0; n < count; ++n) {
    const TestObject object(n);
    const bool there = where.at(object.key) != lost;
    EXPECT_EQ(world.store->find(world.driver->ns, object.key).has_value(), there) << n;
    const Status got = world.driver->get(object);
    EXPECT_EQ(got.ok(), there) << n << ": " << got.to_string();
    EXPECT_NE(got.code(), StatusCode::kInternal);
  }
}

class NvmeDevicesTest : public ::testing::Test {
 protected:
  explicit NvmeDevicesTest() : world_(77) {
    world_.add_device();
    world_.config.promote_hits = 0;
  }
  /// A restart: then everything is on nvme only.
  void again() {
    world_.stop();
    ASSERT_TRUE(world_.start().ok());
  }
  StoreWorld world_;
};

TEST_F(NvmeDevicesTest, objects_spread_and_survive_a_restart) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  const auto where = world_.places();
  size_t second = 0;
  for (const auto& [key, place] : where) second += place == 1 ? 1 : 0;
  EXPECT_GT(second, 10u);
  EXPECT_LT(second, 30u);
  again();
  EXPECT_EQ(world_.store->metrics().recovered_objects.get(), 40u);
  expect_all_but(world_, 40, where, 9);
}

TEST_F(NvmeDevicesTest, a_missing_device_costs_its_objects_and_brings_them_back) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  auto where = world_.places();
  world_.stop();
  world_.absent = {1};
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::missing);
  expect_all_but(world_, 40, where, 1);
  EXPECT_GT(world_.store->metrics().device_misses.get(), 0u);
  // Of what was there: one is put anew, one is erased, the others wait.
  std::vector<uint64_t> gone;
  for (uint64_t n = 0; n < 40; ++n) {
    if (where[TestObject(n).key] == 1) gone.push_back(n);
  }
  ASSERT_GE(gone.size(), 3u);
  ASSERT_TRUE(world_.driver->put(TestObject(gone[0]), Durability::nvme).ok());
  EXPECT_TRUE(world_.driver->get(TestObject(gone[0])).ok());
  ASSERT_TRUE(world_.driver->erase(TestObject(gone[1])).ok());
  world_.stop();
  world_.absent.clear();
  ASSERT_TRUE(world_.start().ok());
  for (uint64_t n = 0; n < 40; ++n) {
    EXPECT_EQ(world_.driver->get(TestObject(n)).ok(), n != gone[1]) << n;
  }
}

TEST_F(NvmeDevicesTest, a_device_that_is_unknown_loses_its_rows) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  const auto where = world_.places();
  world_.stop();
  auto kept = std::move(world_.others);
  world_.others.clear();  // forgotten: the store never hears of it
  ASSERT_TRUE(world_.start().ok());
  EXPECT_GT(world_.store->metrics().recovery_dropped_rows.get(), 0u);
  expect_all_but(world_, 40, where, 1);
  world_.stop();
  for (auto& each : kept) world_.others.push_back(std::move(each));
  ASSERT_TRUE(world_.start().ok());
  expect_all_but(world_, 40, where, 1);
}

TEST_F(NvmeDevicesTest, more_than_16_tib_of_a_device_are_refused) {
  StoreWorld world(81, uint64_t{17} << 40);
  EXPECT_EQ(world.start().code(), StatusCode::kInvalidArgument);
}

TEST_F(NvmeDevicesTest, what_one_refuses_another_gets) {
  for (const StatusCode code : {StatusCode::kResourceExhausted, StatusCode::kDataLoss,
                                StatusCode::kPermissionDenied, StatusCode::kInternal}) {
    StoreWorld world(78);
    sim::SimDevice& second = world.add_device();
    ASSERT_TRUE(world.start().ok());
    second.fail(0, error(code, "broken"), true);
    put_objects(world, 0, 30);
    EXPECT_GT(world.store->metrics().device_retries.get(), 0u);
    for (const auto& [key, place] : world.places()) EXPECT_EQ(place, 0);
    EXPECT_LT(world.store->metrics().device_retries.get(), 12u) << "soon it is left alone";
    EXPECT_EQ(world.store->devices()[1].health, DeviceHealth::fenced);
    second.heal();
    world.wait(seconds(11));
    EXPECT_EQ(world.store->devices()[1].health, DeviceHealth::ok);
    put_objects(world, 30, 50);
    EXPECT_GT(world.store->devices()[1].used, 0u);
  }
}

TEST_F(NvmeDevicesTest, a_device_whose_reads_fail_is_fenced_and_answers_again) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 60);
  const auto where = world_.places();
  again();
  world_.others[0]->fail(0, error(StatusCode::kUnavailable, "gone"), true);
  for (uint64_t n = 0; n < 60; ++n) {
    EXPECT_EQ(world_.driver->get(TestObject(n)).ok(), where.at(TestObject(n).key) == 0) << n;
  }
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::fenced);
  EXPECT_EQ(world_.store->metrics().devices[1].fences.get(), 1u);
  expect_all_but(world_, 60, where, 1);
  world_.others[0]->heal();
  world_.wait(seconds(6));
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::ok);
  expect_all_but(world_, 60, where, 9);
}

/// EIO, of read after read, says that the device is in trouble, not that all that lies there is
/// lost.
void read_errors_cost_one(StoreWorld& world, uint16_t place) {
  ASSERT_TRUE(world.start().ok());
  put_objects(world, 0, 40);
  const auto where = world.places();
  world.stop();
  ASSERT_TRUE(world.start().ok());
  world.device_at(place).fail(0, error(StatusCode::kDataLoss, "EIO"), true);
  size_t there = 0;
  for (uint64_t n = 0; n < 40; ++n) {
    if (where.at(TestObject(n).key) != place) continue;
    ++there;
    EXPECT_FALSE(world.driver->get(TestObject(n)).ok()) << n;
  }
  EXPECT_GE(there, 10u);
  world.device_at(place).heal();
  world.wait(seconds(6));
  size_t lost = 0;
  for (uint64_t n = 0; n < 40; ++n) lost += world.driver->get(TestObject(n)).ok() ? 0 : 1;
  EXPECT_LE(lost, 1u);
  world.stop();
  ASSERT_TRUE(world.start().ok());
  EXPECT_GE(world.store->metrics().recovered_objects.get(), 39u);
}

TEST_F(NvmeDevicesTest, a_burst_of_read_errors_costs_one_object_at_most) {
  read_errors_cost_one(world_, 1);
  StoreWorld alone(80);
  alone.config.promote_hits = 0;
  read_errors_cost_one(alone, 0);
}

TEST_F(NvmeDevicesTest, a_request_that_never_returns_does_not_fence_a_device_that_answers) {
  world_.config.staging_bytes = 16 * kMiB;  // one of them is lost with the request
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  const auto where = world_.places();
  again();
  uint64_t first = 0;
  while (where.at(TestObject(first).key) != 1) ++first;
  world_.others[0]->hang();
  EXPECT_FALSE(world_.driver->get(TestObject(first)).ok());
  world_.wait(seconds(6));
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::fenced);
  world_.others[0]->answer_again();
  world_.wait(seconds(7));
  for (int i = 0; i < 10; ++i) {
    world_.wait(seconds(3));
    EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::ok) << i;
  }
  expect_all_but(world_, 40, where, 9);
}

TEST_F(NvmeDevicesTest, a_device_that_hangs_is_fenced_and_comes_back) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  const auto where = world_.places();
  again();
  world_.others[0]->hang();
  for (uint64_t n = 0; n < 40; ++n) {
    if (where.at(TestObject(n).key) != 1) continue;
    EXPECT_FALSE(world_.driver->get(TestObject(n)).ok());
    break;
  }
  world_.wait(seconds(6));
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::fenced);
  expect_all_but(world_, 40, where, 1);
  const Nanos begin = world_.clock.now();
  put_objects(world_, 100, 120);
  EXPECT_LT(world_.clock.now() - begin, seconds(2)) << "nobody waits for it";
  world_.others[0]->let_go();
  world_.wait(seconds(1));
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::ok);
  expect_all_but(world_, 40, where, 9);
}

TEST_F(NvmeDevicesTest, a_draining_device_gets_nothing_new_and_is_read) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 20);
  const auto where = world_.places();
  EXPECT_EQ(world_.store->drain_device(7).code(), StatusCode::kNotFound);
  ASSERT_TRUE(world_.store->drain_device(1).ok());
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::draining);
  put_objects(world_, 100, 120);
  for (const auto& [key, place] : world_.places()) {
    EXPECT_TRUE(where.contains(key) || place == 0);
  }
  ASSERT_TRUE(world_.store->undrain(1).ok());
  put_objects(world_, 200, 220);
  EXPECT_EQ(world_.store->devices()[1].health, DeviceHealth::ok);
}

TEST_F(NvmeDevicesTest, eviction_makes_room_where_objects_go) {
  StoreWorld world(79, 3 * kMiB);
  world.add_device(48 * kMiB);
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < 20; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n, {90'000}), Durability::nvme).ok());
  }
  const uint64_t there = world.store->devices()[1].used;
  ASSERT_TRUE(world.store->drain_device(1).ok());
  for (uint64_t n = 100; n < 160; ++n) {
    const Status put = world.driver->put(TestObject(n, {90'000}), Durability::nvme);
    ASSERT_TRUE(put.ok()) << put.to_string();
  }
  EXPECT_EQ(world.store->devices()[1].used, there) << "nothing there had to go";
  EXPECT_EQ(world.store->metrics().devices[0].health.get(), 0u);
  EXPECT_GT(world.store->metrics().evictions[static_cast<size_t>(Tier::nvme)].get(), 0u);
  EXPECT_GE(world.store->metrics().evictions[kDram].get(), 0u);
}

/// Empties place 1; how many objects it moved.
uint64_t empty(StoreWorld& world) {
  EXPECT_TRUE(world.store->drain_device(1).ok());
  const auto pass = std::make_shared<EmptyPass>();
  pass->place = 1;
  EXPECT_TRUE(world.driver->until([&] { return world.store->empty_step(pass.get()); }));
  EXPECT_EQ(pass->failed, 0u);
  return pass->done;
}

TEST_F(NvmeDevicesTest, a_device_is_emptied_and_can_be_taken_away) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  again();
  EXPECT_GT(empty(world_), 10u);
  const uint64_t used = world_.store->devices()[1].used;
  EXPECT_EQ(used, 0u);
  for (const auto& [key, place] : world_.places()) EXPECT_EQ(place, 0);
  world_.stop();
  world_.absent.insert(1);
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(world_.store->metrics().recovered_objects.get(), 40u);
  for (uint64_t n = 0; n < 40; ++n) EXPECT_TRUE(world_.driver->get(TestObject(n)).ok()) << n;
}

TEST_F(NvmeDevicesTest, a_power_cut_while_a_device_is_emptied_loses_nothing) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    StoreWorld world(900 + seed);
    world.add_device();
    ASSERT_TRUE(world.start().ok());
    put_objects(world, 0, 16);
    world.stop();
    ASSERT_TRUE(world.start().ok());
    ASSERT_TRUE(world.store->drain_device(1).ok());
    const auto pass = std::make_shared<EmptyPass>();
    pass->place = 1;
    world.disk.cut_after(1 + seed * 7);
    for (int turns = 0; turns < 3000 && world.disk.powered(); ++turns) {
      if (world.store->empty_step(pass.get())) break;
      world.turn();
    }
    world.crash();
    ASSERT_TRUE(world.start().ok()) << seed;
    for (uint64_t n = 0; n < 16; ++n) {
      EXPECT_TRUE(world.driver->get(TestObject(n)).ok()) << "seed " << seed << " object " << n;
    }
  }
}

TEST_F(NvmeDevicesTest, objects_erased_and_read_while_their_device_is_emptied) {
  ASSERT_TRUE(world_.start().ok());
  put_objects(world_, 0, 40);
  again();
  ASSERT_TRUE(world_.store->drain_device(1).ok());
  const auto pass = std::make_shared<EmptyPass>();
  pass->place = 1;
  Prng prng(5);
  std::set<uint64_t> erased;
  for (int turns = 0; turns < 100'000 && !world_.store->empty_step(pass.get()); ++turns) {
    const uint64_t n = prng.below(40);
    if (turns % 3 == 0 && erased.size() < 12) {
      if (world_.driver->erase(TestObject(n)).ok()) erased.insert(n);
    }
    const Status got = world_.driver->get(TestObject(n));
    EXPECT_EQ(got.ok(), !erased.contains(n)) << n << ": " << got.to_string();
  }
  again();
  for (uint64_t n = 0; n < 40; ++n) {
    EXPECT_EQ(world_.driver->get(TestObject(n)).ok(), !erased.contains(n)) << n;
  }
}
}  // namespace
}  // namespace terrace
