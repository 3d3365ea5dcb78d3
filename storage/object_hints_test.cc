// Goal: what was said of an object survives its header, in local and in shared ones, as builds that
// know less write and read them. Method: values through pack and unpack, headers by hand.
#include "storage/object_hints.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace terrace {
namespace {

Kept some_retention() {
  Retention retention;
  retention.ttl = std::chrono::seconds(90);
  retention.session = "s";
  return kept_of(retention, 1000);
}

TEST(PackedWorth, short_times_and_round_importance_come_back_as_they_were) {
  for (const uint64_t us : {0u, 1u, 999u, 262'144u, 524'287u}) {
    for (const float importance : {0.0f, 0.005f, 0.1f, 0.25f, 0.5f, 0.995f, 1.0f}) {
      const WorthHint worth{.recompute_us = us, .importance = importance};
      EXPECT_EQ(unpack_worth(pack_worth(worth)), worth) << us << " " << importance;
    }
  }
  EXPECT_EQ(pack_worth({}), 0u) << "nothing said takes no bytes";
}

TEST(PackedWorth, long_times_lose_at_most_one_part_in_2_to_18) {
  Prng prng(1);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t us = prng.next() >> (14 + prng.below(40));
    const auto back = unpack_worth(pack_worth({.recompute_us = us}));
    ASSERT_TRUE(back);
    EXPECT_LE(back->recompute_us, us);
    EXPECT_LE(us - back->recompute_us, us >> 18) << us;
  }
  const auto most = unpack_worth(pack_worth({.recompute_us = ~uint64_t{0}}));
  ASSERT_TRUE(most);
  EXPECT_GT(most->recompute_us, uint64_t{1} << 49) << "clamped";
}

TEST(PackedWorth, no_importance_is_not_a_little) {
  EXPECT_EQ(unpack_worth(pack_worth({.importance = 0}))->importance, 0);
  EXPECT_GT(unpack_worth(pack_worth({.importance = 1e-9f}))->importance, 0);
  EXPECT_LT(unpack_worth(pack_worth({.importance = 0.99f}))->importance, 1);
}

TEST(PackedWorth, words_that_are_never_packed_are_refused) {
  Prng prng(2);
  for (int i = 0; i < 100'000; ++i) {
    const auto word = static_cast<uint32_t>(prng.next());
    const auto worth = unpack_worth(word);
    if (!worth) continue;
    ASSERT_EQ(pack_worth(*worth), word);
  }
  EXPECT_FALSE(unpack_worth(201u << 24)) << "importance below 0";
  EXPECT_FALSE(unpack_worth(1u << 19 | 1)) << "two words for one time";
}

TEST(ObjectHintsTest, a_header_carries_them_and_plain_ones_no_byte) {
  const uint32_t worth = pack_worth({.recompute_us = 1234, .importance = 0.5});
  ObjectHeader header;
  set_hints(&header, some_retention(), worth);
  EXPECT_EQ(hints_of(header), (ObjectHints{some_retention(), worth}));
  set_hints(&header, some_retention(), 0);
  EXPECT_EQ(hints_of(header), (ObjectHints{some_retention(), 0}));
  set_hints(&header, Kept(), worth);
  EXPECT_EQ(hints_of(header), (ObjectHints{std::nullopt, worth}));
  EXPECT_EQ(header.optional_fields.size(), kWorthRecordBytes);
  set_hints(&header, Kept(), 0);
  EXPECT_EQ(hints_of(header), ObjectHints());
  EXPECT_EQ(header.optional_features, 0u);
  EXPECT_TRUE(header.optional_fields.empty());
}

TEST(ObjectHintsTest, a_shared_header_has_them_behind_its_digest) {
  const uint32_t worth = pack_worth({.recompute_us = 7});
  ObjectHeader header;
  header.optional_features = kFeatureNamespaceDigest;
  header.optional_fields = std::string(32, 'n');
  add_hints(&header, some_retention(), worth);
  EXPECT_EQ(header.optional_fields.substr(0, 32), std::string(32, 'n'));
  EXPECT_EQ(hints_of(header), (ObjectHints{some_retention(), worth}));
}

TEST(ObjectHintsTest, a_build_that_knows_retention_only_finds_it) {
  ObjectHeader header;
  set_hints(&header, some_retention(), pack_worth({.recompute_us = 7}));
  size_t used = 0;
  EXPECT_EQ(decode_kept(header.optional_fields, &used), some_retention());
}

TEST(ObjectHintsTest, what_a_later_build_adds_behind_them_is_ignored) {
  ObjectHeader header;
  set_hints(&header, some_retention(), 5);
  header.optional_features |= 8;
  header.optional_fields += "more";
  EXPECT_EQ(hints_of(header), (ObjectHints{some_retention(), 5}));
}

TEST(ObjectHintsTest, fields_cut_anywhere_say_less_and_nothing_else) {
  const uint32_t worth = pack_worth({.recompute_us = 1'000'000});
  ObjectHeader whole;
  whole.optional_features = kFeatureNamespaceDigest;
  whole.optional_fields = std::string(32, 'n');
  add_hints(&whole, some_retention(), worth);
  for (size_t cut = 0; cut < whole.optional_fields.size(); ++cut) {
    ObjectHeader header = whole;
    header.optional_fields.resize(cut);
    const ObjectHints hints = hints_of(header);
    EXPECT_EQ(hints.worth, 0u) << cut;
    EXPECT_TRUE(!hints.kept || *hints.kept == some_retention()) << cut;
  }
}
}  // namespace
}  // namespace terrace
