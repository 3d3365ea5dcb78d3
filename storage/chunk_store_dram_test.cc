// Goal: a store without nvme keeps what it acknowledged until it must evict, never gives a wrong
// byte, and counts every refusal once. Method: puts and reads through the front door on a small
// arena; a model remembers what was put.
#include <gtest/gtest.h>

#include <map>

#include "tests/sim/dram_store_fixture.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::TestObject;
using testing::Waiting;

TEST_F(DramStoreTest, what_was_put_comes_back) {
  open(64 * kMiB);
  for (uint64_t n = 1; n <= 60; ++n) {
    const TestObject object(n);
    ASSERT_TRUE(driver_->put(object, Durability::memory).ok()) << "object " << n;
    const auto info = store_->find(driver_->ns, object.key);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->tiers, mask_of(Tier::dram));
    EXPECT_EQ(info->logical_bytes, object.bytes());
    EXPECT_EQ(info->sections, object.section_bytes.size());
  }
  for (uint64_t n = 1; n <= 60; ++n) {
    EXPECT_EQ(driver_->get(TestObject(n)).to_string(), ok_status().to_string()) << "object " << n;
  }
  EXPECT_EQ(driver_->get(TestObject(61)).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->usage(driver_->ns).objects, 60u);
  EXPECT_EQ(store_->metrics().puts_committed.get(), 60u);
}

TEST_F(DramStoreTest, sections_of_every_awkward_size) {
  open(64 * kMiB);
  const std::vector<uint64_t> sizes = {1,     4095,  4096,   4097,    65535,
                                       65536, 65537, 131072, 1048576, 1048577};
  const TestObject object(1, sizes);
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  EXPECT_TRUE(driver_->get(object).ok());
  const TestObject large(2, {20 * kMiB + 5, 3});
  ASSERT_TRUE(driver_->put(large, Durability::memory).ok());
  EXPECT_TRUE(driver_->get(large).ok());
}

TEST_F(DramStoreTest, a_duplicate_is_acknowledged_without_bytes) {
  open(8 * kMiB);
  const TestObject object(1);
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  EXPECT_EQ(driver_->put(object, Durability::memory).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->metrics().puts_deduplicated.get(), 1u);
}

TEST_F(DramStoreTest, a_second_put_waits_and_is_answered) {
  open(8 * kMiB);
  const TestObject object(1);
  ChunkWriter first;
  ChunkWriter second;
  Waiting first_open;
  Waiting second_open;
  const PutSpec spec = driver_->spec_of(object, Durability::memory);
  ASSERT_TRUE(store_->open_writer(spec, &first, &first_open).ok());
  ASSERT_TRUE(driver_->wait(&first_open).ok());
  ASSERT_TRUE(store_->open_writer(spec, &second, &second_open).ok());
  for (int i = 0; i < 10; ++i) loop_->turn(Nanos(0));
  EXPECT_FALSE(second_open.over);
  ASSERT_TRUE(driver_->fill(&first, object).ok());
  Waiting committed;
  ASSERT_TRUE(store_->commit(&first, &committed).ok());
  ASSERT_TRUE(driver_->wait(&committed).ok());
  EXPECT_EQ(driver_->wait(&second_open).code(), StatusCode::kAlreadyExists);
}

TEST_F(DramStoreTest, a_second_put_takes_over_when_the_first_goes) {
  open(8 * kMiB);
  const TestObject object(1);
  auto first = std::make_unique<ChunkWriter>();
  ChunkWriter second;
  Waiting first_open;
  Waiting second_open;
  const PutSpec spec = driver_->spec_of(object, Durability::memory);
  ASSERT_TRUE(store_->open_writer(spec, first.get(), &first_open).ok());
  ASSERT_TRUE(driver_->wait(&first_open).ok());
  ASSERT_TRUE(store_->open_writer(spec, &second, &second_open).ok());
  first.reset();
  ASSERT_TRUE(driver_->wait(&second_open).ok());
  ASSERT_TRUE(driver_->fill(&second, object).ok());
  Waiting committed;
  ASSERT_TRUE(store_->commit(&second, &committed).ok());
  ASSERT_TRUE(driver_->wait(&committed).ok());
  EXPECT_TRUE(driver_->get(object).ok());
  EXPECT_EQ(store_->metrics().puts_abandoned.get(), 1u);
}

TEST_F(DramStoreTest, a_put_is_invisible_until_its_commit_and_leaves_nothing) {
  open(8 * kMiB);
  const TestObject object(1);
  {
    ChunkWriter writer;
    Waiting opened;
    ASSERT_TRUE(
        store_->open_writer(driver_->spec_of(object, Durability::memory), &writer, &opened).ok());
    ASSERT_TRUE(driver_->wait(&opened).ok());
    EXPECT_GT(used(), 0u);
    Waiting committed;
    EXPECT_EQ(store_->commit(&writer, &committed).code(), StatusCode::kInvalidArgument);
    ASSERT_TRUE(driver_->fill(&writer, object).ok());
    EXPECT_FALSE(store_->find(driver_->ns, object.key));
  }
  EXPECT_EQ(used(), 0u);
}

TEST_F(DramStoreTest, a_unit_with_another_checksum_is_refused) {
  open(8 * kMiB);
  const TestObject object(1);
  ChunkWriter writer;
  Waiting opened;
  ASSERT_TRUE(
      store_->open_writer(driver_->spec_of(object, Durability::memory), &writer, &opened).ok());
  ASSERT_TRUE(driver_->wait(&opened).ok());
  const uint32_t crc = 12345;
  EXPECT_EQ(store_->landed(&writer, 0, 0, {&crc, 1}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(store_->landed(&writer, 0, 7, {&crc, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->landed(&writer, 9, 0, {&crc, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->metrics().puts_failed_crc.get(), 1u);
}

TEST_F(DramStoreTest, refusals_name_the_limit_and_count_once) {
  config_.puts_in_flight_max = 1;
  open(8 * kMiB);
  const StoreMetrics& m = store_->metrics();
  const Status large = driver_->put(TestObject(1, {9 * kMiB}), Durability::memory);
  EXPECT_EQ(large.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(large.message().find("8388608"), std::string::npos) << large.message();
  EXPECT_EQ(m.puts_refused_space.get(), 1u);

  EXPECT_EQ(driver_->put(TestObject(1), Durability::nvme).code(), StatusCode::kUnavailable);
  EXPECT_EQ(m.puts_refused_device.get(), 1u);

  EXPECT_EQ(driver_->put(TestObject(1, {0}), Durability::memory).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(m.puts_refused_invalid.get(), 1u);

  driver_->quota = 3 * 4096;  // each with its header
  EXPECT_EQ(driver_->put(TestObject(1, {4096, 1, 1}), Durability::memory).code(),
            StatusCode::kResourceExhausted)
      << "a section of one byte takes a sector";
  EXPECT_EQ(m.puts_refused_quota.get(), 1u);
  EXPECT_TRUE(driver_->put(TestObject(2, {600}), Durability::memory).ok());
  EXPECT_EQ(driver_->put(TestObject(3, {600}), Durability::memory).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(m.puts_refused_quota.get(), 2u);
  driver_->quota = 0;

  ChunkWriter writer;
  Waiting opened;
  ASSERT_TRUE(
      store_->open_writer(driver_->spec_of(TestObject(5), Durability::memory), &writer, &opened)
          .ok());
  EXPECT_EQ(driver_->put(TestObject(6), Durability::memory).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(m.puts_refused_in_flight.get(), 1u);
  ASSERT_TRUE(driver_->wait(&opened).ok());
  EXPECT_EQ(m.puts_refused_space.get(), 1u);
}

TEST_F(DramStoreTest, all_pinned_means_refused_and_then_works_again) {
  open(4 * kMiB);
  std::vector<Pin> pins;
  uint64_t n = 0;
  while (true) {
    const TestObject object(n++, {200'000});
    const Status put = driver_->put(object, Durability::memory);
    if (!put.ok()) {
      EXPECT_EQ(put.code(), StatusCode::kResourceExhausted);
      break;
    }
    StatusOr<Pin> pin = store_->pin(driver_->ns, object.key);
    if (pin.ok()) pins.push_back(std::move(*pin));
    ASSERT_LT(n, 100u);
  }
  EXPECT_EQ(store_->metrics().puts_refused_space.get(), 1u);
  pins.clear();
  EXPECT_TRUE(driver_->put(TestObject(1000, {200'000}), Durability::memory).ok());
}

TEST_F(DramStoreTest, erase_hides_at_once_and_frees_at_the_last_unpin) {
  open(8 * kMiB);
  const TestObject object(1, {300'000});
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  ChunkReader reader;
  Waiting opened;
  ASSERT_TRUE(store_->open_reader(driver_->ns, object.key, 1, &reader, &opened).ok());
  ASSERT_TRUE(driver_->wait(&opened).ok());
  Pin pin = *store_->pin(driver_->ns, object.key);
  const uint64_t before = used();
  ASSERT_TRUE(driver_->erase(object).ok());
  EXPECT_FALSE(store_->find(driver_->ns, object.key));
  Waiting again;
  EXPECT_EQ(store_->erase(driver_->ns, object.key, &again).code(), StatusCode::kNotFound);
  EXPECT_EQ(used(), before);
  ReadBuffer buffer;
  Waiting read;
  ASSERT_TRUE(store_->read(&reader, 0, 0, 4, &buffer, &read).ok());
  ASSERT_TRUE(driver_->wait(&read).ok());
  EXPECT_EQ(std::memcmp(buffer.pieces()[0].iov_base, object.section(0).data(), 1000), 0);
  // A new put of the key is another object in other space.
  ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  EXPECT_GT(used(), before);
  pin = Pin();
  reader.~ChunkReader();
  new (&reader) ChunkReader();
  for (int i = 0; i < 5; ++i) loop_->turn(Nanos(0));
  EXPECT_EQ(used(), before);
  EXPECT_TRUE(driver_->get(object).ok());
}

TEST_F(DramStoreTest, lists_in_key_order) {
  open(128 * kMiB);
  std::map<ChunkKey, uint64_t> model;
  for (uint64_t n = 0; n < 9000; ++n) {  // more than one step of a scan
    const TestObject object(n, {100});
    model[object.key] = n;
    ASSERT_TRUE(driver_->put(object, Durability::memory).ok());
  }
  std::vector<ChunkKey> listed;
  std::optional<ChunkKey> after;
  for (;;) {
    ChunkStore::ListScan page{driver_->ns, after, 500, {}, 0};
    while (!store_->list_step(&page)) {
    }
    if (page.found.empty()) break;
    for (const auto& each : page.found) listed.push_back(each.key);
    after = listed.back();
  }
  std::vector<ChunkKey> expected;
  for (const auto& [key, n] : model) expected.push_back(key);
  EXPECT_EQ(listed, expected);
}

TEST_F(DramStoreTest, the_scrubber_finds_a_flipped_byte_in_memory) {
  config_.scrub_period = seconds(1);
  config_.scrub_mib_per_s = 1000;
  open(8 * kMiB);
  const TestObject good(1, {300'000});
  const TestObject bad(2, {300'000});
  ASSERT_TRUE(driver_->put(good, Durability::memory).ok());
  ASSERT_TRUE(driver_->put(bad, Durability::memory).ok());
  {
    ChunkReader reader;
    Waiting opened;
    ASSERT_TRUE(store_->open_reader(driver_->ns, bad.key, 1, &reader, &opened).ok());
    ASSERT_TRUE(driver_->wait(&opened).ok());
    ReadBuffer buffer;
    Waiting read;
    ASSERT_TRUE(store_->read(&reader, 0, 2, 1, &buffer, &read).ok());
    ASSERT_TRUE(driver_->wait(&read).ok());
    static_cast<std::byte*>(buffer.pieces()[0].iov_base)[77] ^= std::byte{4};
  }
  ASSERT_TRUE(driver_->until([&] { return store_->metrics().scrub_passes.get() >= 1; }));
  EXPECT_EQ(store_->metrics().crc_failures_dram.get(), 1u);
  EXPECT_EQ(store_->metrics().quarantined_objects.get(), 1u);
  EXPECT_EQ(driver_->get(bad).code(), StatusCode::kNotFound);
  EXPECT_TRUE(driver_->get(good).ok());
}

TEST_F(DramStoreTest, follows_a_model_under_pressure) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    open(4 * kMiB);
    Prng prng(seed);
    std::map<uint64_t, bool> erased;
    for (int step = 0; step < 300; ++step) {
      const TestObject object(prng.below(60));
      switch (prng.below(4)) {
        case 0:
        case 1: {
          const Status put = driver_->put(object, Durability::memory);
          ASSERT_TRUE(put.ok() || put.code() == StatusCode::kAlreadyExists)
              << put.to_string() << " seed " << seed;
          erased[object.number] = false;
          break;
        }
        case 2: {
          const Status got = driver_->get(object);
          ASSERT_TRUE(got.ok() || got.code() == StatusCode::kNotFound)
              << got.to_string() << " seed " << seed;
          if (erased[object.number]) {
            ASSERT_FALSE(got.ok()) << "seed " << seed;
          }
          break;
        }
        default: {
          const Status gone = driver_->erase(object);
          ASSERT_TRUE(gone.ok() || gone.code() == StatusCode::kNotFound) << "seed " << seed;
          erased[object.number] = true;
        }
      }
      ASSERT_LE(used(), 4 * kMiB);
    }
    TearDown();
  }
}

TEST_F(DramStoreTest, objects_max_makes_room_for_the_new) {
  config_.objects_max = 50;
  open(8 * kMiB);
  for (uint64_t n = 0; n < 200; ++n) {
    ASSERT_TRUE(driver_->put(TestObject(n, {1000}), Durability::memory).ok()) << n;
    loop_->turn(Nanos(0));
  }
  EXPECT_LE(store_->usage(driver_->ns).objects, 50u);
  EXPECT_TRUE(driver_->get(TestObject(199, {1000})).ok());
}
}  // namespace
}  // namespace terrace
