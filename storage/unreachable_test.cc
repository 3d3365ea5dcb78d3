// Goal: what this node said it keeps, on a device that does not answer, gives way to what is as
// safe and to nothing else. Method: a store on one or two simulated devices, one of which hangs and
// answers again; puts of what lies there; power cuts.
#include <gtest/gtest.h>

#include <optional>

#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

class UnreachableTest : public ::testing::Test {
 protected:
  UnreachableTest() : world_(77) {
    world_.add_device();
    world_.config.promote_hits = 0;
  }
  /// A restart: then everything is on nvme only.
  void again() {
    world_.stop();
    ASSERT_TRUE(world_.start().ok());
  }
  Status pin(const TestObject& object) {
    std::optional<Status> said;
    world_.store->set_pin(world_.driver->ns, object.key, true, kGiB,
                          [&](const Status& result) { said = result; });
    EXPECT_TRUE(world_.driver->until([&] { return said.has_value(); }));
    return *said;
  }
  /// An object whose only copy lies on a device that was fenced because it hangs.
  TestObject hang_beneath_one() {
    EXPECT_TRUE(world_.start().ok());
    for (uint64_t each = 0; each < 20; ++each) {
      EXPECT_TRUE(world_.driver->put(TestObject(each), Durability::nvme).ok());
    }
    again();
    world_.others[0]->hang();
    uint64_t n = 0;
    while (world_.places().at(TestObject(n).key) != 1) ++n;
    EXPECT_FALSE(world_.driver->get(TestObject(n)).ok());
    world_.wait(seconds(6));
    return TestObject(n);
  }
  StoreWorld world_;
};

TEST_F(UnreachableTest, a_put_replaces_what_nobody_can_read) {
  const TestObject lost = hang_beneath_one();
  ASSERT_TRUE(world_.driver->put(lost, Durability::nvme).ok());
  EXPECT_EQ(world_.places().at(lost.key), 0);
  EXPECT_TRUE(world_.driver->get(lost).ok());
  world_.others[0]->let_go();
  world_.wait(seconds(1));
  again();
  EXPECT_TRUE(world_.driver->get(lost).ok());
}

TEST_F(UnreachableTest, a_put_into_memory_is_as_safe_as_what_it_replaces) {
  const TestObject away = hang_beneath_one();
  ASSERT_TRUE(pin(away).ok());
  ASSERT_TRUE(world_.driver->put(away, Durability::memory).ok());
  EXPECT_EQ(world_.store->pinned_bytes(world_.driver->ns), away.bytes());
  world_.crash();
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(world_.places().at(away.key), 0);
  EXPECT_TRUE(world_.driver->get(away).ok()) << "it was acknowledged nvme";
  EXPECT_EQ(world_.store->pinned_bytes(world_.driver->ns), away.bytes());
}

TEST_F(UnreachableTest, with_no_device_that_answers_nothing_replaces_what_is_kept) {
  StoreWorld alone(78);
  alone.config.promote_hits = 0;
  ASSERT_TRUE(alone.start().ok());
  const TestObject kept(1);
  ASSERT_TRUE(alone.driver->put(kept, Durability::nvme).ok());
  alone.stop();
  ASSERT_TRUE(alone.start().ok());
  alone.device.hang();
  EXPECT_FALSE(alone.driver->get(kept).ok());
  alone.wait(seconds(6));
  EXPECT_EQ(alone.driver->put(kept, Durability::memory).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(alone.driver->put(TestObject(2), Durability::memory).ok()) << "of others, no word";
  alone.device.let_go();
  alone.wait(seconds(20));
  alone.crash();
  ASSERT_TRUE(alone.start().ok());
  EXPECT_TRUE(alone.driver->get(kept).ok());
}

TEST_F(UnreachableTest, a_put_that_does_not_end_replaces_nothing) {
  const TestObject away = hang_beneath_one();
  {
    ChunkWriter writer;
    Waiting opened;
    PutSpec spec = world_.driver->spec_of(away, Durability::nvme);
    ASSERT_TRUE(world_.store->open_writer(std::move(spec), &writer, &opened).ok());
    ASSERT_TRUE(world_.driver->wait(&opened).ok() && world_.driver->fill(&writer, away).ok());
  }  // its client went away
  world_.others[0]->let_go();
  world_.wait(seconds(1));
  again();
  EXPECT_TRUE(world_.driver->get(away).ok());
}
}  // namespace
}  // namespace terrace
