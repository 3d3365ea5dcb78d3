// Goal: a prefix counts exactly when each group holds what it needs of it.
// Method: small cases by hand, then every presence of two groups of six against the definition.
#include "base/prefix_rule.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace terrace {
namespace {

std::vector<bool> bits(const char* text) {
  std::vector<bool> out;
  for (; *text != 0; ++text) out.push_back(*text == '1');
  return out;
}

TEST(PrefixRule, AllNeedsEveryKeyAndTrailingOnlyTheLast) {
  EXPECT_EQ(restorable_prefixes(std::vector<GroupPresence>{{bits("110111"), 0}}), bits("110000"));
  EXPECT_EQ(restorable_prefixes(std::vector<GroupPresence>{{bits("110111"), 1}}), bits("110111"));
  EXPECT_EQ(restorable_prefixes(std::vector<GroupPresence>{{bits("110111"), 2}}), bits("110011"));
  EXPECT_EQ(
      restorable_prefixes(std::vector<GroupPresence>{{bits("111101"), 0}, {bits("010111"), 1}}),
      bits("010100"));
  EXPECT_EQ(longest_prefix(bits("010100")), 4u);
  EXPECT_EQ(longest_prefix(bits("000000")), 0u);
  EXPECT_EQ(longest_prefix({}), 0u);
  EXPECT_TRUE(restorable_prefixes({}).empty());
}

TEST(PrefixRule, EveryPresenceOfTwoGroupsAgreesWithTheDefinition) {
  constexpr uint32_t kChunks = 6;
  for (uint32_t both = 0; both < 1u << (2 * kChunks); ++both) {
    for (uint32_t trailing = 0; trailing <= 3; ++trailing) {
      std::vector<GroupPresence> groups(2);
      groups[1].trailing = trailing;
      for (uint32_t i = 0; i < 2 * kChunks; ++i) {
        groups[i / kChunks].present.push_back((both >> i & 1) != 0);
      }
      const std::vector<bool> restorable = restorable_prefixes(groups);
      for (uint32_t length = 1; length <= kChunks; ++length) {
        bool wanted = true;
        for (const GroupPresence& group : groups) {
          const uint32_t n = group.trailing == 0 ? length : std::min(group.trailing, length);
          for (uint32_t i = length - n; i < length; ++i) wanted = wanted && group.present[i];
        }
        ASSERT_EQ(restorable[length - 1], wanted) << both << " " << trailing << " " << length;
      }
    }
  }
}
}  // namespace
}  // namespace terrace
