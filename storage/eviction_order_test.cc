// Goal: who leaves dram when it is full is who the policy says, and nobody who is in use. Method: a
// chain that was used together, others beside it, and puts that need the room.
#include <gtest/gtest.h>

#include <vector>

#include "tests/sim/dram_store_fixture.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::TestObject;

class EvictionOrderTest : public DramStoreTest, public ::testing::WithParamInterface<PolicyKind> {
 protected:
  /// A chain of six that was used together, its tail pinned, and four others: two have to go.
  void fill() {
    config_.policy = GetParam();
    open(8 * kMiB);
    std::vector<ChunkKey> keys;
    for (uint64_t n = 0; n < 6; ++n) {
      chain_.emplace_back(n, std::vector<uint64_t>{kMiB - 8192});
      keys.push_back(chain_.back().key);
      ASSERT_TRUE(driver_->put(chain_.back(), Durability::memory).ok());
    }
    store_->touch(driver_->ns, keys);
    StatusOr<Pin> pin = store_->pin(driver_->ns, keys[5]);  // the tail, which would go first
    ASSERT_TRUE(pin.ok());
    for (uint64_t n = 10; n < 14; ++n) {
      ASSERT_TRUE(driver_->put(TestObject(n, {kMiB - 8192}), Durability::memory).ok()) << n;
    }
    EXPECT_GT(store_->metrics().evictions[static_cast<size_t>(Tier::dram)].get(), 0u);
    EXPECT_TRUE(driver_->get(chain_[5]).ok()) << "pinned";
    EXPECT_TRUE(driver_->get(chain_[0]).ok()) << "the head";
  }
  std::vector<TestObject> chain_;
};

TEST_P(EvictionOrderTest, the_tail_goes_first_and_pinned_objects_stay) {
  ASSERT_NO_FATAL_FAILURE(fill());
  if (GetParam() == PolicyKind::lru) {
    EXPECT_EQ(driver_->get(chain_[4]).code(), StatusCode::kNotFound) << "the oldest";
  } else {
    for (size_t n = 0; n < 6; ++n) {
      EXPECT_TRUE(driver_->get(chain_[n]).ok()) << n << " is needed by the pinned tail";
    }
    EXPECT_EQ(driver_->get(TestObject(10, {kMiB - 8192})).code(), StatusCode::kNotFound);
  }
}
INSTANTIATE_TEST_SUITE_P(Policies, EvictionOrderTest,
                         ::testing::Values(PolicyKind::value, PolicyKind::lru));

TEST_F(DramStoreTest, what_costs_little_to_compute_goes_first) {
  open(8 * kMiB);
  const auto put = [&](uint64_t n, uint64_t recompute_us, float importance) {
    PutSpec spec = driver_->spec_of(TestObject(n, {kMiB - 8192}), Durability::memory);
    spec.worth = {.recompute_us = recompute_us, .importance = importance};
    return driver_->put(TestObject(n, {kMiB - 8192}), std::move(spec));
  };
  ASSERT_TRUE(put(1, 50'000, 1).ok());
  ASSERT_TRUE(put(2, 500, 1).ok());
  ASSERT_TRUE(put(3, 50'000, 0.01f).ok());
  for (uint64_t n = 10; n < 16; ++n) ASSERT_TRUE(put(n, 50'000, 1).ok()) << n;
  EXPECT_EQ(driver_->get(TestObject(2, {kMiB - 8192})).code(), StatusCode::kNotFound);
  EXPECT_EQ(driver_->get(TestObject(3, {kMiB - 8192})).code(), StatusCode::kNotFound);
  EXPECT_TRUE(driver_->get(TestObject(1, {kMiB - 8192})).ok());
}
}  // namespace
}  // namespace terrace
