// Goal: pools hand out disjoint aligned buffers and know their bound.
// Method: take all, write a pattern into each, give back in another order, take again.
#include "base/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace terrace {
namespace {

TEST(BufferPool, BuffersAreAlignedDisjointAndBounded) {
  auto pool = BufferPool::create(4, 8192);
  ASSERT_TRUE(pool.ok());
  std::vector<std::span<std::byte>> taken;
  for (int i = 0; i < 4; ++i) {
    taken.push_back(pool->take());
    ASSERT_EQ(taken.back().size(), 8192u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(taken.back().data()) % 4096, 0u);
    std::fill(taken.back().begin(), taken.back().end(), static_cast<std::byte>(i + 1));
  }
  EXPECT_TRUE(pool->take().empty());
  for (int i = 0; i < 4; ++i) {
    const auto& buffer = taken[static_cast<size_t>(i)];
    EXPECT_TRUE(std::all_of(buffer.begin(), buffer.end(),
                            [&](std::byte b) { return b == static_cast<std::byte>(i + 1); }));
  }
  pool->give_back(taken[2]);
  EXPECT_EQ(pool->take().data(), taken[2].data());
  for (const auto& buffer : taken) pool->give_back(buffer);
  EXPECT_EQ(pool->free_count(), 4u);
}

TEST(BufferPool, RefusesNonsense) {
  EXPECT_EQ(BufferPool::create(0, 4096).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(BufferPool::create(1, 1000).status().code(), StatusCode::kInvalidArgument);
}
}  // namespace
}  // namespace terrace
