// Goal: fragments and block ids both lead to the right map, and what one request may name together
// is bounded. Method: the smallest requests on both sides of each limit.
#include "proto/request_places.h"

#include <gtest/gtest.h>

#include "proto/message_kind.h"

namespace terrace {
namespace {

const PoolPlane kPlane{0, RegionId{1}, 4096, 64, 32};
const Fragment kFragment{0, RegionId{1}, 0, 32};

std::string ids(size_t count) {
  return pack_words(std::vector<uint32_t>(count, 3));
}

void expect_refused(const StatusOr<FragmentMap>& map, const std::string& why) {
  EXPECT_EQ(map.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(map.status().message().find(why), std::string::npos) << map.status().to_string();
}

TEST(RequestPlaces, EitherForm) {
  auto places = RequestPlaces::create(pack_planes({&kPlane, 1}));
  ASSERT_TRUE(places.ok());
  const auto listed = places->next(pack_fragments({&kFragment, 1}), "");
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(listed->fragments().size(), 1u);
  const auto paged = places->next("", ids(2));
  ASSERT_TRUE(paged.ok());
  std::vector<RemoteSpan> spans;
  EXPECT_EQ(paged->locate({0, 64}, 8, &spans), 64u);
  EXPECT_EQ(spans[0], (RemoteSpan{RegionId{1}, 4096 + 3 * 64, 32}));
  EXPECT_EQ(places->next("", "")->bytes(), 0u);
  expect_refused(places->next(pack_fragments({&kFragment, 1}), ids(2)), "with fragments and");
  expect_refused(places->next("", "xyz"), "multiple of 4");
}

TEST(RequestPlaces, BlockIdsNeedAPool) {
  auto places = RequestPlaces::create("");
  ASSERT_TRUE(places.ok());
  expect_refused(places->next("", ids(1)), "without a paged pool");
  EXPECT_EQ(RequestPlaces::create("x").status().code(), StatusCode::kInvalidArgument);
  const std::vector<PoolPlane> many(kSectionsMax + 1, kPlane);
  EXPECT_EQ(RequestPlaces::create(pack_planes(many)).status().code(), StatusCode::kInvalidArgument);
}

TEST(RequestPlaces, BlockIdsAreBoundedOverAllItems) {
  auto places = RequestPlaces::create(pack_planes({&kPlane, 1}));
  const size_t half = kBlockIdsPerRequestMax / 2;
  ASSERT_TRUE(places->next("", ids(half)).ok());
  ASSERT_TRUE(places->next("", ids(half)).ok());
  expect_refused(places->next("", ids(1)), "block ids");
  ASSERT_TRUE(places->next(pack_fragments({&kFragment, 1}), "").ok());
}

TEST(RequestPlaces, FragmentsAreBoundedOverAllItems) {
  auto places = RequestPlaces::create("");
  std::vector<Fragment> many;
  for (uint64_t i = 0; i < kFragmentsPerRequestMax; ++i) many.push_back({i, RegionId{1}, 2 * i, 1});
  ASSERT_TRUE(places->next(pack_fragments(many), "").ok());
  expect_refused(places->next(pack_fragments({&kFragment, 1}), ""), "fragments");
}

TEST(RequestPlaces, RunsAreBoundedOverAllItems) {
  std::vector<PoolPlane> planes;  // with gaps: each plane is a run of its own, in every item
  for (uint64_t p = 0; p < kSectionsMax; ++p) planes.push_back({2 * p, RegionId{1}, 2 * p, 1, 1});
  auto places = RequestPlaces::create(pack_planes(planes));
  ASSERT_TRUE(places.ok());
  for (size_t left = kFragmentsPerRequestMax; left > 0; left -= kSectionsMax) {
    ASSERT_TRUE(places->next("", ids(1)).ok());
  }
  expect_refused(places->next("", ids(1)), "runs of bytes");
}

TEST(RequestPlaces, PiecesAreBoundedOverAllItems) {
  constexpr uint64_t kMost = kPagedPiecesPerRequestMax / kSectionsMax;
  std::vector<PoolPlane> planes;  // without gaps, for kMost blocks
  for (uint64_t p = 0; p < kSectionsMax; ++p) {
    planes.push_back({p * kMost, RegionId{1}, p << 16, 1, 1});
  }
  auto places = RequestPlaces::create(pack_planes(planes));
  ASSERT_TRUE(places.ok());
  ASSERT_TRUE(places->next("", ids(kMost)).ok());
  expect_refused(places->next("", ids(1)), "block ids times planes");
}
}  // namespace
}  // namespace terrace
