// Goal: what is said of an object's retention holds: a ttl ends it, a pin keeps it within the
// quota, a priority decides who leaves first. Method: a small arena under pressure.
#include <gtest/gtest.h>

#include "storage/explanation.h"
#include "tests/sim/dram_store_fixture.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::TestObject;
using testing::Waiting;

class RetainerTest : public DramStoreTest {
 protected:
  Status put(uint64_t n, const Retention& retention, uint64_t quota = ~uint64_t{0}) {
    const TestObject object(n, {kMiB});
    PutSpec spec = driver_->spec_of(object, Durability::memory);
    spec.retention = retention;
    spec.pinned_bytes_max = quota;
    return driver_->put(object, spec);
  }
  bool here(uint64_t n) { return store_->find(driver_->ns, key(n)).has_value(); }
  static ChunkKey key(uint64_t n) { return TestObject(n, {kMiB}).key; }
  void turn() {
    for (int i = 0; i < 10; ++i) loop_->turn(Nanos(0));
  }
  Status pin(uint64_t n, bool pin, uint64_t quota) {
    Status said = StatusCode::kInternal;
    bool over = false;
    store_->set_pin(driver_->ns, key(n), pin, quota, [&](const Status& result) {
      said = result;
      over = true;
    });
    EXPECT_TRUE(driver_->until([&] { return over; }));
    return said;
  }
  DepartReason why(uint64_t n) {
    return store_->explain(driver_->ns, key(n)).departures.at(0).reason;
  }
};

Retention pinned() {
  Retention retention;
  retention.pin = true;
  return retention;
}

TEST_F(RetainerTest, a_ttl_ends_an_object_and_frees_its_space) {
  open(8 * kMiB);
  Retention brief;
  brief.ttl = seconds(10);
  brief.type = "document";
  ASSERT_TRUE(put(1, brief).ok());
  ASSERT_TRUE(put(2, {}).ok());
  const uint64_t before = used();
  clock_.advance(seconds(8));
  turn();
  EXPECT_TRUE(here(1));
  EXPECT_EQ(store_->explain(driver_->ns, key(1)).kept->type, "document");
  clock_.advance(seconds(3));
  turn();
  EXPECT_FALSE(here(1));
  EXPECT_TRUE(here(2));
  EXPECT_LT(used(), before);
  EXPECT_EQ(why(1), DepartReason::expired);
  EXPECT_EQ(driver_->get(TestObject(1, {kMiB})).code(), StatusCode::kNotFound);
  ASSERT_TRUE(put(1, {}).ok()) << "it may come again";
  clock_.advance(seconds(100));
  turn();
  EXPECT_TRUE(here(1));
}

TEST_F(RetainerTest, an_object_that_is_read_while_it_expires_is_read_to_its_end) {
  open(8 * kMiB);
  Retention brief;
  brief.ttl = seconds(10);
  ASSERT_TRUE(put(1, brief).ok());
  auto held = store_->pin(driver_->ns, key(1));
  ASSERT_TRUE(held.ok());
  const uint64_t before = used();
  clock_.advance(seconds(11));
  turn();
  EXPECT_FALSE(here(1));
  EXPECT_EQ(used(), before) << "its bytes are held";
  *held = Pin();
  turn();
  EXPECT_LT(used(), before);
}

TEST_F(RetainerTest, pinned_objects_stay_within_the_quota) {
  open(8 * kMiB);
  const uint64_t quota = 2 * kMiB;
  ASSERT_TRUE(put(1, pinned(), quota).ok());
  ASSERT_TRUE(put(2, pinned(), quota).ok());
  EXPECT_EQ(store_->pinned_bytes(driver_->ns), quota);
  const Status refused = put(3, pinned(), quota);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("namespace_pinned_bytes_max"), std::string::npos);
  for (uint64_t n = 10; n < 40; ++n) {
    ASSERT_TRUE(put(n, {}).ok());
    clock_.advance(seconds(2));
  }
  EXPECT_TRUE(here(1) && here(2)) << "pinned, and the oldest";
  EXPECT_FALSE(here(10));
  EXPECT_EQ(pin(39, true, quota).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(pin(1, false, quota).ok());
  ASSERT_TRUE(pin(39, true, quota).ok());
  EXPECT_EQ(pin(99, true, quota).code(), StatusCode::kNotFound);
  for (uint64_t n = 50; n < 80; ++n) {
    ASSERT_TRUE(put(n, {}).ok());
    clock_.advance(seconds(2));
  }
  EXPECT_FALSE(here(1));
  EXPECT_EQ(why(1), DepartReason::evicted);
  EXPECT_TRUE(here(2) && here(39));
  ASSERT_TRUE(driver_->erase(TestObject(2, {kMiB})).ok());
  EXPECT_EQ(store_->pinned_bytes(driver_->ns), kMiB) << "an erase is a client's word";
}

TEST_F(RetainerTest, a_put_that_fails_gives_its_part_of_the_quota_back) {
  open(8 * kMiB);
  PutSpec spec = driver_->spec_of(TestObject(1, {kMiB}), Durability::memory);
  spec.retention = pinned();
  {
    ChunkWriter writer;
    Waiting opened;
    ASSERT_TRUE(store_->open_writer(spec, &writer, &opened).ok());
    ASSERT_TRUE(driver_->wait(&opened).ok());
    EXPECT_EQ(store_->pinned_bytes(driver_->ns), kMiB);
  }
  EXPECT_EQ(store_->pinned_bytes(driver_->ns), 0u);
}

TEST_F(RetainerTest, the_lower_priority_leaves_first) {
  open(8 * kMiB);
  Retention low, high;
  low.priority = RetentionPriority::low;
  high.priority = RetentionPriority::high;
  ASSERT_TRUE(put(1, high).ok());
  clock_.advance(seconds(2));
  ASSERT_TRUE(put(2, {}).ok());
  clock_.advance(seconds(2));
  ASSERT_TRUE(put(3, low).ok());
  clock_.advance(seconds(2));
  for (uint64_t n = 10; here(3); ++n) {
    ASSERT_LT(n, 40u);
    ASSERT_TRUE(put(n, {}).ok());
    EXPECT_TRUE(here(1));
  }
  EXPECT_TRUE(here(1));
  EXPECT_TRUE(here(2)) << "low went first, although it came last";
}
}  // namespace
}  // namespace terrace
