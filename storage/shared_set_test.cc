// Goal: a set that is full still keeps up with what it knows, and says what it does not take.
// Method: sets of a few objects.
#include "storage/shared_set.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

constexpr NamespaceId kNs{1};

ChunkKey key_of(unsigned n) {
  return ChunkKey{{std::byte{0}, std::byte{0}, static_cast<std::byte>(n)}};
}

TEST(SharedSetTest, a_full_set_takes_newer_copies_of_what_it_knows) {
  SharedSet set(2);
  const SharedGeneration old = SharedGeneration::of(100, 10);
  const SharedGeneration newer = SharedGeneration::of(200, 20);
  EXPECT_FALSE(set.add(kNs, key_of(1), old));  // a namespace that it does not know
  set.know(kNs, ChunkKey{});
  EXPECT_TRUE(set.add(kNs, key_of(1), old));
  EXPECT_TRUE(set.add(kNs, key_of(2), old));
  EXPECT_FALSE(set.add(kNs, key_of(3), old));
  EXPECT_TRUE(set.add(kNs, key_of(1), newer));
  EXPECT_EQ(set.find(kNs, key_of(1)), newer);
  EXPECT_FALSE(set.find(kNs, key_of(3)));
  EXPECT_EQ(set.objects(), 2u);
  EXPECT_EQ(set.bytes(), 30u);
  set.remove(kNs, key_of(2), old);
  EXPECT_TRUE(set.add(kNs, key_of(3), old));
}

TEST(SharedSetTest, what_happens_during_a_listing_is_done_to_it_again) {
  SharedSet set(10);
  set.know(kNs, ChunkKey{});
  const SharedGeneration old = SharedGeneration::of(100, 10);
  const SharedGeneration newer = SharedGeneration::of(200, 20);
  SharedSet::Folder listed;  // before what follows
  listed.add(key_of(1), old);
  listed.add(key_of(1), newer);
  set.listing_begins();
  set.remove(kNs, key_of(1), newer);
  EXPECT_TRUE(set.add(kNs, key_of(2), old));
  EXPECT_TRUE(set.replace(kNs, shared_folder_of(key_of(1)), listed));
  EXPECT_FALSE(set.find(kNs, key_of(1)));
  EXPECT_TRUE(set.find(kNs, key_of(2)));
  EXPECT_EQ(set.bytes(), 10u);
}
}  // namespace
}  // namespace terrace
