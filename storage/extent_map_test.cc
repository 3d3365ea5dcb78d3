// Goal: space is never given twice, nothing is lost, and what was allocated can be claimed again.
// Method: random allocations and frees against the dullest model (an owner per block), for
// thousands of seeds and three shapes of tier; after each run a second map claims what the first
// one holds.
#include "storage/extent_map.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

/// An owner per block.
class Model {
 public:
  explicit Model(uint64_t blocks) : owner_(blocks, 0) {}
  testing::AssertionResult take(const std::vector<Extent>& extents, uint32_t who) {
    for (const Extent& extent : extents) {
      for (uint64_t b = extent.block; b < uint64_t{extent.block} + extent.blocks; ++b) {
        if (b >= owner_.size()) return testing::AssertionFailure() << "block " << b << " outside";
        if (owner_[b] != 0) {
          return testing::AssertionFailure() << "block " << b << " belongs to " << owner_[b];
        }
        owner_[b] = who;
      }
    }
    return testing::AssertionSuccess();
  }
  void give(const std::vector<Extent>& extents) {
    for (const Extent& extent : extents) {
      for (uint64_t b = extent.block; b < uint64_t{extent.block} + extent.blocks; ++b)
        owner_[b] = 0;
    }
  }

 private:
  std::vector<uint32_t> owner_;
};

uint64_t blocks_of(const std::vector<Extent>& extents) {
  uint64_t blocks = 0;
  for (const Extent& extent : extents) blocks += extent.blocks;
  return blocks;
}

uint64_t random_bytes(Prng* prng, uint64_t tier_bytes) {
  switch (prng->below(4)) {
    case 0:
      return 1 + prng->below(64 * kKiB);
    case 1:
      return 1 + prng->below(kMiB);
    case 2:
      return 1 + prng->below(std::min<uint64_t>(tier_bytes, 8 * kMiB));
    default:
      return (1 + prng->below(16)) * 4096;
  }
}

void churn(uint64_t seed, uint64_t first_byte, uint64_t tier_bytes) {
  SCOPED_TRACE("seed " + std::to_string(seed) + " tier " + std::to_string(tier_bytes));
  Prng prng(seed);
  ExtentMap map(first_byte, tier_bytes);
  Model model((first_byte + tier_bytes) / 4096 + 1);
  const uint64_t capacity = map.capacity_bytes();
  ASSERT_EQ(map.free_bytes(), capacity);
  std::map<uint32_t, std::pair<uint64_t, std::vector<Extent>>> held;
  uint64_t used = 0;
  for (uint32_t step = 1; step <= 120; ++step) {
    if (held.empty() || prng.below(100) < 60) {
      const uint64_t bytes = random_bytes(&prng, tier_bytes);
      StatusOr<std::vector<Extent>> got = map.allocate(bytes);
      const uint64_t takes = ExtentMap::allocated_bytes(bytes);
      if (!got.ok()) {
        ASSERT_EQ(got.status().code(), StatusCode::kResourceExhausted);
        ASSERT_EQ(map.free_bytes(), capacity - used) << "a refusal took something";
        continue;
      }
      ASSERT_EQ(blocks_of(*got) * 4096, takes);
      ASSERT_LE(got->size(), ExtentMap::extents_max(bytes));
      ASSERT_TRUE(model.take(*got, step));
      used += takes;
      held[step] = {bytes, std::move(*got)};
    } else {
      auto it = held.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(prng.below(held.size())));
      map.free(it->second.second, it->second.first);
      model.give(it->second.second);
      used -= ExtentMap::allocated_bytes(it->second.first);
      held.erase(it);
    }
    ASSERT_EQ(map.free_bytes(), capacity - used);
  }
  ExtentMap again(first_byte, tier_bytes);
  for (const auto& [who, object] : held) {
    ASSERT_TRUE(again.claim(object.second, object.first).ok());
    ASSERT_EQ(again.claim(object.second, object.first).code(), StatusCode::kDataLoss);
  }
  ASSERT_EQ(again.free_bytes(), map.free_bytes());
  for (int i = 0; i < 4; ++i) {  // both maps are in the same state, and go on alike
    const uint64_t bytes = 1 + prng.below(kMiB - 1);
    StatusOr<std::vector<Extent>> a = map.allocate(bytes);
    StatusOr<std::vector<Extent>> b = again.allocate(bytes);
    ASSERT_EQ(a.ok(), b.ok());
    if (!a.ok()) continue;
    ASSERT_EQ(a->size(), b->size());
    if (bytes < 896 * kKiB) {
      ASSERT_EQ(*a, *b) << bytes;  // whole MiBs follow a cursor
    }
    map.free(*a, bytes);
    again.free(*b, bytes);
  }
  for (const auto& [who, object] : held) map.free(object.second, object.first);
  ASSERT_EQ(map.free_bytes(), capacity);
  StatusOr<std::vector<Extent>> all = map.allocate(capacity / kMiB * kMiB);
  ASSERT_TRUE(all.ok()) << "freeing left holes";
}

TEST(ExtentMap, ChurnAgainstTheModel) {
  for (uint64_t seed = 1; seed <= 2000 && !HasFatalFailure(); ++seed) {
    churn(seed, 0, 3 * kMiB + 20 * kKiB);
    churn(seed, kMiB, 24 * kMiB);
    churn(seed, kMiB, 192 * kMiB);
  }
}

/// A map that changes its size all the while; what is behind a bar only becomes less.
void churn_sizes(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr uint64_t kRegion = ExtentMap::kRegionBytes;
  Prng prng(seed);
  uint64_t bytes = prng.chance(30) ? 20 * kMiB : kRegion * (1 + prng.below(3));
  uint64_t bar = bytes;
  ExtentMap map(0, bytes);
  Model model(5 * kRegion / 4096);
  std::map<uint32_t, std::pair<uint64_t, std::vector<Extent>>> held;
  const auto held_blocks = [&](bool behind) {
    uint64_t blocks = 0;
    for (const auto& [who, object] : held) {
      for (const Extent& extent : object.second) {
        for (uint64_t b = extent.block; b < uint64_t{extent.block} + extent.blocks; ++b) {
          blocks += (b * 4096 >= bar) == behind ? 1 : 0;
        }
      }
    }
    return blocks;
  };
  for (uint32_t step = 1; step <= 60; ++step) {
    const uint64_t what = prng.below(100);
    if (what < 45) {
      const uint64_t size = prng.chance(50) ? (1 + prng.below(30)) * kMiB : 1 + prng.below(kMiB);
      StatusOr<std::vector<Extent>> got = map.allocate(size);
      if (!got.ok()) continue;
      ASSERT_TRUE(model.take(*got, step));
      for (const Extent& extent : *got) {
        ASSERT_LE(extent.offset() + extent.bytes(), bar) << "behind the bar";
        ASSERT_FALSE(map.barred(extent));
      }
      held[step] = {size, std::move(*got)};
    } else if (what < 80 && !held.empty()) {
      auto it = held.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(prng.below(held.size())));
      map.free(it->second.second, it->second.first);
      model.give(it->second.second);
      held.erase(it);
    } else if (what < 90 && bytes >= kRegion) {
      bar = kRegion * prng.below(bytes / kRegion + 1);
      map.bar_from(bar);
    } else if (what < 95) {
      bytes = kRegion * (std::max<uint64_t>(1, bytes / kRegion) + prng.below(2));
      bytes = std::min(bytes, 5 * kRegion);
      map.resize(bytes);
      bar = bytes;
    } else if (bar < bytes && bar > 0 && map.barred_used_bytes() == 0) {
      bytes = bar;
      map.resize(bytes);
    }
    ASSERT_EQ(map.capacity_bytes(), bytes);
    ASSERT_EQ(map.barred_used_bytes(), held_blocks(true) * 4096);
    ASSERT_EQ(map.open_bytes(), bar);
    ASSERT_EQ(map.free_bytes(), bar - held_blocks(false) * 4096);
  }
  map.bar_from(bytes);
  for (const auto& [who, object] : held) map.free(object.second, object.first);
  ASSERT_EQ(map.free_bytes(), bytes);
  ASSERT_TRUE(map.allocate(bytes).ok()) << "resizing left holes";
}

TEST(ExtentMap, ChangesItsSizeAgainstTheModel) {
  for (uint64_t seed = 1; seed <= 40 && !HasFatalFailure(); ++seed) churn_sizes(seed);
}

TEST(ExtentMap, WasteIsAtMostAnEighthOrABlock) {
  Prng prng(1);
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t bytes = 1 + prng.below(3 * kMiB);
    const uint64_t rest = bytes % kMiB;
    const uint64_t waste = ExtentMap::allocated_bytes(bytes) - bytes;
    ASSERT_LE(waste, std::max<uint64_t>(rest / 8, 4095)) << bytes;
  }
  EXPECT_EQ(ExtentMap::allocated_bytes(32 * kMiB), 32 * kMiB);
  EXPECT_EQ(ExtentMap::allocated_bytes(4096), 4096u);
  EXPECT_EQ(ExtentMap::allocated_bytes(8192), 8192u);
}

TEST(ExtentMap, WholeMiBsComeAsOneRun) {
  ExtentMap map(kMiB, 256 * kMiB);
  StatusOr<std::vector<Extent>> got = map.allocate(32 * kMiB);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->size(), 1u);
  EXPECT_EQ(got->front().bytes(), 32 * kMiB);
}

TEST(ExtentMap, ShreddedSpaceIsStillUsed) {
  ExtentMap map(0, 64 * kMiB);
  std::vector<std::vector<Extent>> held;
  while (true) {
    StatusOr<std::vector<Extent>> got = map.allocate(256 * kKiB);
    if (!got.ok()) break;
    held.push_back(std::move(*got));
  }
  EXPECT_EQ(map.free_bytes(), 0u);
  for (size_t i = 0; i < held.size(); i += 2) map.free(held[i], 256 * kKiB);
  // Not one whole MiB is free, but half of the space is.
  StatusOr<std::vector<Extent>> got = map.allocate(4 * kMiB);
  ASSERT_TRUE(got.ok());
  EXPECT_LE(got->size(), ExtentMap::extents_max(4 * kMiB));
  map.free(*got, 4 * kMiB);
  for (size_t i = 1; i < held.size(); i += 2) map.free(held[i], 256 * kKiB);
  EXPECT_EQ(map.free_bytes(), map.capacity_bytes());
}

TEST(ExtentMap, ClaimRefusesWhatCannotBe) {
  ExtentMap map(kMiB, 64 * kMiB);
  const auto code = [&](std::vector<Extent> extents, uint64_t bytes) {
    const uint64_t before = map.free_bytes();
    const StatusCode result = map.claim(extents, bytes).code();
    EXPECT_EQ(map.free_bytes(), before);
    return result;
  };
  EXPECT_EQ(code({{0, 1}}, 4096), StatusCode::kDataLoss);            // before the tier
  EXPECT_EQ(code({{256 + 16384, 1}}, 4096), StatusCode::kDataLoss);  // behind it
  EXPECT_EQ(code({{~0u, ~0u}}, 4096), StatusCode::kDataLoss);
  EXPECT_EQ(code({{300, 2}}, 4096), StatusCode::kDataLoss);            // too much
  EXPECT_EQ(code({{300, 1}, {300, 1}}, 8192), StatusCode::kDataLoss);  // twice the same
  EXPECT_EQ(code({{300, 2}, {400, 0}}, 8192), StatusCode::kDataLoss);
  EXPECT_EQ(code({}, 0), StatusCode::kDataLoss);
  EXPECT_TRUE(map.claim(std::vector<Extent>{{300, 2}}, 8192).ok());
}

TEST(ExtentMap, FreeMibsAreWholeAndOfOneRegion) {
  ExtentMap map(0, 192 * kMiB);
  const std::vector<Extent> taken{{5 * 256 + 7, 1}};  // one block of MiB 5
  ASSERT_TRUE(map.claim(taken, 4096).ok());
  const auto run = [&](uint64_t from, uint32_t most) {
    const Extent found = map.free_mibs(from, most);
    EXPECT_EQ(found.block % 256, 0u);
    return std::pair<uint32_t, uint32_t>(found.block / 256, found.blocks / 256);
  };
  using Run = std::pair<uint32_t, uint32_t>;
  EXPECT_EQ(run(0, 64), Run(0, 5));
  EXPECT_EQ(run(0, 3), Run(0, 3));
  EXPECT_EQ(run(5, 64), Run(6, 58));
  EXPECT_EQ(run(63, 64), Run(63, 1));
  EXPECT_EQ(run(64, 64), Run(64, 64));
  EXPECT_EQ(run(191, 64), Run(191, 1));
  EXPECT_EQ(run(192, 64).second, 0u);
  EXPECT_EQ(run(~uint64_t{0}, 64).second, 0u);
  const std::vector<Extent> second{{64 * 256, 64 * 256}};
  ASSERT_TRUE(map.claim(second, 64 * kMiB).ok());
  EXPECT_EQ(run(64, 64), Run(128, 64)) << "a region that is full is passed over";
  const std::vector<Extent> third{{128 * 256, 64 * 256}};
  ASSERT_TRUE(map.claim(third, 64 * kMiB).ok());
  EXPECT_EQ(run(64, 64).second, 0u) << "it does not begin again";
  ExtentMap small(0, 3 * kMiB + 4096);
  EXPECT_EQ(small.free_mibs(0, 64).blocks / 256, 3u);
}

TEST(ExtentMap, NothingToGive) {
  ExtentMap map(0, 0);
  EXPECT_EQ(map.capacity_bytes(), 0u);
  EXPECT_EQ(map.allocate(1).status().code(), StatusCode::kResourceExhausted);
}
}  // namespace
}  // namespace terrace
