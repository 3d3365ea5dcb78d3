// Goal: what one operation does to an object never undoes what another was told: erases beside
// write-backs, puts beside waiting puts, media errors beside puts; and no tier is full for ever.
// Method: a store on simulated media, with the operations started in the order that hurts.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

TEST(StoreRaceTest, an_erased_objects_write_back_does_not_take_its_successors_row) {
  StoreWorld world(31, 128 * kMiB);
  world.config.dram_bytes = 64 * kMiB;
  world.config.device_writes_in_flight_max = 1;  // the write-back is slower than the durable put
  world.config.demote_on_close = false;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {12 * kMiB});
  ASSERT_TRUE(world.driver->put(object, Durability::memory).ok());  // its write-back begins
  Waiting erased;
  ASSERT_TRUE(world.store->erase(world.driver->ns, object.key, &erased).ok());
  EXPECT_FALSE(world.store->find(world.driver->ns, object.key));
  ASSERT_EQ(world.driver->put(object, Durability::nvme).to_string(), "OK");
  EXPECT_TRUE(world.driver->wait(&erased).ok());
  for (int i = 0; i < 50; ++i) world.turn();
  world.crash();
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.driver->get(object).to_string(), "OK");
}

TEST(StoreRaceTest, who_waits_for_an_objects_durability_is_told_when_it_is_erased) {
  StoreWorld world(36, 128 * kMiB);
  world.config.dram_bytes = 64 * kMiB;
  world.config.device_writes_in_flight_max = 1;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {12 * kMiB});
  ASSERT_TRUE(world.driver->put(object, Durability::memory).ok());
  ChunkWriter writer;
  Waiting duplicate;  // there in memory; waits for the write-back
  ASSERT_TRUE(
      world.store->open_writer(world.driver->spec_of(object, Durability::nvme), &writer, &duplicate)
          .ok());
  Waiting erased;
  ASSERT_TRUE(world.store->erase(world.driver->ns, object.key, &erased).ok());
  EXPECT_EQ(world.driver->wait(&duplicate).code(), StatusCode::kAborted);
  EXPECT_TRUE(world.driver->wait(&erased).ok());
}

TEST(StoreRaceTest, a_medium_error_is_a_miss_once_and_the_object_can_be_stored_again) {
  StoreWorld world(32);
  world.config.promote_hits = 0;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {300'000});
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  ASSERT_TRUE(world.start().ok());
  for (const uint64_t skip : {uint64_t{0}, uint64_t{1}}) {  // of its header, of its data
    world.device.fail(skip, error(StatusCode::kDataLoss, "the controller was reset"));
    EXPECT_TRUE(world.driver->get(object).ok()) << "read again; " << skip;
  }
  EXPECT_EQ(world.store->metrics().device_errors.get(), 2u);
  world.device.fail(1, error(StatusCode::kDataLoss, "a medium error"), true);
  EXPECT_EQ(world.driver->get(object).code(), StatusCode::kDataLoss);
  EXPECT_FALSE(world.store->find(world.driver->ns, object.key));
  EXPECT_EQ(world.store->metrics().quarantined_objects.get(), 1u);
  world.device.heal();
  EXPECT_TRUE(world.driver->put(object, Durability::nvme).ok());
  EXPECT_TRUE(world.driver->get(object).ok());
}

TEST(StoreRaceTest, space_that_could_not_be_written_is_not_used_again) {
  StoreWorld world(35);
  ASSERT_TRUE(world.start().ok());
  const uint64_t before = world.store->tier_use(Tier::nvme).used;
  world.device.fail(1, error(StatusCode::kDataLoss, "a medium error"));
  EXPECT_EQ(world.driver->put(TestObject(1, {300'000}), Durability::nvme).code(),
            StatusCode::kDataLoss);
  for (int i = 0; i < 20; ++i) world.turn();
  EXPECT_GE(world.store->tier_use(Tier::nvme).used, before + 300'000);
  EXPECT_TRUE(world.driver->put(TestObject(1, {300'000}), Durability::nvme).ok());
}

TEST(StoreRaceTest, a_put_leaves_its_line_when_asked_to) {
  StoreWorld world(37);
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {300'000});
  const PutSpec spec = world.driver->spec_of(object, Durability::memory);
  ChunkWriter first, second;
  Waiting first_open, second_open;
  ASSERT_TRUE(world.store->open_writer(spec, &first, &first_open).ok());
  ASSERT_TRUE(world.driver->wait(&first_open).ok());
  world.store->cancel_open(&first);  // it waits for nobody
  ASSERT_TRUE(world.store->open_writer(spec, &second, &second_open).ok());
  world.store->cancel_open(&second);
  EXPECT_EQ(world.driver->wait(&second_open).code(), StatusCode::kCancelled);
  ASSERT_TRUE(world.driver->fill(&first, object).ok());
  Waiting committed;
  ASSERT_TRUE(world.store->commit(&first, &committed).ok());
  EXPECT_TRUE(world.driver->wait(&committed).ok());
  EXPECT_TRUE(world.driver->get(object).ok());
}

class FullStoreTest : public ::testing::TestWithParam<Durability> {};

TEST_P(FullStoreTest, makes_room_for_the_new_when_it_holds_objects_max) {
  StoreWorld world(33);
  world.config.objects_max = 100;
  world.config.watermark_permille = 0;
  world.config.write_through = GetParam() == Durability::nvme;  // else they are in dram only
  ASSERT_TRUE(world.start().ok());
  uint32_t refused = 0;
  for (uint64_t n = 0; n < 300; ++n) {
    const Status put = world.driver->put(TestObject(n, {1000}), GetParam());
    if (!put.ok()) ++refused;
    for (int i = 0; i < 20; ++i) world.turn();
  }
  EXPECT_EQ(refused, 0u);
  EXPECT_LE(world.store->usage(world.driver->ns).objects, 100u);
  EXPECT_TRUE(world.driver->get(TestObject(299, {1000})).ok()) << "the youngest";
}
INSTANTIATE_TEST_SUITE_P(Durabilities, FullStoreTest,
                         ::testing::Values(Durability::memory, Durability::nvme),
                         [](const auto& durability) {
                           return durability.param == Durability::memory ? "memory" : "nvme";
                         });

TEST(ScrubberTest, goes_on_behind_a_long_run_of_erased_objects) {
  StoreWorld world(34);
  world.config.dram_bytes = 640 * kMiB;
  world.config.slab_bytes = 128 * kMiB;
  world.config.write_through = false;
  world.config.demote_on_close = false;
  world.config.scrub_period = seconds(3'000'000);
  ASSERT_TRUE(world.start().ok());
  constexpr uint64_t kAll = 65'700;
  constexpr uint64_t kErased = 65'650;
  for (uint64_t n = 0; n < kAll; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n, {1}), Durability::memory).ok()) << n;
  }
  for (uint64_t n = 0; n < kErased; ++n) ASSERT_TRUE(world.driver->erase(TestObject(n)).ok());
  world.clock.advance(seconds(3'000'001));
  for (int i = 0; i < 300; ++i) {
    world.turn();
    world.clock.advance(milliseconds(100));
  }
  EXPECT_EQ(world.store->metrics().scrub_passes.get(), 1u);
  EXPECT_EQ(world.store->metrics().scrubbed_bytes.get(), (kAll - kErased) * kMiB);
}
}  // namespace
}  // namespace terrace
