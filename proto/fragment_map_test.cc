// Goal: every logical byte is found where its fragment says, and overlaps are refused.
// Method: a byte-by-byte model over seeded random fragment lists.
#include "proto/fragment_map.h"

#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"

namespace terrace {
namespace {

using Model = std::map<uint64_t, std::pair<uint64_t, uint64_t>>;  // byte -> region, its offset

void expect_like(const FragmentMap& map, const Model& model, uint64_t end, Prng* prng) {
  ASSERT_EQ(map.bytes(), model.size());
  for (int probe = 0; probe < 10; ++probe) {
    const ByteRange range{prng->below(end + 2), 1 + prng->below(30)};
    const size_t spans_max = prng->chance(30) ? FragmentMap::kNoLimit : 1 + prng->below(4);
    std::vector<RemoteSpan> spans;
    const uint64_t got = map.locate(range, spans_max, &spans);
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
    ASSERT_LE(spans.size(), spans_max);
    ASSERT_EQ(got > 0, model.contains(range.offset));
    const bool cut = got < range.bytes && model.contains(range.offset + got);
    ASSERT_TRUE(!cut || spans.size() == spans_max) << "stopped for no reason";
  }
}

TEST(FragmentMap, LocatesLikeAByteByByteModel) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<Fragment> fragments;
    Model model;
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
    expect_like(*map, model, at, &prng);
  }
}

TEST(FragmentMap, PagedLocatesLikeAByteByByteModel) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<uint32_t> blocks;
    for (uint64_t n = 1 + prng.below(6); n > 0; --n) {
      const bool next = !blocks.empty() && prng.chance(50);  // neighbours merge
      blocks.push_back(next ? blocks.back() + 1 : static_cast<uint32_t>(prng.below(50)));
    }
    PagedPool pool;
    Model model;
    uint64_t at = prng.below(4);
    for (uint64_t n = 1 + prng.below(5); n > 0; --n) {
      const uint64_t bytes = 1 + prng.below(9);
      const PoolPlane plane{at, RegionId{prng.below(2)}, prng.below(64),
                            prng.chance(50) ? bytes : bytes + prng.below(5), bytes};
      for (size_t i = 0; i < blocks.size(); ++i) {
        for (uint64_t b = 0; b < bytes; ++b) {
          model[at + i * bytes + b] = {static_cast<uint64_t>(plane.region),
                                       plane.offset + blocks[i] * plane.block_stride + b};
        }
      }
      pool.push_back(plane);
      at += bytes * blocks.size() + (prng.chance(40) ? prng.below(5) : 0);
    }
    const auto map = FragmentMap::create_paged(std::make_shared<const PagedPool>(pool), blocks);
    ASSERT_TRUE(map.ok()) << map.status().to_string();
    expect_like(*map, model, at, &prng);
  }
}

TEST(FragmentMap, PagedMistakesAreRefused) {
  const auto refused = [](PagedPool pool, std::vector<uint32_t> blocks) {
    const auto map =
        FragmentMap::create_paged(std::make_shared<const PagedPool>(std::move(pool)), blocks);
    return map.status().code() == StatusCode::kInvalidArgument;
  };
  const PagedPool good = {{0, RegionId{1}, 0, 16, 16}, {32, RegionId{1}, 512, 16, 16}};
  EXPECT_FALSE(refused(good, {1, 2}));
  EXPECT_TRUE(refused(good, {}));
  EXPECT_TRUE(refused({}, {1}));
  EXPECT_TRUE(refused(good, {1, 2, 3})) << "the first plane reaches into the second";
  EXPECT_TRUE(refused({good[1], good[0]}, {1, 2}));
  EXPECT_TRUE(refused({{0, RegionId{1}, 0, 16, 0}}, {1}));
  EXPECT_TRUE(refused({{0, RegionId{1}, 0, ~uint64_t{0}, 16}}, {1}));
  EXPECT_TRUE(refused({{0, RegionId{1}, ~uint64_t{0}, 16, 16}}, {1}));
  EXPECT_FALSE(refused({{0, RegionId{1}, 0, ~uint64_t{0}, 16}}, {0}));
  EXPECT_EQ(FragmentMap::create_paged(nullptr, {1}).status().code(), StatusCode::kInvalidArgument);
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
