// Goal: every logical byte is found where its fragment says, and overlaps are refused.
// Method: a byte-by-byte model over seeded random fragment lists.
#include "proto/fragment_map.h"

#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"

namespace terrace {
namespace {

TEST(FragmentMap, LocatesLikeAByteByByteModel) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<Fragment> fragments;
    std::map<uint64_t, std::pair<uint64_t, uint64_t>> model;  // logical byte -> region, offset
    uint64_t at = prng.below(4);
    for (uint64_t n = prng.below(12); n > 0; --n) {
      const Fragment f{at, RegionId{prng.below(2)}, prng.below(64), 1 + prng.below(9)};
      for (uint64_t b = 0; b < f.length; ++b) {
        model[at + b] = {static_cast<uint64_t>(f.region), f.offset + b};
      }
      fragments.push_back(f);
      at += f.length + (prng.chance(40) ? prng.below(5) : 0);
    }
    for (size_t i = fragments.size(); i > 1; --i)
      std::swap(fragments[i - 1], fragments[prng.below(i)]);
    const auto map = FragmentMap::create(fragments);
    ASSERT_TRUE(map.ok());
    ASSERT_EQ(map->bytes(), model.size());
    for (int probe = 0; probe < 10; ++probe) {
      const ByteRange range{prng.below(at + 2), 1 + prng.below(30)};
      std::vector<RemoteSpan> spans;
      const uint64_t got = map->locate(range, 1 + prng.below(4), &spans);
      uint64_t seen = 0;
      for (const RemoteSpan& span : spans) {
        for (uint64_t b = 0; b < span.length; ++b, ++seen) {
          const auto expected = model.find(range.offset + seen);
          ASSERT_NE(expected, model.end());
          ASSERT_EQ(expected->second.first, static_cast<uint64_t>(span.region));
          ASSERT_EQ(expected->second.second, span.offset + b);
        }
      }
      ASSERT_EQ(seen, got);
      ASSERT_LE(got, range.bytes);
      ASSERT_EQ(got > 0, model.contains(range.offset));
    }
  }
}

TEST(FragmentMap, OverlapAndEmptyAreRefused) {
  EXPECT_FALSE(FragmentMap::create({{0, RegionId{1}, 0, 4}, {3, RegionId{1}, 8, 4}}).ok());
  EXPECT_FALSE(FragmentMap::create({{0, RegionId{1}, 0, 0}}).ok());
  EXPECT_FALSE(FragmentMap::create({{~uint64_t{0}, RegionId{1}, 0, 2}}).ok());
  const auto whole = FragmentMap::create({{4, RegionId{1}, 0, 4}, {0, RegionId{2}, 8, 4}});
  EXPECT_TRUE(whole->covers(8));
  EXPECT_FALSE(whole->covers(9));
  EXPECT_FALSE(FragmentMap().covers(1));
}
}  // namespace
}  // namespace terrace
