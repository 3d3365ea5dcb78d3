// Goal: an administrator's moves, pins and clears do what they say, on media that lose power.
// Method: objects on a simulated device; every byte is read back after each step and each restart.
#include <gtest/gtest.h>

#include <algorithm>

#include "storage/clear_scan.h"
#include "storage/explanation.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

class RehomeTest : public ::testing::Test {
 protected:
  RehomeTest() : world_(1) {
    world_.config.write_through = false;
    world_.config.dram_bytes = 48 * kMiB;
    world_.config.slab_bytes = 16 * kMiB;
    EXPECT_TRUE(world_.start().ok());
  }
  ChunkStore& store() { return *world_.store; }
  testing::StoreDriver& driver() { return *world_.driver; }
  TierMask tiers(const TestObject& object) {
    const auto info = store().find(driver().ns, object.key);
    return info ? info->tiers : TierMask{0};
  }
  /// What the call that `start` makes ends with.
  Status ended(const std::function<void(ChunkStore::Then)>& start) {
    Status said = StatusCode::kInternal;
    bool over = false;
    start([&](const Status& result) {
      said = result;
      over = true;
    });
    EXPECT_TRUE(driver().until([&] { return over; }));
    return said;
  }
  Status move(const TestObject& object, Tier to) {
    return ended([&](ChunkStore::Then then) { store().move(driver().ns, object.key, to, then); });
  }
  Status clear(const TestObject& object, std::optional<Tier> tier) {
    return ended(
        [&](ChunkStore::Then then) { store().clear(driver().ns, object.key, tier, then); });
  }
  Status pin(const TestObject& object, bool pin) {
    return ended(
        [&](ChunkStore::Then then) { store().set_pin(driver().ns, object.key, pin, kGiB, then); });
  }
  Status put(const TestObject& object, Durability durability, const Retention& retention = {}) {
    PutSpec spec = driver().spec_of(object, durability);
    spec.retention = retention;
    return driver().put(object, spec);
  }
  DepartReason last_reason(const TestObject& object) {
    return store().explain(driver().ns, object.key).departures.at(0).reason;
  }
  static constexpr TierMask kBoth = mask_of(Tier::dram) | mask_of(Tier::nvme);
  StoreWorld world_;
};

TEST_F(RehomeTest, moves_down_and_up_again) {
  const TestObject object(1);
  ASSERT_TRUE(put(object, Durability::memory).ok());
  ASSERT_TRUE(move(object, Tier::nvme).ok());
  EXPECT_EQ(tiers(object), mask_of(Tier::nvme));
  EXPECT_EQ(last_reason(object), DepartReason::moved);
  EXPECT_TRUE(driver().get(object).ok());
  ASSERT_TRUE(move(object, Tier::dram).ok());
  EXPECT_EQ(tiers(object), kBoth) << "the slower copy stays";
  EXPECT_TRUE(driver().get(object).ok());
  EXPECT_TRUE(move(object, Tier::dram).ok()) << "where it is already";
  EXPECT_EQ(move(TestObject(2), Tier::dram).code(), StatusCode::kNotFound);
  EXPECT_EQ(move(object, Tier::shared).code(), StatusCode::kUnavailable);
}

TEST_F(RehomeTest, what_is_in_use_stays_where_it_is) {
  const TestObject object(1);
  ASSERT_TRUE(put(object, Durability::memory).ok());
  auto held = store().pin(driver().ns, object.key);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(move(object, Tier::nvme).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(tiers(object), kBoth) << "the copy is made";
  EXPECT_EQ(clear(object, Tier::dram).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(clear(object, Tier::nvme).code(), StatusCode::kFailedPrecondition);
  *held = Pin();
  EXPECT_TRUE(move(object, Tier::nvme).ok());
  EXPECT_EQ(tiers(object), mask_of(Tier::nvme));
}

TEST_F(RehomeTest, clears_one_copy_or_all) {
  const TestObject object(1), other(2);
  ASSERT_TRUE(put(object, Durability::nvme).ok());
  ASSERT_TRUE(put(other, Durability::memory).ok());
  const uint64_t used = store().tier_use(Tier::nvme).used;
  ASSERT_TRUE(clear(object, Tier::nvme).ok());
  EXPECT_EQ(tiers(object), mask_of(Tier::dram));
  EXPECT_LT(store().tier_use(Tier::nvme).used, used);
  EXPECT_EQ(last_reason(object), DepartReason::cleared);
  EXPECT_TRUE(driver().get(object).ok());
  EXPECT_EQ(clear(object, Tier::nvme).code(), StatusCode::kNotFound);
  ASSERT_TRUE(move(object, Tier::nvme).ok()) << "it may be written again";
  EXPECT_TRUE(driver().get(object).ok());
  ASSERT_TRUE(clear(object, std::nullopt).ok());
  EXPECT_EQ(tiers(object), 0);
  EXPECT_EQ(driver().get(object).code(), StatusCode::kNotFound);
  ASSERT_TRUE(clear(other, Tier::dram).ok());
  EXPECT_EQ(tiers(other), 0) << "it had no other copy";
}

TEST_F(RehomeTest, a_cleared_copy_does_not_come_back) {
  const TestObject object(1);
  ASSERT_TRUE(put(object, Durability::nvme).ok());
  ASSERT_TRUE(clear(object, Tier::nvme).ok());
  world_.crash();
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(tiers(object), 0);
}

TEST_F(RehomeTest, a_pin_survives_a_power_cut_and_is_not_cleared) {
  Retention said;
  said.priority = RetentionPriority::high;
  said.ttl = std::chrono::hours(1);
  said.type = "system";
  said.turn = 3;
  said.session = "s-1";
  const TestObject object(1), memory_only(2), unpinned(3);
  ASSERT_TRUE(put(object, Durability::nvme, said).ok());
  ASSERT_TRUE(put(memory_only, Durability::memory).ok());
  said.pin = true;
  ASSERT_TRUE(put(unpinned, Durability::nvme, said).ok());
  ASSERT_TRUE(pin(object, true).ok());
  ASSERT_TRUE(pin(memory_only, true).ok()) << "it is written to nvme for that";
  ASSERT_TRUE(pin(unpinned, false).ok());
  world_.crash();
  ASSERT_TRUE(world_.start().ok());
  const Explanation known = store().explain(driver().ns, object.key);
  ASSERT_TRUE(known.kept);
  EXPECT_TRUE(known.kept->pinned);
  EXPECT_EQ(known.kept->priority, RetentionPriority::high);
  EXPECT_EQ(known.kept->type, "system");
  EXPECT_EQ(known.kept->turn, 3u);
  EXPECT_EQ(known.kept->session, "s-1");
  EXPECT_GT(known.kept->expires_s, 0u);
  EXPECT_TRUE(store().explain(driver().ns, memory_only.key).kept->pinned);
  EXPECT_FALSE(store().explain(driver().ns, unpinned.key).kept->pinned);
  EXPECT_EQ(store().pinned_bytes(driver().ns), object.bytes() + memory_only.bytes());
  EXPECT_TRUE(driver().get(object).ok());
  EXPECT_EQ(clear(object, std::nullopt).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(pin(object, false).ok());
  EXPECT_TRUE(clear(object, std::nullopt).ok());
}

TEST_F(RehomeTest, a_pin_that_fails_is_none_and_may_be_tried_again) {
  const TestObject object(1);
  ASSERT_TRUE(put(object, Durability::memory).ok());
  world_.device.fail(0, error(StatusCode::kDataLoss, "a medium error"));
  EXPECT_FALSE(pin(object, true).ok());
  EXPECT_EQ(store().pinned_bytes(driver().ns), 0u);
  EXPECT_FALSE(store().explain(driver().ns, object.key).kept.value_or(Kept()).pinned);
  ASSERT_TRUE(pin(object, true).ok());
  EXPECT_EQ(store().pinned_bytes(driver().ns), object.bytes());
  EXPECT_EQ(tiers(object), kBoth);
}

TEST_F(RehomeTest, the_quota_holds_for_pins_that_wait_for_each_other) {
  const TestObject one(1), other(2);
  for (const TestObject* object : {&one, &other}) {
    ASSERT_TRUE(put(*object, Durability::nvme).ok());
  }
  const uint64_t quota = std::max(one.bytes(), other.bytes());
  std::vector<StatusCode> ended;
  const auto set = [&](const TestObject& object, bool pin) {
    store().set_pin(driver().ns, object.key, pin, quota,
                    [&](const Status& result) { ended.push_back(result.code()); });
  };
  set(one, true);
  ASSERT_TRUE(driver().until([&] { return ended.size() == 1; }));
  set(one, false);  // its row is under way
  set(one, true);
  set(other, true);
  ASSERT_TRUE(driver().until([&] { return ended.size() == 4; }));
  EXPECT_EQ(std::count(ended.begin(), ended.end(), StatusCode::kResourceExhausted), 1);
  EXPECT_LE(store().pinned_bytes(driver().ns), quota);
}

TEST_F(RehomeTest, pins_of_one_object_are_done_one_after_the_other) {
  const TestObject object(1);
  ASSERT_TRUE(put(object, Durability::memory).ok());
  std::vector<std::pair<bool, TierMask>> ended;  // of which, and where it was then
  for (const bool pin : {true, true, false}) {
    store().set_pin(driver().ns, object.key, pin, kGiB, [&, pin](const Status& result) {
      EXPECT_TRUE(result.ok()) << result.to_string();
      ended.emplace_back(pin, tiers(object));
    });
  }
  ASSERT_TRUE(driver().until([&] { return ended.size() == 3; }));
  for (const auto& [pin, where] : ended) EXPECT_EQ(where, kBoth) << pin;
  EXPECT_FALSE(ended.back().first);
  world_.crash();
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(tiers(object), mask_of(Tier::nvme));
  EXPECT_EQ(store().pinned_bytes(driver().ns), 0u) << "the last word";
}

TEST_F(RehomeTest, an_unpin_while_the_object_is_written_is_the_last_word) {
  const TestObject object(1);
  Retention said;
  said.pin = true;
  ASSERT_TRUE(put(object, Durability::memory, said).ok());
  bool over = false;  // however: it may be in use just then
  store().move(driver().ns, object.key, Tier::nvme, [&](const Status&) { over = true; });
  ASSERT_TRUE(pin(object, false).ok());
  ASSERT_TRUE(driver().until([&] { return over; }));
  world_.crash();
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(tiers(object), mask_of(Tier::nvme));
  EXPECT_EQ(store().pinned_bytes(driver().ns), 0u);
}

TEST_F(RehomeTest, clears_a_namespace_and_no_other) {
  for (uint64_t n = 1; n <= 20; ++n) {
    ASSERT_TRUE(put(TestObject(n), n % 2 == 0 ? Durability::nvme : Durability::memory).ok());
  }
  ASSERT_TRUE(pin(TestObject(5), true).ok());
  const NamespaceId mine = driver().ns;
  driver().ns = NamespaceId{2};
  ASSERT_TRUE(put(TestObject(1), Durability::memory).ok());
  const auto scan = std::make_shared<ClearScan>();
  scan->ns = mine;
  ASSERT_TRUE(driver().until([&] { return store().clear_step(scan.get()); }));
  EXPECT_EQ(scan->cleared, 19u);
  EXPECT_EQ(scan->kept, 1u);
  EXPECT_EQ(scan->failed, 0u);
  EXPECT_TRUE(driver().get(TestObject(1)).ok()) << "another namespace's";
  EXPECT_EQ(store().usage(mine).objects, 1u);
}
}  // namespace
}  // namespace terrace
