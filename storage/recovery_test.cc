// Goal: recovery takes back every good row and drops, counts and erases every bad one.
// Method: rows are written through the metadata store itself, good ones and ones that overlap, lie
// outside, or are nonsense; then a store is opened on them.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "storage/index.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

MetadataRow row_at(uint64_t number, uint32_t block) {
  MetadataRow row;
  row.key = TestObject(number, {1}).key;
  row.ns = NamespaceId{1};
  row.generation = 1 + number;
  row.logical_bytes = 4096;
  row.stored_bytes = 8192;
  row.sections = 1;
  row.header_crc = 1;
  row.header_bytes = 4096;
  row.extents = {{block, 2}};
  return row;
}

class RecoveryTest : public ::testing::Test {
 protected:
  /// Writes rows as an earlier life would have.
  void write(StoreWorld& world, const std::vector<MetadataRow>& rows) {
    auto metadata = *MetadataStore::open(world.metadata_options, world.loop.get());
    ASSERT_TRUE(metadata->reserve_generations(10'000'000).ok());
    for (const MetadataRow& row : rows) {
      Waiting put;
      ASSERT_TRUE(metadata->put(row, true, &put).ok());
      while (!put.over) world.turn();
      ASSERT_TRUE(put.status.ok());
    }
  }
};

TEST_F(RecoveryTest, bad_rows_are_dropped_for_good) {
  StoreWorld world(1);
  std::vector<MetadataRow> rows = {row_at(0, 256), row_at(1, 258), row_at(2, 260)};
  rows.push_back(row_at(3, 257));        // overlaps; which of the two stays depends on the order
  rows.push_back(row_at(4, 0));          // on the identity block
  rows.push_back(row_at(5, 4'000'000));  // behind the end
  rows.push_back(row_at(6, 300));
  rows.back().stored_bytes = 1 << 20;  // more than its extents hold
  rows.push_back(row_at(7, 302));
  rows.back().sections = 0;
  rows.push_back(row_at(8, 304));
  rows.back().generation = 20'000'000;  // never given out
  rows.push_back(row_at(9, 306));
  rows.back().extents.clear();
  write(world, rows);
  ASSERT_TRUE(world.start().ok());
  const uint64_t kept = world.store->metrics().recovered_objects.get();
  EXPECT_TRUE(kept == 3 || kept == 2) << kept;  // row 3 overlaps rows 0 and 1
  EXPECT_EQ(world.store->metrics().recovery_dropped_rows.get(), rows.size() - kept);
  world.stop();
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.store->metrics().recovered_objects.get(), kept);
  EXPECT_EQ(world.store->metrics().recovery_dropped_rows.get(), 0u);
}

TEST_F(RecoveryTest, a_stale_row_over_reused_space_is_a_miss) {
  StoreWorld world(2);
  ASSERT_TRUE(world.start().ok());
  ASSERT_TRUE(world.driver->put(TestObject(1), Durability::nvme).ok());
  world.stop();
  // A row that names the right place and another object.
  MetadataRow stale;
  {
    auto metadata = *MetadataStore::open(world.metadata_options, world.loop.get());
    ASSERT_TRUE(metadata
                    ->recover([&](const MetadataRow& row) { stale = row; },
                              [](std::string_view, const Status&) {})
                    .ok());
    Waiting gone;
    ASSERT_TRUE(metadata->erase(stale.ns, stale.key, stale.generation, &gone).ok());
    while (!gone.over) world.turn();
    stale.key = TestObject(2).key;
    Waiting put;
    ASSERT_TRUE(metadata->put(stale, true, &put).ok());
    while (!put.over) world.turn();
  }
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.driver->get(TestObject(2)).code(), StatusCode::kDataLoss);
  EXPECT_EQ(world.driver->get(TestObject(2)).code(), StatusCode::kNotFound);
  EXPECT_EQ(world.store->metrics().header_failures.get(), 1u);
}

TEST_F(RecoveryTest, objects_of_many_extents_come_back_from_their_headers) {
  StoreWorld world(3, 40 * kMiB);
  world.config.dram_bytes = 32 * kMiB;
  ASSERT_TRUE(world.start().ok());
  // Every second small object goes, so that the large one lies in many pieces.
  for (uint64_t n = 0; n < 1100; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n, {28'000}), Durability::nvme).ok()) << n;
  }
  for (uint64_t n = 0; n < 1100; n += 2) {
    ASSERT_TRUE(world.driver->erase(TestObject(n, {28'000})).ok());
  }
  const TestObject large(5000, {10 * kMiB});
  const Status put = world.driver->put(large, Durability::nvme);
  ASSERT_TRUE(put.ok()) << put.to_string();
  world.stop();
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.store->metrics().recovery_dropped_rows.get(), 0u);
  EXPECT_EQ(world.driver->get(large).to_string(), "OK");
}

/// An object whose row holds only the extent of its header, as if it had many; on device 0.
TestObject put_in_pieces(StoreWorld& world) {
  const TestObject object(1, {2 * kMiB});
  EXPECT_TRUE(world.start().ok());
  EXPECT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  auto metadata = *MetadataStore::open(world.metadata_options, world.loop.get());
  MetadataRow row;
  EXPECT_TRUE(metadata
                  ->recover([&](const MetadataRow& each) { row = each; },
                            [](std::string_view, const Status&) {})
                  .ok());
  row.extents.resize(1);
  row.extents[0].blocks = row.header_bytes / 4096;
  row.extents_complete = false;
  Waiting put;
  EXPECT_TRUE(metadata->put(row, true, &put).ok());
  while (!put.over) world.turn();
  return object;
}

TEST_F(RecoveryTest, a_device_that_is_slow_to_come_up_is_no_reason_to_forget) {
  StoreWorld world(4);
  const TestObject object = put_in_pieces(world);
  for (const StatusCode code : {StatusCode::kDeadlineExceeded, StatusCode::kUnavailable}) {
    world.device.fail(0, error(code, "not yet"), true);
    EXPECT_EQ(world.start().code(), code);
    world.device.heal();
  }
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.store->metrics().recovery_dropped_rows.get(), 0u);
  EXPECT_EQ(world.driver->get(object).to_string(), "OK");
}

TEST_F(RecoveryTest, a_limit_that_is_too_small_by_mistake_forgets_nothing_that_is_pinned) {
  StoreWorld world(6);
  const uint64_t limit = world.config.objects_max;
  ASSERT_TRUE(world.start().ok());
  constexpr uint64_t kObjects = 20;
  uint64_t pinned = 0;
  for (uint64_t n = 0; n < kObjects; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n), Durability::nvme).ok());
    if (n % 2 == 0) continue;
    world.store->set_pin(world.driver->ns, TestObject(n).key, true, kGiB,
                         [&](const Status& result) { pinned += result.ok() ? 1 : 0; });
  }
  ASSERT_TRUE(world.driver->until([&] { return pinned == kObjects / 2; }));
  world.stop();
  world.config.objects_max = 5;
  ASSERT_TRUE(world.start().ok());
  world.wait(seconds(1));
  EXPECT_FALSE(world.store->find(world.driver->ns, TestObject(0).key)) << "by value, until it fits";
  world.stop();
  world.config.objects_max = limit;
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 1; n < kObjects; n += 2) {
    EXPECT_TRUE(world.driver->get(TestObject(n)).ok()) << n;
  }
}

TEST_F(RecoveryTest, a_pin_while_its_device_is_missing_forgets_no_extents) {
  StoreWorld world(5);
  const TestObject object = put_in_pieces(world);
  world.add_device();
  world.absent = {0};
  ASSERT_TRUE(world.start().ok());
  bool over = false;
  world.store->set_pin(world.driver->ns, object.key, true, kGiB, [&](const Status& result) {
    EXPECT_TRUE(result.ok()) << result.to_string();
    over = true;
  });
  ASSERT_TRUE(world.driver->until([&] { return over; }));
  world.stop();
  world.absent.clear();
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.store->metrics().recovery_dropped_rows.get(), 0u);
  EXPECT_EQ(world.driver->get(object).to_string(), "OK");
}
}  // namespace
}  // namespace terrace
