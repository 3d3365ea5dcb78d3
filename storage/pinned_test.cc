// Goal: what is pinned stays, and however much that is, the rest makes room for each other. Method:
// pins before and after an object lies on nvme, more of them than an evictor passes by in a step;
// then puts of several times what is left.
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

Status pin(StoreWorld& world, const TestObject& object, bool pin) {
  Status said;
  bool over = false;
  world.store->set_pin(world.driver->ns, object.key, pin, kGiB, [&](const Status& result) {
    said = result;
    over = true;
  });
  EXPECT_TRUE(world.driver->until([&] { return over; }));
  return said;
}

TEST(PinnedTest, what_is_pinned_when_it_lies_on_nvme_stays_until_it_is_unpinned) {
  StoreWorld world(2);
  world.config.policy = PolicyKind::lru;
  ASSERT_TRUE(world.start().ok());
  auto fill = [&world, next = uint64_t{1000}]() mutable {
    for (const uint64_t end = next + 200; next < end; ++next) {
      const TestObject object(next, {400'000});
      ASSERT_TRUE(world.driver->put(object, Durability::nvme).ok()) << next;
    }
  };
  for (uint64_t n = 0; n < 20; ++n) {
    ASSERT_TRUE(world.driver->put(TestObject(n), Durability::nvme).ok());
    ASSERT_TRUE(pin(world, TestObject(n), true).ok());
  }
  fill();
  for (uint64_t n = 0; n < 20; ++n) EXPECT_TRUE(world.driver->get(TestObject(n)).ok()) << n;
  for (uint64_t n = 0; n < 20; ++n) ASSERT_TRUE(pin(world, TestObject(n), false).ok());
  fill();
  for (uint64_t n = 0; n < 20; ++n) {
    EXPECT_EQ(world.driver->get(TestObject(n)).code(), StatusCode::kNotFound) << n;
  }
}
}  // namespace
}  // namespace terrace
