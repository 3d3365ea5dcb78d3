// Goal: no span outside registered memory resolves; memory in use cannot be unregistered.
// Method: the edges by hand, then thousands of random spans against a plain interval check.
#include "transport/region_table.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

TEST(RegionTable, ResolvesInsideAndRefusesOutside) {
  RegionTable table;
  std::vector<std::byte> memory(4096);
  const StatusOr<RegionId> id = table.add(memory);
  ASSERT_TRUE(id.ok());
  const auto code = [&](RegionId region, uint64_t offset, uint64_t length) {
    std::vector<iovec> places;
    const RemoteSpan span{region, offset, length};
    const Status status = table.resolve(std::span(&span, 1), &places);
    EXPECT_EQ(places.size(), status.ok() ? 1u : 0u);
    if (status.ok()) {
      EXPECT_EQ(places[0].iov_base, memory.data() + offset);
    }
    return status.code();
  };
  EXPECT_EQ(code(*id, 0, 4096), StatusCode::kOk);
  EXPECT_EQ(code(*id, 4095, 1), StatusCode::kOk);
  EXPECT_EQ(code(*id, 4095, 2), StatusCode::kOutOfRange);
  EXPECT_EQ(code(*id, 4097, 1), StatusCode::kOutOfRange);
  EXPECT_EQ(code(*id, UINT64_MAX, 2), StatusCode::kOutOfRange);
  EXPECT_EQ(code(RegionId{0}, 0, 1), StatusCode::kOutOfRange);
  EXPECT_EQ(code(RegionId{99}, 0, 1), StatusCode::kOutOfRange);
  ASSERT_TRUE(table.remove(*id).ok());
  EXPECT_EQ(code(*id, 0, 1), StatusCode::kNotFound);
}

TEST(RegionTable, OneBadSpanSpoilsAll) {
  RegionTable table;
  std::vector<std::byte> memory(64);
  const StatusOr<RegionId> gone = table.add(memory);
  const StatusOr<RegionId> id = table.add(memory);
  ASSERT_TRUE(id.ok() && gone.ok() && table.remove(*gone).ok());
  std::vector<iovec> places(1);
  const std::vector<RemoteSpan> spans{{*id, 0, 8}, {*gone, 0, 8}, {*id, 60, 8}};
  EXPECT_EQ(table.resolve(spans, &places).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(table.resolve(std::span(spans).first(2), &places).code(), StatusCode::kNotFound);
  EXPECT_EQ(places.size(), 1u);
}

TEST(RegionTable, PinnedMemoryStays) {
  RegionTable table;
  std::vector<std::byte> memory(64);
  const StatusOr<RegionId> id = table.add(memory);
  ASSERT_TRUE(id.ok());
  const std::vector<RemoteSpan> spans{{*id, 0, 8}, {*id, 8, 8}};
  table.pin(spans);
  table.unpin(std::span(spans).first(1));
  EXPECT_EQ(table.remove(*id).code(), StatusCode::kFailedPrecondition);
  table.unpin(std::span(spans).first(1));
  EXPECT_TRUE(table.remove(*id).ok());
  EXPECT_EQ(table.remove(*id).code(), StatusCode::kNotFound);
  const StatusOr<RegionId> next = table.add(memory);
  ASSERT_TRUE(next.ok());
  EXPECT_NE(*next, *id);
}

TEST(RegionTable, IsBounded) {
  RegionTable table;
  std::byte one{};
  EXPECT_EQ(table.add({}).status().code(), StatusCode::kInvalidArgument);
  for (uint32_t i = 0; i < kRegionsPerSessionMax; ++i) ASSERT_TRUE(table.add({&one, 1}).ok());
  EXPECT_EQ(table.add({&one, 1}).status().code(), StatusCode::kResourceExhausted);
}

TEST(RegionTable, RandomSpansAgreeWithAnIntervalCheck) {
  constexpr uint64_t kSeed = 5;
  Prng prng(kSeed);
  RegionTable table;
  std::vector<std::byte> memory(1000);
  const StatusOr<RegionId> id = table.add(memory);
  ASSERT_TRUE(id.ok());
  for (int i = 0; i < 10'000; ++i) {
    const RemoteSpan span{*id, prng.below(1100), prng.below(1100)};
    std::vector<iovec> places;
    EXPECT_EQ(table.resolve(std::span(&span, 1), &places).ok(), span.offset + span.length <= 1000)
        << "seed " << kSeed << " round " << i;
  }
}
}  // namespace
}  // namespace terrace
