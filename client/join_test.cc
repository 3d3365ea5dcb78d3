// Goal: a joined operation says of each key what its node said, in the caller's order, and its
// watermark never passes a layer that some key lacks and may still get.
// Method: parts that report by hand, in every order that matters; then random reports against a
// model of the watermark.
#include "client/join.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace terrace {
namespace {

/// Five items: 0, 2 and 4 on node 0; 1 and 3 on node 1.
Join::Parts five(bool streams = true) {
  return {5, {Share::some(0, {0, 2, 4}), Share::some(1, {1, 3})}, streams, nullptr};
}

Completion with_codes(std::vector<StatusCode> codes) {
  Completion completion;
  completion.key_codes = std::move(codes);
  for (const StatusCode code : completion.key_codes) {
    if (code != StatusCode::kOk) completion.status.update(error(code, "said the node"));
  }
  return completion;
}

TEST(Join, CodesComeInTheCallersOrderAndSumsAddUp) {
  Join join(five());
  Completion first = with_codes({StatusCode::kOk, StatusCode::kNotFound, StatusCode::kOk});
  first.bytes = 10;
  first.tier_bytes = {0, 10, 0, 0};
  Completion second = with_codes({StatusCode::kUnavailable, StatusCode::kOk});
  second.bytes = 5;
  second.tier_bytes = {0, 1, 4, 0};
  join.ended(0, "a:1", first);
  EXPECT_EQ(join.lost(), (std::vector<uint32_t>{2}));
  EXPECT_FALSE(join.done());
  join.ended(1, "b:1", second);
  EXPECT_EQ(join.lost(), (std::vector<uint32_t>{1}));
  ASSERT_TRUE(join.done());
  const Completion whole = join.take();
  EXPECT_EQ(whole.key_codes,
            (std::vector{StatusCode::kOk, StatusCode::kUnavailable, StatusCode::kNotFound,
                         StatusCode::kOk, StatusCode::kOk}));
  EXPECT_EQ(whole.bytes, 15u);
  EXPECT_EQ(whole.tier_bytes, (std::array<uint64_t, kTierCount>{0, 11, 4, 0}));
  EXPECT_EQ(whole.status.code(), StatusCode::kUnavailable) << "a miss is the lesser news";
  EXPECT_NE(whole.status.message().find("b:1"), std::string::npos) << whole.status.to_string();
}

TEST(Join, InfosAndLeasesOfALookupAndTheConclusion) {
  Join::Parts parts = five(false);
  parts.conclude = [](Completion* out) { out->longest = static_cast<uint32_t>(out->keys.size()); };
  Join join(std::move(parts));
  Completion first, second;
  for (const uint64_t bytes : {1u, 2u, 3u}) first.keys.push_back({StatusCode::kOk, 0, 0, bytes, 0});
  for (const uint64_t bytes : {4u, 5u}) second.keys.push_back({StatusCode::kOk, 0, 0, bytes, 0});
  second.lease = LeaseId{9};
  join.ended(1, "b:1", second);
  join.ended(0, "a:1", first);
  const Completion whole = join.take();
  ASSERT_EQ(whole.keys.size(), 5u);
  const uint64_t wanted[] = {1, 4, 2, 5, 3};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(whole.keys[i].bytes, wanted[i]);
  EXPECT_EQ(join.leases(), std::vector{LeaseId{9}});
  EXPECT_EQ(whole.longest, 5u);
  EXPECT_TRUE(whole.status.ok());
}

TEST(Join, TheWatermarkIsTheSlowestPartsAndADeadPartHoldsNothingUp) {
  Join join(five());
  EXPECT_EQ(join.layers(0, 3), std::nullopt);
  EXPECT_EQ(join.layers(1, 1), 1u);
  EXPECT_EQ(join.layers(1, 2), 2u);
  EXPECT_EQ(join.layers(0, 4), std::nullopt);
  join.ended(1, "b:1", with_codes({StatusCode::kUnavailable, StatusCode::kUnavailable}));
  EXPECT_EQ(join.lost(), (std::vector<uint32_t>{1, 3}));
  EXPECT_EQ(join.layers_now(), 4u);
  EXPECT_EQ(join.layers(0, 8), 8u);
  join.ended(0, "a:1", with_codes({StatusCode::kOk, StatusCode::kOk, StatusCode::kOk}));
  EXPECT_TRUE(join.lost().empty());
  EXPECT_EQ(join.layers_now(), std::nullopt) << "the completion takes over";
  EXPECT_TRUE(join.done());
}

TEST(Join, EachItemHasItsPlace) {
  const Join join(five());
  const std::pair<uint32_t, uint32_t> wanted[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 2}};
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(join.place_of(i), wanted[i]);
}

TEST(Join, RandomReportsAgreeWithTheModel) {
  for (uint64_t seed = 1; seed < 200; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    const auto nodes = static_cast<uint32_t>(2 + prng.below(5));
    std::vector<Share> shares;
    for (uint32_t n = 0; n < nodes; ++n) shares.push_back(Share::some(n, {n}));
    Join join({nodes, shares, true, nullptr});
    std::vector<uint32_t> ready(nodes);
    std::vector<bool> ended(nodes);
    uint32_t told = 0, running = nodes;
    while (running > 0) {
      const auto part = static_cast<uint32_t>(prng.below(nodes));
      if (ended[part]) continue;
      std::optional<uint32_t> moved;
      if (prng.chance(15)) {
        const bool good = ready[part] == 8;
        join.ended(part, "n", with_codes({good ? StatusCode::kOk : StatusCode::kUnavailable}));
        EXPECT_EQ(join.lost().empty(), good);
        ended[part] = true;
        --running;
        moved = join.layers_now();
      } else {
        ready[part] = std::min<uint32_t>(8, ready[part] + static_cast<uint32_t>(prng.below(3)));
        moved = join.layers(part, ready[part]);
      }
      uint32_t slowest = 8;
      for (uint32_t n = 0; n < nodes; ++n) {
        if (!ended[n]) slowest = std::min(slowest, ready[n]);
      }
      if (running == 0) {
        EXPECT_EQ(moved, std::nullopt);
      } else if (slowest > told) {
        EXPECT_EQ(moved, slowest);
        told = slowest;
      } else {
        EXPECT_EQ(moved, std::nullopt);
      }
    }
  }
}
}  // namespace
}  // namespace terrace
