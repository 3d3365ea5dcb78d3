// Goal: the pure parts of the CLI: percentiles within 1 % and never below the truth, content that
// tells right bytes from wrong ones, a schedule that never waits, geometries as people write them.
// Method: against a sorted list of random durations; single flipped bytes; cases by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/prng.h"
#include "tools/cli/content.h"
#include "tools/cli/geometry_option.h"
#include "tools/cli/latencies.h"
#include "tools/cli/output.h"
#include "tools/cli/schedule.h"

namespace terrace {
namespace {

TEST(Latencies, AgreeWithASortedList) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Prng random(seed);
    Latencies all;
    Latencies first;
    Latencies second;
    std::vector<int64_t> sorted;
    for (int i = 0; i < 3000; ++i) {
      const auto ns = static_cast<int64_t>(random.next() >> (1 + random.below(60)));
      sorted.push_back(ns);
      all.record(Nanos(ns));
      (random.chance(50) ? first : second).record(Nanos(ns));
    }
    std::sort(sorted.begin(), sorted.end());
    first.merge(second);
    for (const double per_mille : {0.0, 1.0, 500.0, 900.0, 990.0, 999.0, 1000.0}) {
      const double rank = std::ceil(per_mille / 1000 * static_cast<double>(sorted.size()));
      const int64_t truth = sorted[static_cast<size_t>(std::max(1.0, rank)) - 1];
      const int64_t said = all.percentile(per_mille).count();
      EXPECT_GE(said, truth) << "seed " << seed << " p " << per_mille;
      EXPECT_LE(static_cast<double>(said), static_cast<double>(truth) * 1.01)
          << "seed " << seed << " p " << per_mille;
      EXPECT_EQ(first.percentile(per_mille).count(), said) << "seed " << seed;
    }
    EXPECT_EQ(all.max().count(), sorted.back()) << "seed " << seed;
  }
}

TEST(Latencies, EdgesAreDefined) {
  Latencies none;
  EXPECT_EQ(none.percentile(999).count(), 0);
  EXPECT_EQ(none.mean().count(), 0);
  Latencies one;
  one.record(Nanos(-5));
  EXPECT_EQ(one.percentile(500).count(), 0);
  one.record(Nanos(INT64_MAX));
  EXPECT_EQ(one.percentile(1000).count(), INT64_MAX);
}

TEST(Content, IsTheSameInPiecesAndFindsEveryWrongByte) {
  const uint64_t seed = content_seed("block 7", 1);
  EXPECT_EQ(seed, content_seed("block 7", 1));
  EXPECT_NE(seed, content_seed("block 8", 1));
  EXPECT_NE(seed, content_seed("block 7", 2));
  std::vector<std::byte> whole(4099);
  fill_content(seed, 0, whole);
  std::vector<std::byte> piece(1003);
  fill_content(seed, 2048, piece);
  EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + 2048));
  EXPECT_EQ(count_differences(seed, 0, whole), 0u);
  EXPECT_EQ(count_differences(seed, 2048, piece), 0u);
  for (size_t i = 0; i < whole.size(); ++i) {
    whole[i] ^= std::byte{1};
    EXPECT_EQ(count_differences(seed, 0, whole), 1u) << i;
    whole[i] ^= std::byte{1};
  }
  EXPECT_GT(count_differences(seed, 8, std::span(whole).first(4096)), 4000u);
  EXPECT_GT(count_differences(seed + 1, 0, whole), 4000u);
}

TEST(Schedule, KeepsTheGapsAndNeverGoesBack) {
  std::vector<TraceRequest> requests(4);
  requests[0].time = seconds(100);
  requests[1].time = seconds(110);
  requests[2].time = seconds(105);
  requests[3].time = seconds(120);
  EXPECT_EQ(arrivals_of(requests, 2.0),
            (std::vector<Nanos>{seconds(0), seconds(5), seconds(5), seconds(10)}));
  EXPECT_TRUE(arrivals_of({}, 1.0).empty());
}

TEST(GeometryOption, ReadsPresetsAndFields) {
  StatusOr<Geometry> small = parse_geometry("");
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(total_bytes(sections_of(*small, small->tokens_per_chunk)), 32 * kKiB);
  StatusOr<Geometry> llama = parse_geometry("llama-8b,tokens=256");
  ASSERT_TRUE(llama.ok());
  EXPECT_EQ(total_bytes(sections_of(*llama, 256)), 32 * kMiB);
  StatusOr<Geometry> scaled = scale_geometry(*llama, 0.01);
  ASSERT_TRUE(scaled.ok());
  EXPECT_EQ(scaled->tokens_per_chunk, 3u);
  EXPECT_EQ(describe(*small), "4 layers x 2 heads x 32 x bf16, 32 tokens: 32 KiB");
  for (const char* text : {"huge", "layers=0", "layers=9999", "dtype=f17", "heads=2",
                           "tokens=", "tokens=1x", "llama-8b,tokens=1048576"}) {
    EXPECT_EQ(parse_geometry(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
  EXPECT_FALSE(scale_geometry(*small, 0).ok());
  EXPECT_FALSE(scale_geometry(*small, std::nan("")).ok());
}

TEST(Output, ReadsWell) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(64 * kMiB), "64 MiB");
  EXPECT_EQ(human_duration(Nanos(1500)), "1.5 us");
  EXPECT_EQ(human_duration(milliseconds(1250)), "1.2 s");
  EXPECT_EQ(human_duration(seconds(7500)), "2 h 5 min");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_count(999), "999");
  Table table({"name", "n"});
  table.add({"a", "100"});
  EXPECT_EQ(table.text(), "name    n\na     100\n");
}
}  // namespace
}  // namespace terrace
