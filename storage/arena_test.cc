// Goal: the arena gives every byte to one owner at a time and describes itself as specified.
// Method: random allocations whose bytes are filled with their number and checked; the slab header
// and directory are read back.
#include "storage/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

StoreConfig small(uint64_t dram_bytes) {
  StoreConfig config;
  config.dram_bytes = dram_bytes;
  config.slab_bytes = 64 * kMiB;
  config.populate_memory = false;
  return config;
}

struct Held {
  std::shared_ptr<ArenaSpace> space;
  uint8_t number;
};

void fill(const Held& held) {
  std::vector<iovec> memory;
  held.space->memory(0, held.space->bytes(), &memory);
  for (const iovec& run : memory) std::memset(run.iov_base, held.number, run.iov_len);
}

bool intact(const Held& held) {
  std::vector<iovec> memory;
  held.space->memory(0, held.space->bytes(), &memory);
  uint64_t bytes = 0;
  for (const iovec& run : memory) {
    bytes += run.iov_len;
    const auto* at = static_cast<const uint8_t*>(run.iov_base);
    if (!std::all_of(at, at + run.iov_len, [&](uint8_t b) { return b == held.number; })) {
      return false;
    }
  }
  return bytes == held.space->bytes();
}

TEST(ArenaTest, space_has_one_owner) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Prng prng(seed);
    StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(128 * kMiB));
    ASSERT_TRUE(arena.ok()) << arena.status().to_string();
    std::vector<Held> held;
    uint8_t number = 0;
    for (int step = 0; step < 200; ++step) {
      if (prng.chance(60)) {
        const uint64_t blocks = 1 + prng.below(prng.chance(20) ? 5000 : 40);
        std::shared_ptr<ArenaSpace> space = (*arena)->allocate(blocks * 4096);
        if (space != nullptr) {
          held.push_back({std::move(space), ++number});
          fill(held.back());
          held.back().space->commit(number);
        }
      } else if (!held.empty()) {
        const size_t i = prng.below(held.size());
        ASSERT_TRUE(intact(held[i])) << "seed " << seed;
        held.erase(held.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    for (const Held& each : held) ASSERT_TRUE(intact(each)) << "seed " << seed;
    held.clear();
    EXPECT_EQ((*arena)->free_bytes(), (*arena)->ready_bytes()) << "seed " << seed;
  }
}

TEST(ArenaTest, an_object_larger_than_a_slab_spans_slabs) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(192 * kMiB));
  ASSERT_TRUE(arena.ok());
  Held held{(*arena)->allocate(130 * kMiB), 3};
  ASSERT_NE(held.space, nullptr);
  fill(held);
  EXPECT_TRUE(intact(held));
  EXPECT_EQ((*arena)->allocate(100 * kMiB), nullptr);
}

TEST(ArenaTest, slabs_describe_themselves) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(128 * kMiB));
  ASSERT_TRUE(arena.ok());
  ASSERT_EQ((*arena)->slab_count(), 2u);
  const auto meta = (*arena)->meta(1);
  const StatusOr<SlabHeader> header = decode_slab_header(meta.first<kSlabHeaderBytes>());
  ASSERT_TRUE(header.ok()) << header.status().to_string();
  EXPECT_EQ(header->data_bytes, 64 * kMiB);
  EXPECT_EQ(header->first_block, 64 * kMiB / 4096);

  std::shared_ptr<ArenaSpace> space = (*arena)->allocate(3 * 4096);
  space->commit(77);
  const uint32_t block = space->extents()[0].block;
  const auto* entry =
      reinterpret_cast<const SlabDirectoryEntry*>((*arena)->meta(0).data() + kSlabHeaderBytes) +
      block;
  EXPECT_EQ(entry->commit.load(), 77u);
  EXPECT_EQ(entry->blocks, space->extents()[0].blocks);
  space.reset();
  EXPECT_EQ(entry->commit.load(), 0u);
}

TEST(ArenaTest, a_damaged_slab_header_is_refused) {
  SlabHeader header;
  header.data_bytes = 64 * kMiB;
  std::array<std::byte, kSlabHeaderBytes> block{};
  encode(header, block);
  ASSERT_TRUE(decode_slab_header(block).ok());
  for (size_t at : {size_t{0}, size_t{9}, size_t{30}, size_t{4000}, size_t{4095}}) {
    std::array<std::byte, kSlabHeaderBytes> bad = block;
    bad[at] ^= std::byte{1};
    EXPECT_EQ(decode_slab_header(bad).status().code(), StatusCode::kDataLoss) << at;
  }
}

TEST(ArenaTest, withheld_space_is_not_used_again) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(4 * kMiB));
  ASSERT_TRUE(arena.ok());
  std::shared_ptr<ArenaSpace> space = (*arena)->allocate(kMiB);
  space->withhold();
  space.reset();
  EXPECT_EQ((*arena)->withheld_bytes(), kMiB);
  EXPECT_EQ((*arena)->allocate(4 * kMiB), nullptr);
  EXPECT_NE((*arena)->allocate(3 * kMiB), nullptr);
}

TEST(ArenaTest, memory_is_populated_in_the_background_with_or_without_locks) {
  for (const bool lock : {false, true}) {
    StoreConfig config = small(128 * kMiB);
    config.populate_memory = true;
    config.lock_memory = lock;
    config.huge_pages = lock;
    StatusOr<std::unique_ptr<Arena>> arena = Arena::create(config);
    ASSERT_TRUE(arena.ok());
    EXPECT_NE((*arena)->allocate(kMiB), nullptr) << "the first slab serves at once";
    while ((*arena)->ready_bytes() < 128 * kMiB) std::this_thread::yield();
    EXPECT_LE((*arena)->locked_bytes(), 128 * kMiB);
  }
}
}  // namespace
}  // namespace terrace
