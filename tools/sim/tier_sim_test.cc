// Goal: the simulator counts what a dull cache counts, and value beats LRU where the trace has
// something to learn. Method: a reference LRU of a few lines, an exact figure of the Mooncake trace
// that others computed, both policies side by side. TERRACE_TRACES names the directory of the real
// traces; without it the generated one is all there is.
#include "tools/sim/tier_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <unordered_map>

#include "tools/trace/trace_generator.h"
#include "tools/trace/trace_reader.h"

namespace terrace {
namespace {

std::vector<TraceRequest> generated(uint32_t requests) {
  TraceShape shape;
  shape.requests = requests;
  return generate_trace(shape, 3);
}

TierSimCounts simulate(const std::string& policy, std::span<const TraceRequest> requests,
                       const TierSimOptions& options) {
  TierSim sim(*policy_kind_of(policy), options);
  sim.run(requests);
  return sim.counts();
}

/// Prefix hits of one LRU cache of `capacity` blocks, counted without any of our structures.
uint64_t dull_lru_hits(std::span<const TraceRequest> requests, size_t capacity) {
  std::list<uint64_t> order;  // the youngest first
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> cache;
  uint64_t hits = 0;
  for (const TraceRequest& request : requests) {
    for (const uint64_t id : request.block_ids) {
      if (!cache.contains(id)) break;
      ++hits;
    }
    const size_t kept = std::min(request.block_ids.size(), capacity);
    for (size_t i = kept; i > 0; --i) {
      const uint64_t id = request.block_ids[i - 1];
      if (const auto it = cache.find(id); it != cache.end()) order.erase(it->second);
      order.push_front(id);
      cache[id] = order.begin();
    }
    for (; order.size() > capacity; order.pop_back()) cache.erase(order.back());
  }
  return hits;
}

TEST(TierSimTest, one_tier_of_lru_counts_what_a_dull_cache_counts) {
  const std::vector<TraceRequest> requests = generated(3000);
  for (const uint64_t blocks : {100u, 700u, 3000u, 20'000u}) {
    TierSimOptions options;
    options.dram_blocks = blocks;
    const TierSimCounts counts = simulate("lru", requests, options);
    EXPECT_EQ(counts.hits(), dull_lru_hits(requests, blocks)) << blocks << " blocks";
  }
}

TEST(TierSimTest, two_tiers_of_lru_hit_what_the_larger_alone_hits) {
  const std::vector<TraceRequest> requests = generated(3000);
  TierSimOptions options;
  options.dram_blocks = 700;
  options.nvme_blocks = 3000;
  const TierSimCounts counts = simulate("lru", requests, options);
  EXPECT_EQ(counts.prefix_hits[static_cast<size_t>(Tier::dram)], dull_lru_hits(requests, 700));
  EXPECT_EQ(counts.hits(), dull_lru_hits(requests, 3000));
}

TEST(TierSimTest, an_endless_cache_saves_the_same_whatever_the_policy) {
  const std::vector<TraceRequest> requests = generated(1000);
  TierSimOptions options;
  options.dram_blocks = unique_blocks(requests);
  const TierSimCounts lru = simulate("lru", requests, options);
  const TierSimCounts value = simulate("value", requests, options);
  EXPECT_EQ(lru.hits(), value.hits());
  EXPECT_DOUBLE_EQ(lru.saved_s, value.saved_s);
  EXPECT_GT(lru.saved_s, 0);
  EXPECT_EQ(lru.writes[static_cast<size_t>(Tier::dram)], options.dram_blocks);
}

class RealTraceTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* directory = std::getenv("TERRACE_TRACES");
    if (directory == nullptr) GTEST_SKIP() << "TERRACE_TRACES is not set";
    StatusOr<TraceReader> reader =
        TraceReader::open(std::string(directory) + "/mooncake_conversation.kvt.zst");
    ASSERT_TRUE(reader.ok()) << reader.status().to_string();
    TraceRequest request;
    while (true) {
      const StatusOr<bool> more = reader->next(&request);
      ASSERT_TRUE(more.ok()) << more.status().to_string();
      if (!*more) break;
      requests_.push_back(request);
    }
    blocks_ = static_cast<double>(unique_blocks(requests_));
  }
  TierSimOptions sized(double dram_percent, double nvme_percent) const {
    TierSimOptions options;
    options.dram_blocks = static_cast<uint64_t>(blocks_ * dram_percent / 100);
    options.nvme_blocks = static_cast<uint64_t>(blocks_ * nvme_percent / 100);
    return options;
  }
  std::vector<TraceRequest> requests_;
  double blocks_ = 0;
};

TEST_F(RealTraceTest, lru_hits_what_others_counted) {
  // Prefix hits in percent of the references, by the size of the cache in percent of the blocks.
  for (const auto& [size, hits] : {std::pair{1.0, 5.25}, {5.0, 19.58}, {20.0, 34.53}}) {
    const TierSimCounts counts = simulate("lru", requests_, sized(size, 0));
    EXPECT_NEAR(counts.prefix_percent(Tier::dram), hits, 0.01) << size << " percent";
  }
}

TEST_F(RealTraceTest, value_saves_more_than_lru_in_each_tier_and_in_both) {
  for (const double size : {1.0, 5.0, 20.0}) {
    const double lru = simulate("lru", requests_, sized(size, 0)).saved_s;
    const double value = simulate("value", requests_, sized(size, 0)).saved_s;
    EXPECT_GT(value, lru) << size << " percent";
  }
  const TierSimCounts lru = simulate("lru", requests_, sized(5, 20));
  const TierSimCounts value = simulate("value", requests_, sized(5, 20));
  EXPECT_GT(value.saved_s, 1.02 * lru.saved_s);
  EXPECT_GT(value.prefix_percent(Tier::dram), lru.prefix_percent(Tier::dram));
  EXPECT_GE(value.hits(), lru.hits());
}
}  // namespace
}  // namespace terrace
