// Goal: a pool and a block table name, for every logical byte, the place of its token; what does
// not fit is refused with the name of the section; the regions stay held as long as they are used.
// Method: a byte-by-byte model over seeded geometries, pools and tables; the layouts that engines
// keep their caches in; a table of mistakes.
#include "client/item_places.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace terrace {
namespace {

constexpr uint64_t kRegionBytes = 64 * 1024;

struct Case {
  Geometry geometry;
  std::vector<PoolSegment> pool;
  std::vector<uint32_t> blocks;
};

Geometry geometry_of(uint64_t layers, uint32_t tokens) {
  Geometry geometry;
  geometry.tokens_per_chunk = tokens;
  geometry.layers.assign(layers, {1, 8, Dtype::bf16, Attention::gqa, 0, -1, 0});
  return geometry;
}

Case random_case(Prng* prng) {
  Case c;
  const auto tokens_per_block = static_cast<uint32_t>(1 + prng->below(4));
  const auto block_count = 1 + prng->below(6);
  c.geometry =
      geometry_of(1 + prng->below(4), static_cast<uint32_t>(tokens_per_block * block_count));
  for (size_t l = 0; l < c.geometry.layers.size(); ++l) {
    LayerGeometry& layer = c.geometry.layers[l];
    layer.kv_heads = static_cast<uint16_t>(1 + prng->below(2));
    if (l > 0 && prng->chance(20)) {
      layer = c.geometry.layers[0];
      layer.alias_of = 0;
    }
  }
  for (uint64_t b = 0; b < block_count; ++b) {
    c.blocks.push_back(static_cast<uint32_t>(prng->below(50)));
  }
  for (const SectionSpec& s : sections_of(c.geometry, c.geometry.tokens_per_chunk)) {
    const uint64_t block_bytes = s.bytes / block_count;
    c.pool.push_back({s.layer, s.kind, RegionId{1 + prng->below(2)}, prng->below(1000),
                      block_bytes + (prng->chance(50) ? prng->below(64) : 0), block_bytes});
  }
  return c;
}

class ItemPlacesTest : public testing::Test {
 protected:
  ItemPlacesTest() : memory_(2 * kRegionBytes) {
    table_.add(RegionId{1}, std::span(memory_).first(kRegionBytes));
    table_.add(RegionId{2}, std::span(memory_).last(kRegionBytes));
  }
  ItemPlaces places_of(const Geometry& geometry) {
    return ItemPlaces(std::make_shared<const ObjectShape>(shape_of(geometry)), &table_);
  }
  StatusOr<FragmentMap> map_of(const Case& c) {
    ItemPlaces places = places_of(c.geometry);
    TERRACE_RETURN_IF_ERROR(places.use_pool(c.pool));
    return places.next({}, c.blocks);
  }

  std::vector<std::byte> memory_;
  MemoryTable table_;
};

/// Region and offset of every logical byte, for segments in section order.
std::vector<std::pair<RegionId, uint64_t>> model_of(const Case& c) {
  std::vector<std::pair<RegionId, uint64_t>> model;
  for (const PoolSegment& segment : c.pool) {
    for (const uint32_t block : c.blocks) {
      for (uint64_t b = 0; b < segment.block_bytes; ++b) {
        model.emplace_back(segment.region, segment.offset + block * segment.block_stride + b);
      }
    }
  }
  return model;
}

void expect_like_model(const FragmentMap& map, const Case& c) {
  const auto model = model_of(c);
  ASSERT_TRUE(map.covers(model.size()));
  std::vector<RemoteSpan> spans;
  ASSERT_EQ(map.locate({0, model.size()}, FragmentMap::kNoLimit, &spans), model.size());
  uint64_t at = 0;
  for (const RemoteSpan& span : spans) {
    for (uint64_t b = 0; b < span.length; ++b, ++at) {
      ASSERT_EQ(model[at], std::pair(span.region, span.offset + b)) << "logical byte " << at;
    }
  }
}

TEST_F(ItemPlacesTest, MatchesAByteByByteModel) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    Case c = random_case(&prng);
    ASSERT_TRUE(c.geometry.validate().ok()) << c.geometry.validate().to_string();
    Case shuffled = c;  // the order of segments means nothing
    for (size_t i = shuffled.pool.size(); i > 1; --i) {
      std::swap(shuffled.pool[i - 1], shuffled.pool[prng.below(i)]);
    }
    const auto map = map_of(shuffled);
    ASSERT_TRUE(map.ok()) << map.status().to_string();
    expect_like_model(*map, c);
  }
}

/// Offsets and strides of layer l, plane p (0 K, 1 V) in a cache of L layers, N blocks, B bytes.
struct Layout {
  const char* name;
  uint64_t (*offset)(uint64_t l, uint64_t p, uint64_t layers, uint64_t blocks, uint64_t bytes);
  uint64_t (*stride)(uint64_t layers, uint64_t bytes);
};

const Layout kLayouts[] = {
    {"layers of [2, blocks, ...] (FlashAttention)",
     [](uint64_t l, uint64_t p, uint64_t, uint64_t n, uint64_t b) { return (l * 2 + p) * n * b; },
     [](uint64_t, uint64_t b) { return b; }},
    {"layers of [blocks, 2, ...] (FlashInfer)",
     [](uint64_t l, uint64_t p, uint64_t, uint64_t n, uint64_t b) { return (l * n * 2 + p) * b; },
     [](uint64_t, uint64_t b) { return 2 * b; }},
    {"[blocks, layers, 2, ...] (across layers)",
     [](uint64_t l, uint64_t p, uint64_t, uint64_t, uint64_t b) { return (l * 2 + p) * b; },
     [](uint64_t layers, uint64_t b) { return layers * 2 * b; }},
    {"[2, layers, blocks, ...] (K and V apart)",
     [](uint64_t l, uint64_t p, uint64_t layers, uint64_t n, uint64_t b) {
       return (p * layers + l) * n * b;
     },
     [](uint64_t, uint64_t b) { return b; }},
};

TEST_F(ItemPlacesTest, TheLayoutsOfEngines) {
  constexpr uint64_t kLayers = 3, kBlocks = 16, kTokens = 8, kBlockTokens = 4;
  constexpr uint64_t kBlockBytes = kBlockTokens * 8 * 2;
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    Case c{geometry_of(kLayers, kTokens), {}, {9, 2}};
    for (uint64_t l = 0; l < kLayers; ++l) {
      for (uint64_t p = 0; p < 2; ++p) {
        c.pool.push_back({static_cast<uint16_t>(l),
                          p == 0 ? SectionKind::k_plane : SectionKind::v_plane, RegionId{1},
                          layout.offset(l, p, kLayers, kBlocks, kBlockBytes),
                          layout.stride(kLayers, kBlockBytes), kBlockBytes});
      }
    }
    const auto map = map_of(c);
    ASSERT_TRUE(map.ok()) << map.status().to_string();
    expect_like_model(*map, c);
  }
}

TEST_F(ItemPlacesTest, MistakesNameTheSection) {
  const Geometry geometry = geometry_of(1, 4);
  const std::vector<PoolSegment> good = {{0, SectionKind::k_plane, RegionId{1}, 0, 32, 32},
                                         {0, SectionKind::v_plane, RegionId{1}, 4096, 32, 32}};
  const std::vector<uint32_t> blocks = {3, 4};
  ASSERT_TRUE(map_of({geometry, good, blocks}).ok());
  const auto refused = [&](std::vector<PoolSegment> pool, std::vector<uint32_t> table,
                           const std::string& why) {
    const auto map = map_of({geometry, std::move(pool), std::move(table)});
    EXPECT_EQ(map.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(map.status().message().find(why), std::string::npos) << map.status().to_string();
  };
  refused({good[0]}, blocks, "layer 0 V plane has no segment");
  refused({good[0], good[0], good[1]}, blocks, "layer 0 K plane has two segments");
  refused(good, {3}, "layer 0 K plane has 64 bytes; 1 blocks of 32");
  refused(good, {3, 4, 5}, "layer 0 K plane");
  refused(good, {3, 2000}, "region 1, which has 65536 bytes");
  refused({}, blocks, "without a pool");
  auto narrow = good;
  narrow[1].block_stride = 31;
  refused(narrow, blocks, "layer 0 V plane");
  auto far = good;
  far[0].block_stride = ~uint64_t{0};
  refused(far, blocks, "past the address space");
  auto foreign = good;
  foreign[1].region = RegionId{7};
  refused(foreign, blocks, "region 7 is not registered");
  EXPECT_EQ(places_of(Geometry{}).use_pool(good).code(), StatusCode::kInvalidArgument)
      << "a raw namespace";
}

TEST_F(ItemPlacesTest, OneWayOfSayingIt) {
  const Geometry geometry = geometry_of(1, 4);
  ItemPlaces places = places_of(geometry);
  const Fragment fragment{0, RegionId{1}, 0, 128};
  const uint32_t block = 0;
  EXPECT_EQ(places.next({}, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(places.next({&fragment, 1}, {&block, 1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(places.next({&fragment, 1}, {}).ok());
  EXPECT_TRUE(places.packed_pool().empty());
}

TEST_F(ItemPlacesTest, RegionsAreHeldUntilReleased) {
  const Geometry geometry = geometry_of(1, 4);
  ItemPlaces places = places_of(geometry);
  const Fragment fragment{0, RegionId{1}, 0, 128};
  ASSERT_TRUE(places.next({&fragment, 1}, {}).ok());
  RegionUses held = places.take_memory();
  EXPECT_EQ(table_.begin_remove(RegionId{1}).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(table_.begin_remove(RegionId{2}).ok());
  held.release();
  EXPECT_TRUE(table_.begin_remove(RegionId{1}).ok());
}
}  // namespace
}  // namespace terrace
