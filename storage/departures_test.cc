// Goal: what left lately is found by its name, the newest first, and memory stays bounded. Method:
// seeds with more departures than fit, against a plain list.
#include "storage/departures.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/prng.h"

namespace terrace {
namespace {

ChunkKey key_of(uint64_t number) {
  ChunkKey key;
  for (size_t i = 0; i < 8; ++i) key.digest[i] = static_cast<std::byte>(number >> (8 * i));
  return key;
}

Departure departure(uint64_t key, uint64_t bytes) {
  Departure out;
  out.key = key_of(key);
  out.ns = NamespaceId{static_cast<uint32_t>(key % 3)};
  out.bytes = bytes;
  return out;
}

TEST(DeparturesTest, remembers_the_newest_and_forgets_the_oldest) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    Departures departures(16 * 1024);
    ASSERT_GT(departures.capacity(), 50u);
    std::deque<Departure> model;
    for (uint64_t i = 0; i < 2000; ++i) {
      const Departure one = departure(prng.below(40), i);
      departures.add(one);
      model.push_front(one);
      if (model.size() > departures.capacity()) model.pop_back();
      const uint64_t asked = prng.below(40);
      const Departure wanted = departure(asked, 0);
      std::vector<uint64_t> expected;
      for (const Departure& each : model) {
        if (each.key == wanted.key && each.ns == wanted.ns) expected.push_back(each.bytes);
      }
      std::vector<uint64_t> found;
      for (const Departure& each : departures.of(wanted.ns, wanted.key, ~size_t{0})) {
        found.push_back(each.bytes);
      }
      ASSERT_EQ(found, expected) << "seed " << seed << " step " << i;
      Departure* const newest = departures.newest(wanted.ns, wanted.key);
      ASSERT_EQ(newest == nullptr, expected.empty());
      if (newest != nullptr) {
        ASSERT_EQ(newest->bytes, expected[0]);
      }
    }
    EXPECT_EQ(departures.size(), departures.capacity());
  }
}

TEST(DeparturesTest, without_memory_it_remembers_nothing) {
  Departures departures(0);
  departures.add(departure(1, 1));
  EXPECT_TRUE(departures.of(NamespaceId{1}, key_of(1), 10).empty());
  EXPECT_EQ(departures.newest(NamespaceId{1}, key_of(1)), nullptr);
}

TEST(DeparturesTest, keys_that_begin_alike_are_found_in_a_few_steps) {
  Departures departures(1024 * 1024);
  constexpr uint64_t kKeys = 2000;
  ASSERT_GT(departures.capacity(), kKeys);
  const auto alike = [](uint64_t n) {
    Departure out;
    for (size_t i = 0; i < 8; ++i) out.key.digest[24 + i] = static_cast<std::byte>(n >> (8 * i));
    return out;
  };
  for (uint64_t n = 0; n < kKeys; ++n) departures.add(alike(n));
  for (uint64_t n = 0; n < kKeys; ++n) {
    ASSERT_NE(departures.newest(NamespaceId{}, alike(n).key), nullptr) << n;
  }
}
}  // namespace
}  // namespace terrace
