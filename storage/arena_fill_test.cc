// Goal: at least 95 % of the arena holds object bytes when an allocation of mixed sizes fails,
// after any history, without anything being moved. Method: objects of 4 KiB to 80 MiB come and go
// many times over, memory untouched; whenever one does not fit, what lies there is counted.
#include <gtest/gtest.h>

#include <cmath>

#include "base/limits.h"
#include "base/prng.h"
#include "storage/arena.h"

namespace terrace {
namespace {

constexpr DomainId kTenant{1};

/// As likely between 4 and 8 KiB as between 32 and 64 MiB.
uint64_t any_size(Prng* prng, uint64_t least, uint64_t most) {
  const double span = std::log2(static_cast<double>(most) / static_cast<double>(least));
  const double at = span * static_cast<double>(prng->below(1'000'000)) / 1e6;
  const auto bytes = static_cast<uint64_t>(static_cast<double>(least) * std::exp2(at));
  return (bytes + 4095) / 4096 * 4096;
}

/// The share of the arena that objects had, the mean over all times that one did not fit.
double used_when_full(uint64_t seed, uint64_t least, uint64_t most) {
  StoreConfig config;
  config.dram_bytes = 4 * kGiB;
  config.slab_bytes = 256 * kMiB;
  config.populate_memory = false;
  config.huge_pages = false;
  config.lock_memory = false;
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(config);
  EXPECT_TRUE(arena.ok());
  Prng prng(seed);
  std::vector<std::shared_ptr<ArenaSpace>> held;
  uint64_t bytes = 0, full = 0;
  double sum = 0;
  for (int step = 0; full < 400 && step < 400'000; ++step) {
    const uint64_t size = any_size(&prng, least, most);
    std::shared_ptr<ArenaSpace> space = (*arena)->allocate(kTenant, size);
    if (space != nullptr) {
      bytes += size;
      held.push_back(std::move(space));
      continue;
    }
    ++full;
    sum += static_cast<double>(bytes) / static_cast<double>((*arena)->capacity_bytes());
    for (uint64_t freed = 0; freed < size && !held.empty();) {  // as eviction does
      const size_t victim = prng.below(held.size());
      freed += held[victim]->bytes();
      bytes -= held[victim]->bytes();
      std::swap(held[victim], held.back());
      held.pop_back();
    }
  }
  EXPECT_EQ(full, 400u);
  return sum / static_cast<double>(full);
}

TEST(ArenaFillTest, mixed_sizes_leave_at_most_a_twentieth_unused) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    EXPECT_GE(used_when_full(seed, 4 * kKiB, 80 * kMiB), 0.95) << "seed " << seed;
  }
}

TEST(ArenaFillTest, so_do_large_ones) {
  EXPECT_GE(used_when_full(4, 4 * kMiB, 80 * kMiB), 0.95);
}

TEST(ArenaFillTest, and_small_ones) {
  EXPECT_GE(used_when_full(5, 4 * kKiB, 2 * kMiB), 0.95);
}
}  // namespace
}  // namespace terrace
