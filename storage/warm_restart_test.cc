// Goal: what lies in dram when a store ends, or is killed, is there again when the next one begins,
// whole or not at all, and what was erased is not. Method: a store on simulated media with a keeper
// lives several lives.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/sim/warm_world.h"

namespace terrace {
namespace {
using testing::TestObject;
using testing::Waiting;
using WarmRestartTest = testing::WarmWorld;

constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

TEST_F(WarmRestartTest, a_killed_store_is_there_again_from_dram) {
  start();
  for (uint64_t n = 1; n <= 10; ++n) put(n);
  put(11, Durability::nvme);
  killed();
  EXPECT_EQ(objects(), 11u);
  EXPECT_EQ(world_.store->metrics().warm_verified_objects.get(), 0u) << "not before it is used";
  for (uint64_t n = 1; n <= 11; ++n) {
    const auto info = world_.store->find(NamespaceId{1}, TestObject(n).key);
    ASSERT_TRUE(info) << n;
    EXPECT_EQ(info->tiers,
              n == 11 ? mask_of(Tier::dram) | mask_of(Tier::nvme) : mask_of(Tier::dram));
    EXPECT_EQ(info->durability, n == 11 ? Durability::nvme : Durability::memory);
    Tier tier = Tier::nvme;
    ASSERT_EQ(get(n, &tier).to_string(), ok_status().to_string()) << n;
    EXPECT_EQ(tier, Tier::dram);
  }
  EXPECT_EQ(world_.store->metrics().warm_verified_objects.get(), 11u);
  EXPECT_EQ(get(3).to_string(), ok_status().to_string());
  EXPECT_EQ(world_.store->metrics().warm_verified_objects.get(), 11u) << "once";
  EXPECT_EQ(world_.store->metrics().reads[kNvme].get(), 0u);
}

TEST_F(WarmRestartTest, and_again_and_again_also_after_a_clean_end) {
  start();
  for (uint64_t n = 1; n <= 8; ++n) put(n);
  for (int life = 0; life < 4; ++life) {
    if (life % 2 == 0) {
      world_.config.demote_on_close = false;
      world_.stop();
      start();
    } else {
      killed();
    }
    EXPECT_EQ(objects(), 8u) << "life " << life;
    put(100 + static_cast<uint64_t>(life));
    ASSERT_TRUE(world_.driver->erase(TestObject(100 + static_cast<uint64_t>(life))).ok());
    for (uint64_t n = 1; n <= 8; ++n) EXPECT_TRUE(get(n).ok()) << n;
  }
}

TEST_F(WarmRestartTest, slabs_of_another_dram_size_come_back_when_none_is_said_for_them) {
  world_.config.dram_bytes = 64 * kMiB;
  world_.config.slab_bytes = 0;  // an eighth: 8 MiB
  start();
  for (uint64_t n = 1; n <= 20; ++n) put(n);
  world_.config.dram_bytes = 128 * kMiB;  // 16 MiB
  killed();
  EXPECT_EQ(objects(), 20u);
  for (uint64_t n = 1; n <= 20; ++n) EXPECT_TRUE(get(n).ok()) << n;
  world_.config.slab_bytes = 32 * kMiB;  // said: then it holds
  killed();
  EXPECT_EQ(objects(), 0u);
}

TEST_F(WarmRestartTest, a_clean_end_leaves_both_copies) {
  start();
  put(1);
  world_.stop();  // writes it to nvme
  start();
  const auto info = world_.store->find(NamespaceId{1}, TestObject(1).key);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->tiers, mask_of(Tier::dram) | mask_of(Tier::nvme));
  EXPECT_EQ(world_.store->usage(NamespaceId{1}).objects, 1u);
}

TEST_F(WarmRestartTest, a_run_without_the_keeper_leaves_nothing_to_take_back) {
  start();
  for (uint64_t n = 1; n <= 3; ++n) put(n, Durability::nvme);
  world_.crash();
  auto keeper = std::exchange(world_.keeper, nullptr);  // it does not answer
  ASSERT_TRUE(world_.start().ok());
  EXPECT_TRUE(get(2).ok());
  EXPECT_TRUE(world_.driver->erase(TestObject(1)).ok());
  world_.stop();
  world_.keeper = std::move(keeper);
  start();
  EXPECT_FALSE(world_.store->find(NamespaceId{1}, TestObject(1).key)) << "it was erased";
  EXPECT_TRUE(get(2).ok());
  EXPECT_EQ(world_.store->metrics().warm_objects.get(), 0u);
  put(4);
  killed();
  EXPECT_TRUE(get(4).ok()) << "from here on memory is kept again";
}

TEST_F(WarmRestartTest, what_was_erased_stays_away_also_when_somebody_still_reads_it) {
  start();
  for (uint64_t n = 1; n <= 3; ++n) put(n);
  put(4, Durability::nvme);
  {
    ChunkReader reader;
    Waiting opened;
    ASSERT_TRUE(
        world_.store->open_reader(NamespaceId{1}, TestObject(2).key, 1, &reader, &opened).ok());
    ASSERT_TRUE(world_.driver->wait(&opened).ok());
    for (const uint64_t n : {1u, 2u, 4u}) {
      ASSERT_TRUE(world_.driver->erase(TestObject(n)).ok());
    }
    world_.keeper->freeze();  // killed while the reader holds the erased bytes
  }
  killed();
  EXPECT_EQ(objects(), 1u);
  for (const uint64_t n : {1u, 2u, 4u}) EXPECT_EQ(get(n).code(), StatusCode::kNotFound) << n;
  EXPECT_TRUE(get(3).ok());
}

TEST_F(WarmRestartTest, a_put_that_was_not_over_leaves_nothing) {
  start();
  ChunkWriter writer;
  Waiting opened;
  const TestObject object(1);
  ASSERT_TRUE(
      world_.store
          ->open_writer(world_.driver->spec_of(object, Durability::memory), &writer, &opened)
          .ok());
  ASSERT_TRUE(world_.driver->wait(&opened).ok());
  ASSERT_TRUE(world_.driver->fill(&writer, object).ok());
  world_.keeper->freeze();
  writer.~ChunkWriter();
  new (&writer) ChunkWriter();
  killed();
  EXPECT_EQ(objects(), 0u);
  EXPECT_EQ(get(1).code(), StatusCode::kNotFound);
}

TEST_F(WarmRestartTest, an_unverified_object_is_not_resident_before_its_reader_is_open) {
  start();
  put(1);
  killed();
  ChunkReader reader;
  Waiting opened;
  ASSERT_TRUE(
      world_.store->open_reader(NamespaceId{1}, TestObject(1).key, 1, &reader, &opened).ok());
  std::vector<iovec> memory;
  EXPECT_FALSE(world_.store->resident(reader, 0, &memory));
  ASSERT_TRUE(world_.driver->wait(&opened).ok());
  EXPECT_TRUE(world_.store->resident(reader, 0, &memory));
}

TEST_F(WarmRestartTest, a_slab_that_was_somebodys_and_is_empty_gets_new_memory) {
  start();
  put(1);
  ASSERT_TRUE(world_.driver->erase(TestObject(1)).ok());
  killed();
  EXPECT_EQ(slabs_refused(NotTaken::empty), 1u);
  EXPECT_EQ(world_.store->metrics().warm_slabs.get(), 3u) << "nobody had the others";
}

TEST_F(WarmRestartTest, epochs_of_memory_never_come_back) {
  start();
  std::vector<uint64_t> seen;
  for (int life = 0; life < 4; ++life) {
    put(1);
    ChunkReader reader;
    Waiting opened;
    ASSERT_TRUE(
        world_.store->open_reader(NamespaceId{1}, TestObject(1).key, 1, &reader, &opened).ok());
    ASSERT_TRUE(world_.driver->wait(&opened).ok());
    std::vector<iovec> memory;
    ASSERT_TRUE(world_.store->resident(reader, 0, &memory));
    const auto place = world_.store->place_of(static_cast<std::byte*>(memory[0].iov_base));
    ASSERT_TRUE(place);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), place->epoch), 0);
    seen.push_back(place->epoch);
    reader.~ChunkReader();
    new (&reader) ChunkReader();
    ASSERT_TRUE(world_.driver->erase(TestObject(1)).ok());  // so that the slab is replaced
    killed();
  }
}

TEST_F(WarmRestartTest, a_younger_row_wins_and_an_older_one_goes) {
  start();
  put(1, Durability::nvme);
  world_.keeper->freeze();  // memory of before the next erase and put
  ASSERT_TRUE(world_.driver->erase(TestObject(1)).ok());
  put(1, Durability::nvme);
  const uint64_t young = world_.store->find(NamespaceId{1}, TestObject(1).key)->generation;
  killed();
  EXPECT_EQ(refused(NotTaken::stale), 1u);
  const auto info = world_.store->find(NamespaceId{1}, TestObject(1).key);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->generation, young);
  EXPECT_EQ(info->tiers, mask_of(Tier::nvme));
  EXPECT_TRUE(get(1).ok());
}

TEST_F(WarmRestartTest, slabs_that_the_keeper_refuses_are_cold_and_counted) {
  world_.keeper->refuse_more = true;
  start();
  EXPECT_EQ(world_.store->metrics().slab_keep_failures.get(), 4u);
  put(1);
  killed();
  EXPECT_EQ(objects(), 0u);
}

TEST_F(WarmRestartTest, a_duplicate_put_is_acknowledged_once_the_copy_is_known_to_be_good) {
  start();
  put(1);
  put(2);
  world_.crash();
  size_t hit = 0;
  change(0, [&](std::span<std::byte> bytes, uint64_t data) {
    for (size_t block = 0; block < 2 * kMiB / 4096 && hit == 0; ++block) {
      if (entry(bytes, block).commit.load() == 0) continue;
      bytes[data + (block + 1) * 4096] ^= std::byte{1};  // behind the header of the first object
      hit = block + 1;
    }
  });
  ASSERT_GT(hit, 0u);
  start();
  EXPECT_EQ(world_.driver->put(TestObject(2), Durability::memory).code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(world_.driver->put(TestObject(1), Durability::memory).code(), StatusCode::kAborted);
  EXPECT_EQ(world_.store->metrics().warm_failed_objects.get(), 1u);
  put(1);
  EXPECT_TRUE(get(1).ok());
}

TEST_F(WarmRestartTest, the_scrubber_looks_at_what_nobody_asks_for) {
  start();
  for (uint64_t n = 1; n <= 5; ++n) put(n);
  world_.config.scrub_period = seconds(1);
  killed();
  ASSERT_TRUE(world_.driver->until(
      [&] { return world_.store->metrics().warm_verified_objects.get() == 5; }));
}

TEST_F(WarmRestartTest, a_tenant_that_came_back_keeps_its_slabs_for_a_while) {
  start();
  // Tenant 1 has all four slabs.
  for (uint64_t n = 1; n <= 30; ++n) put(n);
  killed();
  const uint64_t back = objects();
  world_.driver->ns = NamespaceId{2};
  (void)world_.driver->put(TestObject(1), Durability::memory);
  world_.driver->ns = NamespaceId{1};
  uint64_t there = 0;
  for (uint64_t n = 1; n <= 30; ++n) there += get(n).ok();
  // The other one got a fair share at most, not all that rested during the restart.
  EXPECT_GE(there, back / 3);
}
}  // namespace
}  // namespace terrace
