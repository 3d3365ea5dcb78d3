// Goal: an object that is read often enough from nvme is in dram when its reader is through, read
// once from the device; one that is not read whole, is bad, erased or not worth it is not, and
// leaves no space behind.
// Method: a store on the simulated device; every byte compared, device bytes counted.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

class ReadPromotionTest : public ::testing::Test {
 protected:
  ReadPromotionTest() : world_(1) { world_.config.promote_hits = 1; }
  /// A node that has `object` on nvme only.
  void start_with(const TestObject& object) {
    ASSERT_TRUE(world_.start().ok());
    ASSERT_TRUE(world_.driver->put(object, Durability::nvme).ok());
    world_.stop();
    ASSERT_TRUE(world_.start().ok());
    ASSERT_EQ(tiers_of(object), mask_of(Tier::nvme));
  }
  const StoreMetrics& metrics() const { return world_.store->metrics(); }
  TierMask tiers_of(const TestObject& object) const {
    const auto info = world_.store->find(world_.driver->ns, object.key);
    return info ? info->tiers : TierMask(0);
  }
  uint64_t dram_used() const { return world_.store->tier_use(Tier::dram).used; }
  Status open(const TestObject& object, ChunkReader* reader) {
    Waiting opened;
    TERRACE_RETURN_IF_ERROR(
        world_.store->open_reader(world_.driver->ns, object.key, 1, reader, &opened));
    return world_.driver->wait(&opened);
  }
  Status read(ChunkReader* reader, uint32_t section, ReadBuffer* into) {
    Waiting done;
    const auto units = static_cast<uint32_t>(units_of(reader->header().sections[section].bytes));
    TERRACE_RETURN_IF_ERROR(world_.store->read(reader, section, 0, units, into, &done));
    return world_.driver->wait(&done);
  }

  StoreWorld world_;
  const TestObject object_{1, {200'000, 1, 70'000}};
};

TEST_F(ReadPromotionTest, the_reader_brings_it_in_and_the_device_is_read_once) {
  start_with(object_);
  Tier tier = Tier::shared;
  ASSERT_TRUE(world_.driver->get(object_, &tier).ok());
  EXPECT_EQ(tier, Tier::nvme);
  EXPECT_EQ(tiers_of(object_), mask_of(Tier::nvme) | mask_of(Tier::dram));
  EXPECT_EQ(metrics().promotions.get(), 1u);
  EXPECT_LT(metrics().read_bytes[kNvme].get(), object_.bytes() + 64 * kKiB) << "read twice";
  ASSERT_TRUE(world_.driver->get(object_, &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
}

TEST_F(ReadPromotionTest, it_takes_as_many_reads_as_configured) {
  world_.config.promote_hits = 3;
  start_with(object_);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tiers_of(object_), mask_of(Tier::nvme)) << i;
    ASSERT_TRUE(world_.driver->get(object_).ok());
  }
  EXPECT_EQ(tiers_of(object_), mask_of(Tier::nvme) | mask_of(Tier::dram));
}

TEST_F(ReadPromotionTest, a_part_that_is_read_brings_nothing_in) {
  start_with(object_);
  const uint64_t before = dram_used();
  {
    ChunkReader reader;
    ReadBuffer buffer;
    ASSERT_TRUE(open(object_, &reader).ok());
    ASSERT_TRUE(read(&reader, 2, &buffer).ok());
    ASSERT_TRUE(read(&reader, 2, &buffer).ok());  // twice is not the rest
    EXPECT_GT(dram_used(), before);
  }
  EXPECT_EQ(dram_used(), before);
  EXPECT_EQ(tiers_of(object_), mask_of(Tier::nvme));
  EXPECT_EQ(metrics().promotions_abandoned.get(), 1u);
  ASSERT_TRUE(world_.driver->get(object_).ok());
  EXPECT_EQ(metrics().promotions.get(), 1u);
}

TEST_F(ReadPromotionTest, what_a_buffer_shows_outlives_the_copy) {
  start_with(object_);
  const std::vector<std::byte> want = object_.section(0);
  ChunkReader reader;
  ReadBuffer kept;
  ASSERT_TRUE(open(object_, &reader).ok());
  ASSERT_TRUE(read(&reader, 0, &kept).ok());
  ASSERT_TRUE(world_.driver->get(object_).ok());  // another reader, through staging buffers
  ReadBuffer other;
  ASSERT_TRUE(read(&reader, 1, &other).ok());
  ASSERT_TRUE(read(&reader, 2, &other).ok());
  EXPECT_EQ(metrics().promotions.get(), 1u);
  for (uint64_t n = 100; n < 120; ++n) {  // more than dram holds
    ASSERT_TRUE(world_.driver->put(TestObject(n, {400'000}), Durability::nvme).ok());
  }
  size_t at = 0;
  for (const iovec& piece : kept.pieces()) {
    ASSERT_EQ(std::memcmp(piece.iov_base, want.data() + at, piece.iov_len), 0);
    at += piece.iov_len;
  }
  EXPECT_EQ(at, want.size());
}

TEST_F(ReadPromotionTest, an_object_erased_meanwhile_does_not_come_back) {
  start_with(object_);
  const uint64_t before = dram_used();
  {
    ChunkReader reader;
    ReadBuffer buffer;
    ASSERT_TRUE(open(object_, &reader).ok());
    ASSERT_TRUE(read(&reader, 0, &buffer).ok());
    Waiting erased;
    ASSERT_TRUE(world_.store->erase(world_.driver->ns, object_.key, &erased).ok());
    ASSERT_TRUE(read(&reader, 1, &buffer).ok());
    ASSERT_TRUE(read(&reader, 2, &buffer).ok());
    ASSERT_TRUE(world_.driver->wait(&erased).ok());
  }
  EXPECT_EQ(tiers_of(object_), 0);
  EXPECT_EQ(metrics().promotions.get(), 0u);
  EXPECT_EQ(dram_used(), before);
}

TEST_F(ReadPromotionTest, rotten_bytes_do_not_reach_dram) {
  start_with(object_);
  const uint64_t before = dram_used();
  world_.device.flip_bit(kMiB + 128 * kKiB, 3);  // in the first object's first section
  EXPECT_EQ(world_.driver->get(object_).code(), StatusCode::kDataLoss);
  EXPECT_EQ(metrics().promotions.get(), 0u);
  EXPECT_EQ(metrics().crc_failures_nvme.get(), 1u);
  EXPECT_EQ(tiers_of(object_), 0);
  EXPECT_EQ(dram_used(), before);
}

TEST_F(ReadPromotionTest, a_device_that_fails_at_any_read_leaves_nothing) {
  start_with(object_);
  const uint64_t before = dram_used();
  uint64_t failures = 0;
  for (uint64_t reads = 0; tiers_of(object_) == mask_of(Tier::nvme); ++reads) {
    ASSERT_LT(reads, 20u);
    world_.device.fail(reads, error(StatusCode::kUnavailable, "bus error"), true);
    const Status got = world_.driver->get(object_);
    world_.device.heal();
    ASSERT_NE(got.code(), StatusCode::kInternal) << "a wrong byte came as if it were right";
    if (got.ok()) continue;
    ++failures;
    EXPECT_EQ(dram_used(), before);
  }
  EXPECT_GE(failures, 3u);
}

TEST_F(ReadPromotionTest, a_unit_that_was_shown_is_not_written_again) {
  start_with(object_);
  ChunkReader reader;
  ASSERT_TRUE(open(object_, &reader).ok());
  ReadBuffer first, second;
  Waiting one, two;
  ASSERT_TRUE(world_.store->read(&reader, 0, 0, 2, &first, &one).ok());
  ASSERT_TRUE(world_.store->read(&reader, 0, 1, 2, &second, &two).ok());  // unit 1 in both
  ASSERT_TRUE(world_.driver->wait(&one).ok());
  ASSERT_TRUE(world_.driver->wait(&two).ok());
  const auto memory = [](const ReadBuffer& buffer) {
    const iovec& run = buffer.pieces().front();
    return std::pair(static_cast<const std::byte*>(run.iov_base), run.iov_len);
  };
  const auto [a, a_bytes] = memory(first);
  const auto [b, b_bytes] = memory(second);
  EXPECT_TRUE(b + b_bytes <= a || a + a_bytes <= b) << "both came to one place";
  first.release();
  second.release();
  for (uint32_t section = 0; section < 3; ++section) {
    ReadBuffer buffer;
    ASSERT_TRUE(read(&reader, section, &buffer).ok());
  }
  EXPECT_EQ(metrics().promotions.get(), 0u) << "unit 2 of section 0 never came there";
}
}  // namespace
}  // namespace terrace
