// Goal: keys spread evenly, a change of membership moves only what it must, and the owners are the
// same in every build: a client of another version must look where this one put.
// Method: counts over many keys, names added, removed and reordered, and golden owners.
#include "base/rendezvous.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/identity.h"

namespace terrace {
namespace {

std::vector<std::string> names(uint32_t count) {
  std::vector<std::string> out;
  for (uint32_t i = 0; i < count; ++i) out.push_back("10.0.0." + std::to_string(i) + ":7410");
  return out;
}

ChunkKey key_of(uint64_t number) {
  return sha256("key " + std::to_string(number));
}

TEST(Rendezvous, KeysSpreadEvenly) {
  constexpr uint32_t kKeys = 30'000;
  for (const uint32_t nodes : {2u, 3u, 7u, 64u}) {
    const Rendezvous owners(names(nodes));
    std::vector<uint32_t> count(nodes);
    for (uint32_t i = 0; i < kKeys; ++i) ++count[owners.owner(key_of(i))];
    const double mean = double(kKeys) / nodes;
    // Chance alone strays by sqrt(mean); five times that happens once in a million.
    for (const uint32_t one : count) EXPECT_NEAR(one, mean, 5 * std::sqrt(mean)) << nodes;
  }
}

TEST(Rendezvous, AKeyMovesOnlyToTheNodeThatJoins) {
  constexpr uint32_t kKeys = 20'000;
  const Rendezvous before(names(4));
  const Rendezvous after(names(5));
  uint32_t moved = 0;
  for (uint32_t i = 0; i < kKeys; ++i) {
    const uint32_t was = before.owner(key_of(i));
    const uint32_t is = after.owner(key_of(i));
    if (was == is) continue;
    EXPECT_EQ(is, 4u) << "a key moved between two nodes that stayed";
    ++moved;
  }
  EXPECT_NEAR(moved, kKeys / 5, 300);
}

TEST(Rendezvous, TheOrderOfTheNamesDoesNotMatter) {
  std::vector<std::string> some = names(9);
  const std::vector<std::string> first = some;
  const Rendezvous before(first);
  std::reverse(some.begin() + 1, some.end());
  std::swap(some[0], some[5]);
  const Rendezvous after(some);
  for (uint32_t i = 0; i < 5000; ++i) {
    EXPECT_EQ(first[before.owner(key_of(i))], some[after.owner(key_of(i))]);
  }
}

TEST(Rendezvous, OneNodeOwnsEverything) {
  const Rendezvous alone(names(1));
  EXPECT_EQ(alone.nodes(), 1u);
  for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(alone.owner(key_of(i)), 0u);
}

TEST(Rendezvous, GoldenOwners) {
  const Rendezvous owners(std::vector<std::string>{"a:7410", "b:7410", "c:7410"});
  std::string got;
  for (uint32_t i = 0; i < 40; ++i) got += static_cast<char>('a' + owners.owner(key_of(i)));
  EXPECT_EQ(got, "abaacbcabcbbbbaccaaccccccacbacbabaaacbbb");
}
}  // namespace
}  // namespace terrace
