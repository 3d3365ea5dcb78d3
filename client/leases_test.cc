// Goal: a lease reaches the node and the session that granted it and no other; a bundle stands for
// all of its leases; what is remembered is bounded.
// Method: leases packed, bundled and found again.
#include "client/leases.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

TEST(Leases, ALeaseBelongsToItsNodeAndSession) {
  const Leases leases;
  const LeaseId lease = Leases::pack({63, 0xFFFF, (uint64_t{1} << 40) - 1});
  EXPECT_EQ(leases.wire_of(lease, 63, 0xFFFF), (uint64_t{1} << 40) - 1);
  EXPECT_EQ(leases.wire_of(lease, 63, 1), Leases::kLost) << "another session";
  EXPECT_EQ(leases.wire_of(lease, 2, 0xFFFF), 0u) << "another node has no part in it";
  EXPECT_EQ(leases.wire_of(kNoLease, 63, 0xFFFF), 0u);
  EXPECT_EQ(Leases::pack({1, 1, 0}), kNoLease);
  EXPECT_EQ(Leases::pack({1, 1, uint64_t{1} << 40}), kNoLease) << "no node grants that";
}

TEST(Leases, ABundleStandsForAllOfThem) {
  Leases leases;
  const LeaseId a = Leases::pack({0, 1, 7});
  const LeaseId b = Leases::pack({2, 4, 9});
  EXPECT_EQ(leases.bundle({}), kNoLease);
  EXPECT_EQ(leases.bundle({kNoLease, b}), b);
  const LeaseId both = leases.bundle({a, kNoLease, b});
  EXPECT_NE(both, a);
  EXPECT_EQ(leases.find(both).size(), 2u);
  EXPECT_EQ(leases.wire_of(both, 0, 1), 7u);
  EXPECT_EQ(leases.wire_of(both, 1, 1), 0u);
  EXPECT_EQ(leases.wire_of(both, 2, 4), 9u);
  EXPECT_EQ(leases.wire_of(both, 2, 5), Leases::kLost);
  leases.forget(both);
  EXPECT_TRUE(leases.find(both).empty());
  EXPECT_EQ(leases.wire_of(both, 0, 1), Leases::kLost);
}

TEST(Leases, TheOldestBundleIsForgottenFirst) {
  Leases leases;
  const std::vector<LeaseId> two = {Leases::pack({0, 1, 7}), Leases::pack({1, 1, 7})};
  const LeaseId first = leases.bundle(two);
  const LeaseId second = leases.bundle(two);
  for (size_t i = 0; i + 1 < Leases::kBundlesMax; ++i) leases.bundle(two);
  EXPECT_TRUE(leases.find(first).empty());
  EXPECT_EQ(leases.find(second).size(), 2u);
}

TEST(Leases, BundlesThatWereReleasedTakeNobodysPlace) {
  Leases leases;
  const std::vector<LeaseId> two = {Leases::pack({0, 1, 7}), Leases::pack({1, 1, 7})};
  const LeaseId held = leases.bundle(two);
  for (size_t i = 0; i < 3 * Leases::kBundlesMax; ++i) leases.forget(leases.bundle(two));
  EXPECT_EQ(leases.find(held).size(), 2u);
}
}  // namespace
}  // namespace terrace
