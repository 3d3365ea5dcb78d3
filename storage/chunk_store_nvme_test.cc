// Goal: with both tiers a store serves the right bytes from wherever they lie, survives a restart,
// and turns rot, errors and a hanging device into an error of one operation.
// Method: a store on the simulated device and file system; faults are injected at every operation.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
constexpr auto kDram = static_cast<size_t>(Tier::dram);

/// Evicts `object` from dram by filling the arena with others.
void push_out_of_dram(StoreWorld& world, const TestObject& object) {
  for (uint64_t n = 1000; n < 1200; ++n) {
    const auto info = world.store->find(world.driver->ns, object.key);
    ASSERT_TRUE(info);
    if (info->tiers == mask_of(Tier::nvme)) return;
    const TestObject other(n, {400'000});
    const Status put = world.driver->put(other, Durability::nvme);
    ASSERT_TRUE(put.ok() || put.code() == StatusCode::kAlreadyExists) << put.to_string();
  }
  FAIL() << "still in dram";
}

/// The offset on the device of a run of bytes of a fresh object's section 0.
uint64_t first_data_offset(StoreWorld& world, const TestObject& object) {
  MetadataRow found;
  EXPECT_TRUE(world.metadata
                  ->recover(
                      [&](const MetadataRow& row) {
                        if (row.key == object.key) found = row;
                      },
                      [](std::string_view, const Status&) {})
                  .ok());
  return slice(found.extents, found.header_bytes, 4096)[0].offset();
}

TEST(NvmeStoreTest, acknowledged_objects_survive_a_restart) {
  StoreWorld world(1);
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < 40; ++n) {
    const Durability durability = n % 2 == 0 ? Durability::nvme : Durability::memory;
    ASSERT_TRUE(world.driver->put(TestObject(n), durability).ok()) << n;
  }
  world.stop();  // writes the memory-only ones back
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.store->metrics().recovered_objects.get(), 40u);
  for (uint64_t n = 0; n < 40; ++n) {
    Tier tier = Tier::hbm;
    EXPECT_EQ(world.driver->get(TestObject(n), &tier).to_string(), ok_status().to_string()) << n;
    EXPECT_EQ(tier, Tier::nvme);
  }
  EXPECT_EQ(world.store->usage(world.driver->ns).objects, 40u);
}

TEST(NvmeStoreTest, a_large_object_of_awkward_sections) {
  StoreWorld world(2);
  world.config.dram_bytes = 32 * kMiB;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {12 * kMiB + 77, 1, 65'537, 2 * kMiB});
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  EXPECT_TRUE(world.driver->get(object).ok());
  world.stop();
  ASSERT_TRUE(world.start().ok());
  EXPECT_TRUE(world.driver->get(object).ok());
}

TEST(NvmeStoreTest, what_is_read_again_moves_to_dram) {
  StoreWorld world(3);
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1);
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  ASSERT_TRUE(world.start().ok());
  Tier tier = Tier::hbm;
  ASSERT_TRUE(world.driver->get(object, &tier).ok());
  ASSERT_TRUE(world.driver->get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::nvme);
  ASSERT_TRUE(world.driver->until([&] { return world.store->metrics().promotions.get() == 1; }));
  ASSERT_TRUE(world.driver->get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
  const auto info = world.store->find(world.driver->ns, object.key);
  EXPECT_EQ(info->tiers, mask_of(Tier::dram) | mask_of(Tier::nvme));
}

TEST(NvmeStoreTest, a_duplicate_is_made_as_durable_as_asked) {
  for (const bool write_through : {false, true}) {
    StoreWorld world(4);
    world.config.write_through = write_through;
    world.config.demote_on_close = false;
    ASSERT_TRUE(world.start().ok());
    const TestObject object(1);
    ASSERT_TRUE(world.driver->put(object, Durability::memory).ok());
    EXPECT_EQ(world.driver->put(object, Durability::nvme).code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(world.store->find(world.driver->ns, object.key)->durability, Durability::nvme);
    world.crash();
    ASSERT_TRUE(world.start().ok());
    EXPECT_TRUE(world.driver->get(object).ok());
  }
}

TEST(NvmeStoreTest, dram_pressure_demotes_and_loses_nothing) {
  StoreWorld world(5);
  world.config.write_through = false;
  ASSERT_TRUE(world.start().ok());
  uint64_t refused = 0;
  for (uint64_t n = 0; n < 60; ++n) {
    const TestObject object(n, {150'000});
    Status put = world.driver->put(object, Durability::memory);
    for (int again = 0; !put.ok() && again < 100; ++again) {
      EXPECT_EQ(put.code(), StatusCode::kResourceExhausted);
      ++refused;
      for (int i = 0; i < 20; ++i) world.turn();
      put = world.driver->put(object, Durability::memory);
    }
    ASSERT_TRUE(put.ok()) << n << " " << put.to_string();
  }
  EXPECT_EQ(world.store->metrics().puts_refused_space.get(), refused);
  for (uint64_t n = 0; n < 60; ++n) {
    EXPECT_EQ(world.driver->get(TestObject(n, {150'000})).to_string(), "OK") << n;
  }
  EXPECT_GT(world.store->metrics().demotions.get(), 0u);
}

TEST(NvmeStoreTest, a_device_that_does_not_keep_up_costs_the_oldest_not_the_newest) {
  StoreWorld world(7);
  ASSERT_TRUE(world.start().ok());
  world.device.hang();  // shorter than its timeout: slow, not broken
  uint64_t number = 0;
  const auto put = [&] {
    return world.driver->put(TestObject(++number, {150'000}), Durability::memory);
  };
  while (put().ok()) ASSERT_LT(number, 100u) << "dram has a bound";
  EXPECT_GT(world.store->metrics().puts_refused_space.get(), 0u) << "write-back had no time yet";
  world.clock.advance(milliseconds(250));
  for (int i = 0; i < 20; ++i) {
    const Status stored = put();
    ASSERT_TRUE(stored.ok()) << i << " " << stored.to_string();
    EXPECT_TRUE(world.driver->get(TestObject(number, {150'000})).ok());
  }
  EXPECT_GT(world.store->metrics().evictions_undemoted.get(), 0u);
  world.device.let_go();
}

TEST(NvmeStoreTest, a_full_device_evicts_the_oldest_and_never_wedges) {
  StoreWorld world(6, 9 * kMiB);
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < 100; ++n) {
    const Status put = world.driver->put(TestObject(n, {300'000}), Durability::nvme);
    ASSERT_TRUE(put.ok()) << n << " " << put.to_string();
    ASSERT_TRUE(world.driver->get(TestObject(n, {300'000})).ok());
  }
  EXPECT_GT(world.store->metrics().evictions[kNvme].get(), 60u);
  EXPECT_EQ(world.driver->get(TestObject(0, {300'000})).code(), StatusCode::kNotFound);
  // All pinned: an error, and work goes on after.
  std::vector<Pin> pins;
  for (uint64_t n = 0; n < 100; ++n) {
    StatusOr<Pin> pin = world.store->pin(world.driver->ns, TestObject(n, {300'000}).key);
    if (pin.ok()) pins.push_back(std::move(*pin));
  }
  Status put;
  for (uint64_t n = 200; n < 240 && put.ok(); ++n) {
    put = world.driver->put(TestObject(n, {300'000}), Durability::nvme);
    if (!put.ok()) break;
    pins.push_back(*world.store->pin(world.driver->ns, TestObject(n, {300'000}).key));
  }
  EXPECT_EQ(put.code(), StatusCode::kResourceExhausted) << put.to_string();
  pins.clear();
  EXPECT_TRUE(world.driver->put(TestObject(300, {300'000}), Durability::nvme).ok());
}

TEST(NvmeStoreTest, a_flipped_bit_is_a_miss_and_quarantined) {
  for (const bool in_header : {false, true}) {
    StoreWorld world(7);
    ASSERT_TRUE(world.start().ok());
    const TestObject object(1, {200'000});
    ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
    world.stop();
    ASSERT_TRUE(world.start().ok());
    const uint64_t offset = first_data_offset(world, object) - (in_header ? 4000 : 0);
    world.device.flip_bit(offset + 70'000 * !in_header, 3);
    EXPECT_EQ(world.driver->get(object).code(), StatusCode::kDataLoss);
    EXPECT_EQ(world.driver->get(object).code(), StatusCode::kNotFound);
    const StoreMetrics& m = world.store->metrics();
    EXPECT_EQ(m.quarantined_objects.get(), 1u);
    EXPECT_EQ(m.crc_failures_nvme.get(), in_header ? 0u : 1u);
    EXPECT_EQ(m.header_failures.get(), in_header ? 1u : 0u);
    ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
    EXPECT_TRUE(world.driver->get(object).ok());
    world.stop();
    ASSERT_TRUE(world.start().ok());
    EXPECT_TRUE(world.driver->get(object).ok());
  }
}

TEST(NvmeStoreTest, the_scrubber_finds_rot_and_heals_it_from_dram) {
  StoreWorld world(8);
  world.config.scrub_period = seconds(1);
  world.config.scrub_mib_per_s = 10'000;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {200'000});
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.device.flip_bit(first_data_offset(world, object) + 9, 1);
  ASSERT_TRUE(
      world.driver->until([&] { return world.store->metrics().crc_failures_nvme.get() > 0; }));
  ASSERT_TRUE(world.driver->until([&] {
    const auto info = world.store->find(world.driver->ns, object.key);
    return info && (info->tiers & mask_of(Tier::nvme)) != 0;
  }));
  world.config.scrub_period = seconds(0);
  world.stop();
  ASSERT_TRUE(world.start().ok());
  EXPECT_TRUE(world.driver->get(object).ok());
}

TEST(NvmeStoreTest, an_erased_object_stays_erased) {
  StoreWorld world(9);
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1);
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  ASSERT_TRUE(world.driver->erase(object).ok());
  EXPECT_EQ(world.driver->get(object).code(), StatusCode::kNotFound);
  world.crash();
  ASSERT_TRUE(world.start().ok());
  EXPECT_EQ(world.driver->get(object).code(), StatusCode::kNotFound);
  EXPECT_EQ(world.store->tier_use(Tier::nvme).used, 0u);
}

/// A fixed piece of work; every operation may fail, none may lie, and afterwards all works.
void work_with_a_failure(uint64_t skip, const Status& failure, bool persistent) {
  StoreWorld world(skip + 100);
  ASSERT_TRUE(world.start().ok());
  ASSERT_TRUE(world.driver->put(TestObject(1), Durability::nvme).ok());
  ASSERT_TRUE(world.driver->put(TestObject(2), Durability::nvme).ok());
  push_out_of_dram(world, TestObject(1));
  world.device.fail(skip, failure, persistent);
  for (uint64_t n = 1; n < 16; ++n) {
    const Status put = world.driver->put(TestObject(n), Durability::nvme);
    const Status got = world.driver->get(TestObject(n));
    ASSERT_NE(got.code(), StatusCode::kInternal) << got.to_string() << " skip " << skip;
    if (put.ok()) {
      ASSERT_TRUE(got.ok() || persistent || got.code() == failure.code())
          << got.to_string() << " skip " << skip;
    }
  }
  ASSERT_GT(world.store->metrics().device_errors.get(), 0u) << "never failed; skip " << skip;
  world.device.heal();
  for (uint64_t n = 20; n < 24; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n), Durability::nvme).ok()) << "skip " << skip;
    ASSERT_TRUE(world.driver->get(TestObject(n)).ok()) << "skip " << skip;
  }
  world.stop();
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 20; n < 24; ++n) {
    ASSERT_TRUE(world.driver->get(TestObject(n)).ok()) << "skip " << skip;
  }
}

TEST(NvmeStoreTest, the_nth_operation_fails_with_eio) {
  for (uint64_t skip = 0; skip < 40; ++skip) {
    for (const bool persistent : {false, true}) {
      work_with_a_failure(skip, error(StatusCode::kDataLoss, "EIO"), persistent);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(NvmeStoreTest, the_nth_operation_fails_with_enospc) {
  for (uint64_t skip = 0; skip < 40; ++skip) {
    for (const bool persistent : {false, true}) {
      work_with_a_failure(skip, error(StatusCode::kResourceExhausted, "ENOSPC"), persistent);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(NvmeStoreTest, a_hanging_device_is_an_error_in_time_and_its_memory_rests) {
  StoreWorld world(10);
  world.config.write_through = false;
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {300'000});
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  ASSERT_TRUE(world.start().ok());
  world.device.hang();
  const Nanos begin = world.clock.now();
  EXPECT_EQ(world.driver->get(object).code(), StatusCode::kDeadlineExceeded);
  EXPECT_LT(world.clock.now() - begin, seconds(12));
  // Memory goes on.
  ASSERT_TRUE(world.driver->put(TestObject(2), Durability::memory).ok());
  EXPECT_TRUE(world.driver->get(TestObject(2)).ok());
  for (int i = 0; i < 30'000; ++i) {
    world.clock.advance(milliseconds(1));
    if (i % 100 == 0) world.loop->turn(Nanos(0));
  }
  EXPECT_EQ(world.driver->put(TestObject(3), Durability::nvme).code(), StatusCode::kUnavailable);
  EXPECT_GT(world.store->metrics().device_timeouts.get(), 0u);
  world.device.let_go();
  for (int i = 0; i < 10; ++i) world.turn();
  EXPECT_TRUE(world.driver->get(object).ok());
  EXPECT_TRUE(world.driver->put(TestObject(3), Durability::nvme).ok());
}

TEST(NvmeStoreTest, a_write_that_hangs_fails_the_put_and_its_space_rests) {
  StoreWorld world(11);
  ASSERT_TRUE(world.start().ok());
  world.device.hang();
  EXPECT_EQ(world.driver->put(TestObject(1, {300'000}), Durability::nvme).code(),
            StatusCode::kDeadlineExceeded);
  EXPECT_GT(world.store->tier_use(Tier::nvme).used, 0u) << "the kernel may still write there";
  EXPECT_GT(world.store->tier_use(Tier::dram).used, 0u) << "and read from here";
  world.device.let_go();
  for (int i = 0; i < 10; ++i) world.turn();
  EXPECT_EQ(world.store->tier_use(Tier::nvme).used, 0u);
  EXPECT_EQ(world.store->tier_use(Tier::dram).used, 0u);
  EXPECT_TRUE(world.driver->put(TestObject(1, {300'000}), Durability::nvme).ok());
}

TEST(NvmeStoreTest, a_store_closes_while_its_device_hangs) {
  StoreWorld world(12);
  ASSERT_TRUE(world.start().ok());
  ASSERT_TRUE(world.driver->put(TestObject(1, {300'000}), Durability::memory).ok());
  world.device.hang();
  world.stop();
  EXPECT_EQ(world.store, nullptr);
}

TEST(NvmeStoreTest, many_reads_share_the_staging_buffers) {
  StoreWorld world(13);
  ASSERT_TRUE(world.start().ok());
  const TestObject object(1, {2 * kMiB});
  ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok());
  world.stop();
  world.config.promote_hits = 255;
  ASSERT_TRUE(world.start().ok());
  ChunkReader reader;
  Waiting opened;
  ASSERT_TRUE(world.store->open_reader(world.driver->ns, object.key, 1, &reader, &opened).ok());
  ASSERT_TRUE(world.driver->wait(&opened).ok());
  struct One {
    ReadBuffer buffer;
    Waiting op;
  };
  std::vector<std::unique_ptr<One>> reads;
  for (uint32_t i = 0; i < 20; ++i) {
    reads.push_back(std::make_unique<One>());
    ASSERT_TRUE(world.store->read(&reader, 0, i, 2, &reads.back()->buffer, &reads.back()->op).ok());
  }
  const std::vector<std::byte> want = object.section(0);
  for (uint32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(world.driver->wait(&reads[i]->op).ok()) << i;
    const iovec piece = reads[i]->buffer.pieces()[0];
    EXPECT_EQ(piece.iov_len, 2 * kCrcUnitBytes);
    EXPECT_EQ(std::memcmp(piece.iov_base, want.data() + i * kCrcUnitBytes, piece.iov_len), 0);
    reads[i]->buffer.release();
  }
  EXPECT_GE(world.store->metrics().staging_waits.get(), 16u);
  EXPECT_EQ(world.store->metrics().evictions[kDram].get(), 0u);
}
}  // namespace
}  // namespace terrace
