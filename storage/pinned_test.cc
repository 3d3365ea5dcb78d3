// Goal: however many objects are pinned, those that are not make room for each other. Method: more
// pinned ones than an evictor passes by in a step, then puts of several times what is left.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

TEST(PinnedTest, tens_of_thousands_of_pins_do_not_wedge_eviction) {
  constexpr uint64_t kPinned = 33'000;
  StoreWorld world(1, 320 * kMiB);
  world.config.policy = PolicyKind::lru;
  world.config.dram_bytes = 16 * kMiB;
  ASSERT_TRUE(world.start().ok());
  for (uint64_t n = 0; n < kPinned; ++n) {
    const TestObject object(n, {5});
    PutSpec spec = world.driver->spec_of(object, Durability::nvme);
    spec.retention.pin = true;
    spec.pinned_bytes_max = kGiB;
    ASSERT_TRUE(world.driver->put(object, std::move(spec)).ok()) << n;
  }
  for (uint64_t n = kPinned; n < kPinned + 200; ++n) {
    const Status put = world.driver->put(TestObject(n, {1'000'000}), Durability::nvme);
    ASSERT_TRUE(put.ok()) << n - kPinned << ": " << put.to_string();
  }
  EXPECT_GT(world.store->metrics().evictions[static_cast<size_t>(Tier::nvme)].get(), 100u);
  for (uint64_t n = 0; n < kPinned; n += 1000) {
    EXPECT_TRUE(world.driver->get(TestObject(n, {5})).ok()) << n;
  }
}
}  // namespace
}  // namespace terrace
