// Goal: an erase that is acknowledged took every copy, whoever published it and whatever ran
// meanwhile; a put acknowledged `shared` has its copy. Method: as shared_tier_test.cc; copies are
// added and taken away under the nodes, calls hang at the worst moment.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/limits.h"
#include "storage/clear_scan.h"
#include "storage/explanation.h"
#include "tests/sim/held_files.h"
#include "tests/sim/shared_nodes.h"

namespace terrace {
namespace {
using testing::TestNode;
using testing::TestObject;
using testing::Waiting;

class SharedEraseTest : public testing::SharedNodesTest {
 protected:
  /// An older generation of the only published object.
  void add_generation() {
    const std::string newest = file();
    std::string older = newest;
    older[older.size() - 16] = '0';
    older[older.size() - 10] = older[older.size() - 10] == '0' ? '1' : '0';
    ASSERT_NE(newest, older);
    std::filesystem::copy_file(newest, older);
  }
  static void listed_anew(TestNode& node) {
    const uint64_t before = node.metrics().listings.get();
    ASSERT_TRUE(node.driver->until([&] { return node.metrics().listings.get() >= before + 4; }));
  }
  static Status commit(TestNode& node, const TestObject& object, ChunkWriter* writer,
                       Waiting* committed) {
    Waiting opened;
    const PutSpec spec = node.driver->spec_of(object, Durability::shared);
    TERRACE_RETURN_IF_ERROR(node.store->open_writer(spec, writer, &opened));
    TERRACE_RETURN_IF_ERROR(node.driver->wait(&opened));
    TERRACE_RETURN_IF_ERROR(node.driver->fill(writer, object));
    return node.store->commit(writer, committed);
  }
};

TEST_F(SharedEraseTest, every_generation_goes) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  add_generation();
  ASSERT_EQ(files_in("objects"), 2u);
  ASSERT_TRUE(knows(other, object));
  EXPECT_TRUE(other.driver->erase(object).ok());
  EXPECT_EQ(files_in("objects"), 0u);
  EXPECT_EQ(files_in("trash"), 2u);
  listed_anew(other);
  EXPECT_FALSE(other.store->find(other.driver->ns, object.key));
  EXPECT_EQ(other.driver->get(object).code(), StatusCode::kNotFound);
  EXPECT_EQ(other.driver->erase(object).code(), StatusCode::kNotFound);
}

TEST_F(SharedEraseTest, a_node_need_not_have_heard_of_it) {
  config_.shared_list_period = seconds(100);
  TestNode& one = node();
  TestNode& other = node();
  ASSERT_TRUE(other.driver->until([&] { return other.metrics().listings.get() >= 2; }));
  for (const bool here : {false, true}) {
    const TestObject object(here ? 2 : 1);
    ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
    if (here) {
      ASSERT_TRUE(other.driver->put(object, Durability::memory).ok());
    }
    EXPECT_TRUE(other.driver->erase(object).ok());
    EXPECT_EQ(files_in("objects"), 0u);
    EXPECT_EQ(other.driver->erase(object).code(), StatusCode::kNotFound);
  }
  const uint64_t erased = other.store->metrics().erases.get();
  EXPECT_EQ(other.driver->erase(TestObject(3)).code(), StatusCode::kNotFound);
  ASSERT_TRUE(other.driver->put(TestObject(4), Durability::memory).ok());
  EXPECT_TRUE(other.driver->erase(TestObject(4)).ok());
  EXPECT_EQ(other.store->metrics().erases.get(), erased + 1);
}

TEST_F(SharedEraseTest, a_put_that_is_being_published_is_told) {
  TestNode& one = node();
  for (const bool duplicate : {false, true}) {
    const TestObject object(duplicate ? 2 : 1);
    ChunkWriter writer;
    Waiting put;
    if (duplicate) {
      ASSERT_TRUE(one.driver->put(object, Durability::memory).ok());
      const PutSpec spec = one.driver->spec_of(object, Durability::shared);
      ASSERT_TRUE(one.store->open_writer(spec, &writer, &put).ok());
    } else {
      ASSERT_TRUE(commit(one, object, &writer, &put).ok());
    }
    EXPECT_TRUE(one.driver->erase(object).ok());
    EXPECT_EQ(one.driver->wait(&put).code(), StatusCode::kAborted);
    EXPECT_EQ(files_in("objects"), 0u);
    listed_anew(one);
    EXPECT_FALSE(one.store->find(one.driver->ns, object.key));
    EXPECT_TRUE(one.driver->put(object, Durability::shared).ok());
    EXPECT_TRUE(one.driver->erase(object).ok());
  }
  EXPECT_EQ(one.store->metrics().puts_failed_device.get(), 0u);
}

TEST_F(SharedEraseTest, a_publish_that_hung_takes_its_copy_away) {
  for (const bool late : {false, true}) {
    TestNode& one = node();
    const TestObject object(late ? 2 : 1);
    ASSERT_TRUE(one.driver->put(TestObject(9), Durability::shared).ok());  // its folders are made
    const size_t before = files_in("objects");
    one.faults->set_hang(true);
    ChunkWriter writer;
    Waiting put;
    ASSERT_TRUE(commit(one, object, &writer, &put).ok());
    Waiting erased;
    if (late) {
      EXPECT_FALSE(one.driver->wait(&put).ok());
    }
    ASSERT_TRUE(one.store->erase(one.driver->ns, object.key, &erased).ok());
    EXPECT_FALSE(one.driver->wait(&put).ok());
    EXPECT_EQ(one.driver->wait(&erased).code(), StatusCode::kUnavailable);  // nobody can know
    one.faults->set_hang(false);
    ASSERT_TRUE(one.driver->until(
        [&] { return one.metrics().fenced.get() == 0 && one.metrics().hanging.get() == 0; }));
    EXPECT_EQ(files_in("objects"), before);
    listed_anew(one);
    EXPECT_FALSE(one.store->find(one.driver->ns, object.key));
  }
}

TEST_F(SharedEraseTest, no_listing_brings_it_back_meanwhile) {
  config_.shared_timeout = seconds(20);
  TestNode& one = node();
  const TestObject object(1);
  const NamespaceId ns{1};
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  const auto hold = std::make_shared<testing::Hold>();
  config_.shared_directory = path_;
  const auto store = *ChunkStore::open(
      config_, loop_.get(), {}, nullptr,
      SharedDirectory::make(path_, std::make_unique<testing::HeldFiles>(hold), &clock_));
  store->name_namespace(ns, ChunkKey{{std::byte{1}}});
  testing::StoreDriver driver(store.get(), [this] {
    loop_->turn(milliseconds(1));
    return true;
  });
  ASSERT_TRUE(driver.until([&] { return store->find(ns, object.key).has_value(); }));
  hold->on = true;
  Waiting erased;
  ASSERT_TRUE(store->erase(ns, object.key, &erased).ok());
  const Counter& listings = store->metrics().shared.listings;
  const uint64_t before = listings.get();
  while (listings.get() < before + 3) {  // they see the file
    EXPECT_FALSE(store->find(ns, object.key));
    ChunkReader reader;
    Waiting opened;
    EXPECT_EQ(store->open_reader(ns, object.key, 1, &reader, &opened).code(),
              StatusCode::kNotFound);
    EXPECT_EQ(driver.put(object, Durability::shared).code(), StatusCode::kAborted);
    loop_->turn(milliseconds(1));
  }
  EXPECT_EQ(hold->waiting, 1);
  hold->on = false;
  EXPECT_TRUE(driver.wait(&erased).ok());
  EXPECT_FALSE(store->find(ns, object.key));
  EXPECT_TRUE(driver.put(object, Durability::shared).ok());
  EXPECT_TRUE(driver.close().ok());
}

TEST_F(SharedEraseTest, a_copy_that_another_node_took_away_is_published_again) {
  config_.shared_list_period = seconds(100);
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  ASSERT_TRUE(other.driver->erase(object).ok());
  ASSERT_EQ(files_in("objects"), 0u);
  EXPECT_EQ(one.driver->put(object, Durability::shared).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(files_in("objects"), 1u);
  EXPECT_EQ(one.metrics().publishes.get(), 2u);
  EXPECT_EQ(one.driver->put(object, Durability::shared).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(one.metrics().publishes.get(), 2u);
}

TEST_F(SharedEraseTest, an_erase_that_failed_says_so) {
  TestNode& one = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  one.faults->fail(0, EIO, true);
  EXPECT_EQ(one.driver->erase(object).code(), StatusCode::kUnavailable);
  one.faults->reset();
  EXPECT_EQ(files_in("objects"), 1u);
  ASSERT_TRUE(knows(one, object));
  EXPECT_TRUE(one.driver->erase(object).ok());
  EXPECT_EQ(files_in("objects"), 0u);
}

TEST_F(SharedEraseTest, a_full_set_has_nothing_demoted_twice) {
  TestNode& one = node();
  for (uint64_t n = 1001; n <= 1070; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n, {1000}), Durability::shared).ok());
  }
  config_.objects_max = 60;
  TestNode& full = node();
  ASSERT_TRUE(full.driver->until([&] { return full.store->tier_use(Tier::shared).objects >= 60; }));
  for (uint64_t n = 1; n <= 50; ++n) {
    ASSERT_TRUE(full.driver->put(TestObject(n, {300'000}), Durability::memory).ok()) << n;
  }
  ASSERT_TRUE(full.driver->until([&] { return full.metrics().demotions.get() >= 40; }));
  const Nanos until = clock_.now() + milliseconds(500);
  while (clock_.now() < until) loop_->turn(milliseconds(1));
  EXPECT_LE(full.metrics().publishes.get(), 50u);
  EXPECT_GT(full.metrics().listings_cut_short.get(), 0u);
}
TEST_F(SharedEraseTest, a_ttl_that_ends_here_leaves_what_another_node_put_without) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  PutSpec brief = other.driver->spec_of(object, Durability::memory);
  brief.retention.ttl = std::chrono::seconds(1);
  ASSERT_TRUE(other.driver->put(object, brief).ok());
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  listed_anew(other);
  ASSERT_TRUE(other.driver->until(
      [&] { return !other.store->explain(other.driver->ns, object.key).departures.empty(); }));
  listed_anew(other);
  EXPECT_EQ(files_in("objects"), 1u);
  EXPECT_EQ(files_in("trash"), 0u);
  EXPECT_TRUE(other.driver->get(object).ok());
}

TEST_F(SharedEraseTest, a_copy_whose_ttl_is_over_is_none_for_what_is_put_later) {
  TestNode& one = node();
  const TestObject object(1);
  PutSpec brief = one.driver->spec_of(object, Durability::shared);
  brief.retention.ttl = std::chrono::seconds(1);
  ASSERT_TRUE(one.driver->put(object, brief).ok());
  ASSERT_TRUE(one.driver->until(
      [&] { return !one.store->explain(one.driver->ns, object.key).departures.empty(); }));
  ASSERT_TRUE(one.driver->put(object, Durability::memory).ok());
  EXPECT_EQ(one.driver->put(object, Durability::shared).code(), StatusCode::kAlreadyExists);
  std::optional<Status> moved;
  one.store->move(one.driver->ns, object.key, Tier::shared,
                  [&](const Status& result) { moved = result; });
  ASSERT_TRUE(one.driver->until([&] { return moved.has_value(); }));
  EXPECT_TRUE(moved->ok());
  EXPECT_TRUE(one.driver->get(object).ok()) << "a copy without a ttl is there";
}

TEST_F(SharedEraseTest, an_erase_that_a_power_cut_could_undo_is_not_acknowledged) {
  struct NoSync final : FileCalls {
    int sync(int) override { return -EIO; }
  };
  const TestObject object(1);
  ASSERT_TRUE(node().driver->put(object, Durability::shared).ok());
  const std::shared_ptr<SharedMedium> medium =
      SharedDirectory::make(path_, std::make_unique<NoSync>(), &clock_);
  EXPECT_EQ(medium->settle("objects").code(), StatusCode::kUnavailable);
  config_.shared_directory = path_;
  const auto store = *ChunkStore::open(config_, loop_.get(), {}, nullptr, medium);
  store->name_namespace(NamespaceId{1}, ChunkKey{{std::byte{1}}});
  testing::StoreDriver driver(store.get(), [this] {
    loop_->turn(milliseconds(1));
    return true;
  });
  ASSERT_TRUE(driver.until([&] { return store->find(NamespaceId{1}, object.key).has_value(); }));
  EXPECT_EQ(driver.erase(object).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(driver.close().ok());
}

TEST_F(SharedEraseTest, where_nothing_is_mounted_nothing_is_erased) {
  TestNode& one = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  std::filesystem::rename(path_, path_ + ".away");
  EXPECT_EQ(one.driver->erase(object).code(), StatusCode::kUnavailable);
  std::filesystem::rename(path_ + ".away", path_);
  EXPECT_EQ(files_in("objects"), 1u);
  ASSERT_TRUE(knows(one, object));
  EXPECT_TRUE(one.driver->erase(object).ok());
  EXPECT_EQ(files_in("objects"), 0u);
}

TEST_F(SharedEraseTest, who_opens_a_copy_whose_ttl_is_over_removes_that_copy_only) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  PutSpec brief = one.driver->spec_of(object, Durability::shared);
  brief.retention.ttl = std::chrono::seconds(1);
  ASSERT_TRUE(one.driver->put(object, brief).ok());
  const std::string brief_one = file();
  add_generation();
  ASSERT_TRUE(knows(other, object));
  ASSERT_TRUE(one.driver->until(
      [&] { return !one.store->explain(one.driver->ns, object.key).departures.empty(); }));
  EXPECT_EQ(files_in("objects"), 2u) << "nobody opened it yet";
  EXPECT_EQ(other.driver->get(object).code(), StatusCode::kNotFound);
  ASSERT_TRUE(other.driver->until([&] { return files_in("trash") == 1; }));
  EXPECT_FALSE(std::filesystem::exists(brief_one));
  EXPECT_EQ(files_in("objects"), 1u);
}

TEST_F(SharedEraseTest, a_namespace_is_cleared_without_refusals) {
  TestNode& one = node();
  TestNode& other = node();
  constexpr uint64_t kObjects = 100;  // more than may wait for the tier at once
  for (uint64_t n = 1; n <= kObjects; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n, {4096}), Durability::shared).ok());
  }
  listed_anew(other);
  const auto scan = std::make_shared<ClearScan>();
  scan->ns = other.driver->ns;
  ASSERT_TRUE(other.driver->until([&] { return other.store->clear_step(scan.get()); }));
  EXPECT_EQ(scan->cleared, kObjects);
  EXPECT_EQ(scan->failed, 0u);
  EXPECT_EQ(files_in("objects"), 0u);
}

TEST_F(SharedEraseTest, what_is_loaded_becomes_young_behind_its_reader) {
  TestNode& one = node();
  TestNode& other = node();
  const TestObject object(1);
  ASSERT_TRUE(one.driver->put(object, Durability::shared).ok());
  using std::filesystem::last_write_time;
  const auto old = last_write_time(file()) - std::chrono::hours(1);
  last_write_time(file(), old);
  ASSERT_TRUE(knows(other, object));
  ASSERT_TRUE(other.driver->get(object).ok());
  EXPECT_TRUE(other.driver->until(
      [&] { return last_write_time(file()) > old + std::chrono::minutes(30); }));
  EXPECT_EQ(other.metrics().touch_failures.get(), 0u);
}
}  // namespace
}  // namespace terrace
