// Goal: shares hold every item once, in the caller's order, on the node that owns it.
// Method: random keys over several memberships; the cases with one share.
#include "client/split.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "client/terrace.h"

namespace terrace {
namespace {

std::vector<ChunkKey> keys(uint64_t seed, size_t count) {
  std::vector<ChunkKey> out(count);
  Prng prng(seed);
  for (ChunkKey& key : out) prng.fill(key.digest);
  return out;
}

TEST(Split, EachItemIsOnceWithItsOwner) {
  for (uint64_t seed = 1; seed < 50; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::string> names;
    for (uint64_t i = 0, n = 1 + prng.below(9); i < n; ++i) names.push_back(std::to_string(i));
    const Rendezvous nodes(names);
    const std::vector<ChunkKey> all = keys(seed, 1 + prng.below(40));
    std::vector<uint32_t> seen(all.size());
    for (const Share& share : split<ChunkKey>(nodes, all)) {
      ASSERT_GT(share.size(), 0u);
      size_t before = 0, count = 0;
      for (const size_t i : share) {
        ASSERT_LT(i, all.size());
        EXPECT_EQ(nodes.owner(all[i]), share.node());
        EXPECT_TRUE(count == 0 || i > before) << "the caller's order";
        EXPECT_EQ(share[count++], i);
        before = i;
        ++seen[i];
      }
      EXPECT_EQ(count, share.size());
    }
    EXPECT_EQ(seen, std::vector<uint32_t>(all.size(), 1));
  }
}

TEST(Split, OneNodeHasOneShareOfAll) {
  const std::vector<ChunkKey> all = keys(3, 7);
  const auto shares = split<ChunkKey>(Rendezvous(std::vector<std::string>{"only"}), all);
  ASSERT_EQ(shares.size(), 1u);
  EXPECT_EQ(shares[0].size(), 7u);
  EXPECT_EQ(shares[0][6], 6u);
}

TEST(Split, ItemsAreSplitByTheirKey) {
  const Rendezvous nodes(std::vector<std::string>{"a", "b", "c"});
  const std::vector<ChunkKey> all = keys(9, 30);
  std::vector<FetchItem> items(all.size());
  for (size_t i = 0; i < all.size(); ++i) items[i].key = all[i];
  const auto by_item = split<FetchItem>(nodes, items);
  const auto by_key = split<ChunkKey>(nodes, all);
  ASSERT_EQ(by_item.size(), by_key.size());
  for (size_t s = 0; s < by_key.size(); ++s) EXPECT_EQ(by_item[s].size(), by_key[s].size());
}
}  // namespace
}  // namespace terrace
