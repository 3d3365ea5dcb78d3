// Goal: a geometry yields the sections an engine means, and nonsense is refused by name.
// Method: hand-computed cases, one broken field at a time.
#include "base/geometry.h"

#include <gtest/gtest.h>

#include <functional>

namespace terrace {
namespace {

Geometry sample() {
  Geometry g;
  g.tokens_per_chunk = 16;
  g.layers = {{2, 64, Dtype::f32, Attention::gqa, 0, -1, 0},
              {1, 576, Dtype::bf16, Attention::mla, 0, -1, 0},
              {2, 64, Dtype::f32, Attention::gqa, 0, 0, 0},
              {2, 64, Dtype::f16, Attention::sliding_window, 512, -1, 0}};
  return g;
}

TEST(Geometry, SectionsComeInNeedOrderKBeforeV) {
  Geometry g = sample();
  ASSERT_TRUE(g.validate().ok()) << g.validate().to_string();
  g.need_order = {3, 0, 1, 2};
  const auto sections = sections_of(g, 16);
  ASSERT_EQ(sections.size(), 5u);  // the alias has none, MLA only a K plane
  EXPECT_EQ(sections[0], (SectionSpec{SectionKind::k_plane, Codec::identity, 3, 16 * 2 * 64 * 2}));
  EXPECT_EQ(sections[1].kind, SectionKind::v_plane);
  EXPECT_EQ(sections[2], (SectionSpec{SectionKind::k_plane, Codec::identity, 0, 16 * 2 * 64 * 4}));
  EXPECT_EQ(sections[4], (SectionSpec{SectionKind::k_plane, Codec::identity, 1, 16 * 576 * 2}));
  EXPECT_EQ(total_bytes(sections), 2u * 4096 + 2 * 8192 + 18432);
  EXPECT_EQ(units_of(1), 1u);
  EXPECT_EQ(units_of(65536), 1u);
  EXPECT_EQ(units_of(65537), 2u);
}

TEST(Geometry, NonsenseIsRefused) {
  const std::vector<std::function<void(Geometry*)>> mistakes = {
      [](Geometry* g) { g->layers.clear(); },
      [](Geometry* g) { g->layers.resize(kLayersMax + 1, g->layers[0]); },
      [](Geometry* g) { g->tokens_per_chunk = 0; },
      [](Geometry* g) { g->tokens_per_chunk = 1u << 30; },
      [](Geometry* g) { g->layers[0].kv_heads = 0; },
      [](Geometry* g) { g->layers[0].head_dim = 0; },
      [](Geometry* g) { g->layers[0].dtype = static_cast<Dtype>(99); },
      [](Geometry* g) { g->layers[0].window_tokens = 5; },
      [](Geometry* g) { g->layers[3].window_tokens = 0; },
      [](Geometry* g) { g->layers[2].alias_of = 2; },
      [](Geometry* g) { g->layers[2].alias_of = -7; },
      [](Geometry* g) {
        g->need_order = {0, 1, 2};
      },
      [](Geometry* g) {
        g->need_order = {0, 1, 2, 2};
      },
  };
  for (size_t i = 0; i < mistakes.size(); ++i) {
    Geometry g = sample();
    mistakes[i](&g);
    EXPECT_EQ(g.validate().code(), StatusCode::kInvalidArgument) << i;
  }
}
}  // namespace
}  // namespace terrace
