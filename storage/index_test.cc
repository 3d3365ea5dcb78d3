// Goal: the index finds exactly what was put into it, in about a hundred bytes each.
// Method: random inserts, unlinks, releases and lookups against a std::map, for many seeds; the
// memory of a million entries is measured.
#include "storage/index.h"

#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"
#include "storage/policy/value_policy.h"

namespace terrace {
namespace {

ChunkKey random_key(Prng& prng, uint64_t variety) {
  ChunkKey key;  // few different keys, and not uniform ones
  key.digest[7] = static_cast<std::byte>(prng.below(variety) & 0xFF);
  key.digest[20] = static_cast<std::byte>(prng.below(variety) & 0xFF);
  return key;
}

TEST(IndexTest, follows_a_map) {
  using Name = std::pair<uint32_t, ChunkKey>;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Prng prng(seed);
    Index index;
    std::map<Name, uint32_t> model;
    const uint64_t variety = 2 + prng.below(200);
    for (int step = 0; step < 3000; ++step) {
      const Name name{static_cast<uint32_t>(prng.below(3)), random_key(prng, variety)};
      const auto ns = NamespaceId{name.first};
      const auto it = model.find(name);
      const uint32_t found = index.find(ns, name.second);
      ASSERT_EQ(found, it == model.end() ? kNoEntry : it->second) << "seed " << seed;
      if (it == model.end()) {
        const uint32_t id = index.insert(ns, name.second);
        index[id].generation = static_cast<uint64_t>(step);
        model[name] = id;
      } else if (prng.chance(50)) {
        index.unlink(found);
        ASSERT_EQ(index.find(ns, name.second), kNoEntry) << "seed " << seed;
        index.release(found);
        model.erase(it);
      }
      ASSERT_EQ(index.count(), model.size()) << "seed " << seed;
    }
    for (const auto& [name, id] : model) {
      ASSERT_EQ(index.find(NamespaceId{name.first}, name.second), id) << "seed " << seed;
    }
  }
}

TEST(IndexTest, extents_of_all_sizes_come_back) {
  Index index;
  for (uint32_t n = 1; n < 50; ++n) {
    ChunkKey key;
    key.digest[0] = static_cast<std::byte>(n);
    const uint32_t id = index.insert(NamespaceId{1}, key);
    std::vector<Extent> extents;
    for (uint32_t i = 0; i < n; ++i) extents.push_back({100 * n + i, 1 + i});
    index.set_extents(id, extents);
    const std::span<const Extent> got = index.extents(id);
    EXPECT_EQ(std::vector<Extent>(got.begin(), got.end()), extents);
    index.clear_extents(id);
    EXPECT_TRUE(index.extents(id).empty());
  }
}

TEST(IndexTest, a_cold_object_costs_less_than_two_hundred_bytes) {
  Index index;
  ValuePolicy policy;
  Prng prng(7);
  constexpr uint32_t kObjects = 1'000'000;
  for (uint32_t i = 0; i < kObjects; ++i) {
    ChunkKey key;
    prng.fill(key.digest);
    const uint32_t id = index.insert(NamespaceId{1}, key);
    const Extent extent{i, 2};
    index.set_extents(id, {&extent, 1});
    policy.known(id, {.name = i, .bytes = 8192}, seconds(1));
    policy.entered(Tier::nvme, 0, id);
    policy.entered(Tier::dram, 7, id);
    policy.left(Tier::dram, id);  // every object was there once, and the memory for that stays
  }
  const uint64_t each = (index.memory_bytes() + policy.memory_bytes()) / kObjects;
  EXPECT_LT(each, 200u);
}

TEST(IndexTest, same_tells_a_reused_slot_apart) {
  Index index;
  const uint32_t id = index.insert(NamespaceId{1}, ChunkKey());
  index[id].generation = 5;
  EXPECT_NE(index.same(id, 5), nullptr);
  EXPECT_EQ(index.same(id, 6), nullptr);
  index.unlink(id);
  EXPECT_EQ(index.same(id, 5), nullptr);
  index.release(id);
  EXPECT_EQ(index.same(id, 5), nullptr);
}
}  // namespace
}  // namespace terrace
