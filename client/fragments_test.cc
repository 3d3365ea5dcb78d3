// Goal: the fragments of a paged chunk name, for every logical byte, the block that holds its
// token. Method: a byte-by-byte model over seeded geometries, pools and block tables; a table of
// mistakes.
#include <gtest/gtest.h>

#include <map>

#include "base/prng.h"
#include "client/terrace.h"

namespace terrace {
namespace {

struct Case {
  Geometry geometry;
  std::vector<PoolSegment> pool;
  std::vector<uint32_t> blocks;
};

Case random_case(Prng* prng) {
  Case c;
  const auto tokens_per_block = static_cast<uint32_t>(1 + prng->below(4));
  const auto block_count = 1 + prng->below(6);
  c.geometry.tokens_per_chunk = static_cast<uint32_t>(tokens_per_block * block_count);
  const uint64_t layers = 1 + prng->below(4);
  for (uint64_t l = 0; l < layers; ++l) {
    LayerGeometry layer{static_cast<uint16_t>(1 + prng->below(2)),
                        static_cast<uint16_t>(2 + 2 * prng->below(2)),
                        Dtype::bf16,
                        Attention::gqa,
                        0,
                        -1,
                        0};
    if (l > 0 && prng->chance(20)) layer.alias_of = 0;
    c.geometry.layers.push_back(layer);
  }
  for (uint64_t b = 0; b < block_count; ++b) {
    const bool next = !c.blocks.empty() && prng->chance(50);  // neighbours merge
    c.blocks.push_back(next ? c.blocks.back() + 1 : static_cast<uint32_t>(prng->below(50)));
  }
  for (const SectionSpec& s : sections_of(c.geometry, c.geometry.tokens_per_chunk)) {
    const uint64_t block_bytes = s.bytes / block_count;
    c.pool.push_back({s.layer, s.kind, RegionId{1 + prng->below(2)}, prng->below(1000),
                      block_bytes + (prng->chance(50) ? prng->below(64) : 0), block_bytes});
  }
  return c;
}

TEST(FragmentsOf, MatchesAByteByByteModel) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    const Case c = random_case(&prng);
    ASSERT_TRUE(c.geometry.validate().ok()) << c.geometry.validate().to_string();
    const auto fragments = fragments_of(c.geometry, c.pool, c.blocks);
    ASSERT_TRUE(fragments.ok()) << fragments.status().to_string();
    std::vector<std::pair<RegionId, uint64_t>> model;  // by logical byte
    for (const PoolSegment& segment : c.pool) {        // in section order by construction
      for (const uint32_t block : c.blocks) {
        for (uint64_t b = 0; b < segment.block_bytes; ++b) {
          model.emplace_back(segment.region, segment.offset + block * segment.block_stride + b);
        }
      }
    }
    uint64_t at = 0;
    for (const Fragment& f : *fragments) {
      ASSERT_EQ(f.object_offset, at);
      for (uint64_t b = 0; b < f.length; ++b, ++at) {
        ASSERT_LT(at, model.size());
        ASSERT_EQ(model[at], std::pair(f.region, f.offset + b)) << "logical byte " << at;
      }
    }
    ASSERT_EQ(at, model.size());
  }
}

TEST(FragmentsOf, MistakesNameTheSection) {
  Geometry geometry;
  geometry.tokens_per_chunk = 4;
  geometry.layers = {{1, 8, Dtype::bf16, Attention::gqa, 0, -1, 0}};
  const std::vector<PoolSegment> good = {{0, SectionKind::k_plane, RegionId{1}, 0, 32, 32},
                                         {0, SectionKind::v_plane, RegionId{1}, 4096, 32, 32}};
  const std::vector<uint32_t> blocks = {3, 4};
  ASSERT_TRUE(fragments_of(geometry, good, blocks).ok());
  EXPECT_EQ(fragments_of(geometry, good, blocks)->size(), 2u) << "neighbouring blocks merge";
  const auto refused = [&](std::vector<PoolSegment> pool, std::vector<uint32_t> table) {
    const auto result = fragments_of(geometry, pool, table);
    EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(result.status().message().find("layer 0"), std::string::npos);
  };
  refused({good[0]}, blocks);
  refused({good[0], good[0], good[1]}, blocks);
  refused(good, {3});
  refused(good, {3, 4, 5});
  refused(good, {});
  auto narrow = good;
  narrow[1].block_stride = 31;
  refused(narrow, blocks);
  auto far = good;
  far[0].block_stride = ~uint64_t{0};
  EXPECT_EQ(fragments_of(geometry, far, blocks).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(fragments_of(Geometry{}, good, blocks).status().code(), StatusCode::kInvalidArgument);
}
}  // namespace
}  // namespace terrace
