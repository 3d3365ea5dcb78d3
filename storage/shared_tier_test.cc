// Goal: two nodes that share a directory read what either wrote, every byte right; what is damaged,
// gone, late or refused is a miss that is counted under its reason; a file system that hangs costs
// nothing but the tier. Method: two stores in one process over a real directory whose calls fail
// and hang on request.
#include "storage/shared_tier.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/limits.h"
#include "tests/sim/shared_nodes.h"

namespace terrace {
namespace {
using testing::TestNode;
using testing::TestObject;
using testing::Waiting;

class SharedTierTest : public testing::SharedNodesTest {};

TEST_F(SharedTierTest, what_one_node_publishes_the_other_serves) {
  TestNode& one = node();
  TestNode& other = node();
  for (uint64_t n = 1; n <= 30; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n), Durability::shared).ok()) << n;
    const auto info = one.store->find(one.driver->ns, TestObject(n).key);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->tiers, mask_of(Tier::dram) | mask_of(Tier::shared));
  }
  for (uint64_t n = 1; n <= 30; ++n) {
    const TestObject object(n);
    ASSERT_TRUE(knows(other, object));
    const auto info = other.store->find(other.driver->ns, object.key);
    EXPECT_EQ(info->tiers, mask_of(Tier::shared));
    EXPECT_EQ(info->logical_bytes, object.bytes());
    Tier tier{};
    EXPECT_EQ(other.driver->get(object, &tier).to_string(), ok_status().to_string());
    EXPECT_EQ(tier, Tier::shared);
    EXPECT_EQ(other.driver->get(object, &tier).to_string(), ok_status().to_string());
    EXPECT_EQ(tier, Tier::dram);  // promoted
    EXPECT_EQ(other.store->find(other.driver->ns, object.key)->tiers,
              mask_of(Tier::dram) | mask_of(Tier::shared));
  }
  EXPECT_EQ(other.metrics().hits.get(), 30u);
  EXPECT_EQ(one.metrics().publishes.get(), 30u);
  EXPECT_EQ(one.store->tier_use(Tier::shared).objects, 30u);
}

TEST_F(SharedTierTest, namespaces_are_told_apart) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(knows(other, object));
  EXPECT_FALSE(other.store->find(NamespaceId{2}, object.key));
  other.driver->ns = NamespaceId{2};
  EXPECT_EQ(other.driver->get(object).code(), StatusCode::kNotFound);
  // A namespace that the tier has no name for.
  one.driver->ns = NamespaceId{9};
  EXPECT_EQ(one.driver->put(TestObject(2), Durability::shared).code(), StatusCode::kUnavailable);
}

TEST_F(SharedTierTest, many_readers_of_one_object_are_one_load) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1, {3 * kMiB + 5, 100});
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(knows(other, object));
  std::vector<ChunkReader> readers(20);
  std::vector<Waiting> opened(20);
  for (size_t i = 0; i < readers.size(); ++i) {
    ASSERT_TRUE(
        other.store->open_reader(other.driver->ns, object.key, i, &readers[i], &opened[i]).ok());
  }
  other.store->cancel_open(&readers[7], StatusCode::kDeadlineExceeded);
  for (size_t i = 0; i < readers.size(); ++i) {
    const Status status = other.driver->wait(&opened[i]);
    EXPECT_EQ(status.code(), i == 7 ? StatusCode::kDeadlineExceeded : StatusCode::kOk);
  }
  EXPECT_EQ(other.metrics().hits.get(), 1u);
  EXPECT_TRUE(other.driver->get(object).ok());
}

TEST_F(SharedTierTest, a_damaged_copy_is_a_miss_and_set_aside) {
  TestNode& one = node();
  TestNode& other = node();
  for (int kind = 0; kind < 3; ++kind) {
    const TestObject object(static_cast<uint64_t>(10 + kind), {200'000});
    ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
    ASSERT_TRUE(knows(other, object));
    if (kind == 0) std::filesystem::resize_file(file(), 100'000);
    if (kind > 0) {
      std::fstream open(file(), std::ios::in | std::ios::out | std::ios::binary);
      open.seekp(kind == 1 ? 150'000 : 60);
      open.put('\x5a').put('\xa5').put('\x5a');
    }
    EXPECT_EQ(other.driver->get(object).code(), StatusCode::kDataLoss) << kind;
    const auto set_aside = static_cast<uint64_t>(kind + 1);
    ASSERT_TRUE(
        other.driver->until([&] { return other.metrics().quarantined.get() == set_aside; }));
    EXPECT_EQ(files_in("objects"), 0u);
    EXPECT_EQ(files_in("quarantine"), set_aside);
    EXPECT_EQ(other.misses(SharedFailure::damaged), set_aside);
    EXPECT_EQ(other.driver->get(object).code(), StatusCode::kNotFound);
  }
}

TEST_F(SharedTierTest, what_another_node_removed_is_a_miss) {
  config_.shared_list_period = seconds(100);
  TestNode& one = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  TestNode& other = node();
  ASSERT_TRUE(knows(other, object));
  EXPECT_TRUE(one.driver->erase(object).ok());
  EXPECT_EQ(one.driver->get(object).code(), StatusCode::kNotFound);
  EXPECT_EQ(files_in("objects"), 0u);
  EXPECT_EQ(other.driver->get(object).code(), StatusCode::kNotFound);
  EXPECT_EQ(other.misses(SharedFailure::absent), 1u);
  EXPECT_FALSE(other.store->find(other.driver->ns, object.key));
}

TEST_F(SharedTierTest, a_duplicate_is_published_without_its_bytes) {
  TestNode& one = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::memory).ok());
  EXPECT_EQ(files_in("objects"), 0u);
  EXPECT_EQ(one.driver->put(object, Durability::shared).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(files_in("objects"), 1u);
  EXPECT_EQ(one.driver->put(object, Durability::shared).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(one.metrics().publishes.get(), 1u);  // it was published just now
}

TEST_F(SharedTierTest, a_full_or_failing_medium_refuses_and_counts) {
  TestNode& one = node();
  TestNode& other = node();
  ASSERT_TRUE(one.driver->put(TestObject(1), Durability::shared).ok());
  ASSERT_TRUE(knows(other, TestObject(1)));
  for (const int error : {ENOSPC, EIO}) {
    one.faults->fail(0, error, true);
    other.faults->fail(0, error, true);
    EXPECT_FALSE(one.driver->put(TestObject(2), Durability::shared).ok());
    EXPECT_FALSE(one.store->find(one.driver->ns, TestObject(2).key));
    EXPECT_TRUE(one.driver->put(TestObject(3), Durability::memory).ok() || error == EIO);
  }
  const auto& failures = one.metrics().publish_failures;
  EXPECT_EQ(failures[static_cast<size_t>(SharedFailure::no_space)].get(), 1u);
  EXPECT_EQ(failures[static_cast<size_t>(SharedFailure::failed)].get(), 1u);
  EXPECT_EQ(other.driver->get(TestObject(1)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(other.misses(SharedFailure::failed), 1u);
  other.faults->reset();
  EXPECT_TRUE(other.driver->get(TestObject(1)).ok());  // nothing was set aside for that
}

TEST_F(SharedTierTest, a_hanging_file_system_costs_only_the_tier) {
  TestNode& one = node();
  TestNode& other = node();
  for (uint64_t n = 1; n <= 8; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n), Durability::shared).ok());
    ASSERT_TRUE(knows(other, TestObject(n)));
  }
  ASSERT_TRUE(other.driver->put(TestObject(100), Durability::memory).ok());
  other.faults->set_hang(true);
  std::vector<ChunkReader> readers(8);
  std::vector<Waiting> opened(8);
  for (uint64_t n = 0; n < 8; ++n) {
    ASSERT_TRUE(
        other.store
            ->open_reader(other.driver->ns, TestObject(n + 1).key, n, &readers[n], &opened[n])
            .ok());
  }
  const Nanos begin = clock_.now();
  uint64_t served = 0;
  while (!std::all_of(opened.begin(), opened.end(), [](const Waiting& w) { return w.over; })) {
    ASSERT_LT(clock_.now() - begin, seconds(10));
    ASSERT_TRUE(other.driver->get(TestObject(100)).ok());
    ++served;
  }
  EXPECT_GT(served, 5u);
  EXPECT_LT(clock_.now() - begin, seconds(3));
  for (const Waiting& each : opened) {
    EXPECT_TRUE(each.status.code() == StatusCode::kDeadlineExceeded ||
                each.status.code() == StatusCode::kUnavailable);
  }
  // Fenced: refused at once, nothing is promised.
  EXPECT_EQ(other.metrics().fenced.get(), 1u);
  EXPECT_EQ(other.driver->get(TestObject(1)).code(), StatusCode::kUnavailable);
  EXPECT_FALSE(other.store->find(other.driver->ns, TestObject(1).key));
  EXPECT_EQ(other.driver->put(TestObject(101), Durability::shared).code(),
            StatusCode::kUnavailable);
  EXPECT_GT(other.misses(SharedFailure::fenced), 0u);
  EXPECT_LE(other.faults->now_hanging(), 4);
  // And back by itself.
  other.faults->set_hang(false);
  ASSERT_TRUE(other.driver->until([&] { return other.metrics().fenced.get() == 0; }));
  EXPECT_EQ(other.metrics().hanging.get(), 0u);
  ASSERT_TRUE(knows(other, TestObject(1)));
  EXPECT_TRUE(other.driver->get(TestObject(1)).ok());
}

TEST_F(SharedTierTest, one_that_answers_again_but_is_full_serves_what_it_has) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1, {kMiB});
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(knows(other, object));
  other.faults->set_hang(true);
  EXPECT_FALSE(other.driver->get(object).ok());
  ASSERT_EQ(other.metrics().fenced.get(), 1u);
  other.faults->fail(0, ENOSPC, true);  // whatever it is asked
  other.faults->set_hang(false);
  ASSERT_TRUE(other.driver->until([&] { return other.metrics().fenced.get() == 0; }));
  GenerationRight right;
  Waiting waited;
  const Status asked = other.store->generate_or_wait(other.driver->ns, TestObject(7).key,
                                                     seconds(20), seconds(20), &right, &waited);
  const Status answer = asked.ok() ? other.driver->wait(&waited) : asked;
  EXPECT_EQ(answer.code(), StatusCode::kUnavailable) << "nobody waits for a medium that fails";
  other.faults->reset();
  ASSERT_TRUE(other.driver->until([&] { return other.driver->get(object).ok(); }));
}

TEST_F(SharedTierTest, a_load_that_a_put_overtakes_makes_no_second_object) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1, {kMiB});
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(knows(other, object));
  other.faults->set_hang(true);
  ChunkReader reader;
  Waiting loaded;
  ASSERT_TRUE(other.store->open_reader(other.driver->ns, object.key, 1, &reader, &loaded).ok());
  ChunkWriter writer;
  Waiting opened;
  ASSERT_TRUE(
      other.store->open_writer(other.driver->spec_of(object, Durability::memory), &writer, &opened)
          .ok());
  ASSERT_TRUE(other.driver->wait(&opened).ok());
  other.faults->set_hang(false);
  EXPECT_FALSE(other.driver->wait(&loaded).ok());
  ASSERT_TRUE(other.driver->fill(&writer, object).ok());
  Waiting committed;
  ASSERT_TRUE(other.store->commit(&writer, &committed).ok());
  ASSERT_TRUE(other.driver->wait(&committed).ok());
  EXPECT_EQ(other.store->usage(other.driver->ns).objects, 1u);
  EXPECT_TRUE(other.driver->erase(object).ok());
  EXPECT_FALSE(other.store->find(other.driver->ns, object.key));
}

TEST_F(SharedTierTest, a_store_closes_while_calls_hang) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1, {2 * kMiB});
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(knows(other, object));
  other.faults->set_hang(true);
  EXPECT_FALSE(other.driver->get(object).ok());
  const auto faults = other.faults;
  EXPECT_TRUE(other.driver->close().ok());
  other.driver.reset();
  other.store.reset();
  nodes_.pop_back();
  EXPECT_GT(faults->now_hanging(), 0);
  faults->set_hang(false);  // the thread comes back to a store that is gone
  const Nanos until = clock_.now() + seconds(10);
  while (faults->now_hanging() > 0 && clock_.now() < until) loop_->turn(milliseconds(1));
  for (int i = 0; i < 20; ++i) loop_->turn(milliseconds(1));
  EXPECT_TRUE(one.driver->get(object).ok());
}

TEST_F(SharedTierTest, a_right_to_compute_lasts_as_long_as_it_is_held) {
  config_.shared_generate_lease = milliseconds(400);
  TestNode& one = node();
  TestNode& other = node();
  const NamespaceId ns{1};
  const ChunkKey key = TestObject(1).key;
  GenerationRight held;
  Waiting granted;
  ASSERT_TRUE(one.store->generate_or_wait(ns, key, seconds(5), seconds(60), &held, &granted).ok());
  ASSERT_TRUE(one.driver->wait(&granted).ok());
  ASSERT_TRUE(held);
  // Three times the lease, on its own node and on the other one.
  for (TestNode* each : {&one, &other}) {
    GenerationRight none;
    Waiting late;
    ASSERT_TRUE(
        each->store->generate_or_wait(ns, key, milliseconds(1200), seconds(1), &none, &late).ok());
    EXPECT_EQ(each->driver->wait(&late).code(), StatusCode::kDeadlineExceeded);
    EXPECT_FALSE(none);
  }
  GenerationRight cancelled;
  Waiting gone;
  ASSERT_TRUE(
      other.store->generate_or_wait(ns, key, seconds(9), seconds(1), &cancelled, &gone).ok());
  other.store->cancel_wait(&cancelled, StatusCode::kCancelled);
  EXPECT_EQ(other.driver->wait(&gone).code(), StatusCode::kCancelled);
  // Dropped without a chunk: the next one, who holds it too long, and the next.
  const uint64_t first = held.token();
  held = GenerationRight();
  GenerationRight second;
  Waiting second_granted;
  ASSERT_TRUE(
      other.store
          ->generate_or_wait(ns, key, seconds(5), milliseconds(200), &second, &second_granted)
          .ok());
  ASSERT_TRUE(other.driver->wait(&second_granted).ok());
  ASSERT_TRUE(second);
  EXPECT_GT(second.token(), first);
  Waiting third_granted;
  ASSERT_TRUE(
      one.store->generate_or_wait(ns, key, seconds(5), seconds(5), &held, &third_granted).ok());
  ASSERT_TRUE(one.driver->wait(&third_granted).ok());
  EXPECT_GT(held.token(), second.token());
  // Published: whoever waits or comes later reads it.
  GenerationRight none;
  Waiting published;
  ASSERT_TRUE(
      other.store->generate_or_wait(ns, key, seconds(5), seconds(5), &none, &published).ok());
  ASSERT_TRUE(one.driver->put(TestObject(1), Durability::shared).ok());
  ASSERT_TRUE(other.driver->wait(&published).ok());
  EXPECT_FALSE(none);
  EXPECT_TRUE(other.driver->get(TestObject(1)).ok());
}

TEST_F(SharedTierTest, one_of_the_nodes_sweeps) {
  config_.shared_bytes_max = kMiB;
  config_.shared_sweep_period = milliseconds(50);
  config_.shared_grace = seconds(1);
  TestNode& one = node();
  TestNode& other = node();
  for (uint64_t n = 1; n <= 30; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n, {100'000}), Durability::shared).ok()) << n;
  }
  const auto swept = [&] {
    return one.metrics().swept_objects.get() + other.metrics().swept_objects.get();
  };
  ASSERT_TRUE(one.driver->until([&] { return swept() >= 20; }));
  EXPECT_EQ(one.metrics().sweeper.get() + other.metrics().sweeper.get(), 1u);
  EXPECT_LE(files_in("objects"), 10u);
  EXPECT_GE(files_in("objects"), 8u);
  ASSERT_TRUE(one.driver->until([&] { return files_in("trash") == 0; }));
  // It leaves, and the other one goes on.
  const bool first = one.metrics().sweeper.get() == 1;
  TestNode& sweeper = first ? one : other;
  TestNode& successor = first ? other : one;
  EXPECT_TRUE(sweeper.driver->close().ok());
  sweeper.driver.reset();
  sweeper.store.reset();
  ASSERT_TRUE(successor.driver->until([&] { return successor.metrics().sweeper.get() == 1; }));
  std::erase_if(nodes_, [](const auto& each) { return each->store == nullptr; });
}

TEST_F(SharedTierTest, what_dram_drops_is_in_the_shared_tier) {
  TestNode& one = node();
  for (uint64_t n = 1; n <= 120; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n, {300'000}), Durability::memory).ok()) << n;
    // Until nothing more is published: how long that takes is the machine's business.
    uint64_t published = one.metrics().publishes.get();
    Nanos until = clock_.now() + milliseconds(15);
    while (clock_.now() < until) {
      loop_->turn(milliseconds(1));
      if (one.metrics().publishes.get() == published) continue;
      published = one.metrics().publishes.get();
      until = clock_.now() + milliseconds(15);
    }
  }
  EXPECT_GT(one.store->metrics().evictions[static_cast<size_t>(Tier::dram)].get(), 60u);
  uint64_t there = 0;  // before a read makes another one leave
  for (uint64_t n = 1; n <= 120; ++n) {
    there += one.store->find(one.driver->ns, TestObject(n, {300'000}).key).has_value() ? 1 : 0;
  }
  EXPECT_EQ(there + one.metrics().evictions_unshared.get(), 120u);
  for (uint64_t n = 1; n <= 120; ++n) {
    const Status status = one.driver->get(TestObject(n, {300'000}));
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kNotFound) << status.to_string();
  }
  EXPECT_GT(one.metrics().demotions.get(), 50u);
}
}  // namespace
}  // namespace terrace
