// Goal: a pass over the shared tier sets aside what is damaged, for all nodes, no faster than it
// was told; it ends when it is cancelled, when the file system hangs and when the store closes, and
// leaves no file open. Method: stores over a real directory whose calls fail and hang on request.
#include "storage/shared_verifier.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "storage/explanation.h"
#include "tests/sim/shared_nodes.h"

namespace terrace {
namespace {
namespace fs = std::filesystem;
using testing::TestNode;
using testing::TestObject;
using testing::Waiting;

class SharedVerifierTest : public testing::SharedNodesTest {
 protected:
  static std::shared_ptr<VerifyPass> pass(uint32_t mib_per_s = 1000) {
    const auto out = std::make_shared<VerifyPass>();
    out->tier = Tier::shared;
    out->mib_per_s = mib_per_s;
    return out;
  }
  std::shared_ptr<VerifyPass> verify(TestNode& node) {
    const auto out = pass();
    EXPECT_TRUE(node.store->verify(out).ok());
    EXPECT_TRUE(node.driver->until([&] { return out->over; }));
    return out;
  }
  /// The published file of an object.
  std::string file_of(const TestObject& object) const {
    for (const auto& each : fs::recursive_directory_iterator(path_ + "/objects")) {
      if (each.path().filename().string().starts_with(object.key.hex())) return each.path();
    }
    return "";
  }
  void flip(const TestObject& object) const {
    std::fstream open(file_of(object), std::ios::in | std::ios::out | std::ios::binary);
    open.seekp(20'000);
    open.put('\x5a').put('\xa5').put('\x5a');
    open.close();  // and long ago
    fs::last_write_time(file_of(object), fs::file_time_type::clock::now() - kOld);
  }
  static constexpr std::chrono::hours kOld{200};
  /// How many published files this process has open.
  size_t open_files() const {
    size_t count = 0;
    for (const auto& each : fs::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string to = fs::read_symlink(each.path(), gone).string();
      count += !gone && to.starts_with(path_ + "/objects/") && to.find('.') != std::string::npos;
    }
    return count;
  }
};

TEST_F(SharedVerifierTest, what_is_damaged_is_set_aside_for_everybody) {
  TestNode& one = node();
  TestNode& second_tenant = node();
  second_tenant.driver->ns = NamespaceId{2};
  TestNode& other = node();
  for (uint64_t n = 1; n <= 12; ++n) {
    TestNode& writer = n % 2 == 0 ? one : second_tenant;
    ASSERT_TRUE(writer.driver->put(TestObject(n, {200'000}), Durability::shared).ok());
  }
  ASSERT_TRUE(knows(other, TestObject(4, {200'000})));
  for (const uint64_t n : {4u, 5u}) flip(TestObject(n, {200'000}));
  std::ofstream(path_ + "/objects/README") << "not ours";
  const auto first = verify(other);
  EXPECT_TRUE(first->result.ok()) << first->result.to_string();
  EXPECT_EQ(first->objects, 12u);
  EXPECT_EQ(first->bad, 2u);
  EXPECT_EQ(first->skipped, 1u);
  EXPECT_GE(first->bytes, 12u * 200'000 - 2 * 200'000);
  EXPECT_EQ(files_in("quarantine"), 2u);
  for (const auto& each : fs::directory_iterator(path_ + "/quarantine")) {
    EXPECT_GT(fs::last_write_time(each.path()), fs::file_time_type::clock::now() - kOld / 2)
        << "it is kept from now on";
  }
  EXPECT_EQ(other.metrics().quarantined.get(), 2u);
  EXPECT_EQ(other.driver->get(TestObject(4, {200'000})).code(), StatusCode::kNotFound);
  EXPECT_EQ(
      other.store->explain(other.driver->ns, TestObject(4, {200'000}).key).departures.at(0).reason,
      DepartReason::quarantined);
  ASSERT_TRUE(knows(other, TestObject(6, {200'000})));
  EXPECT_TRUE(other.driver->get(TestObject(6, {200'000})).ok());
  const auto second = verify(one);
  EXPECT_EQ(second->objects, 10u);
  EXPECT_EQ(second->bad, 0u);
}

TEST_F(SharedVerifierTest, a_namespace_that_the_node_does_not_know_is_checked_too) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {200'000}), Durability::shared).ok());
  ASSERT_TRUE(one.driver->put(TestObject(2, {200'000}), Durability::shared).ok());
  flip(TestObject(1, {200'000}));
  nodes_.push_back(std::make_unique<TestNode>(path_, loop_.get(), &clock_, config_,
                                              std::vector<NamespaceDigest>()));
  const auto done = verify(*nodes_.back());
  EXPECT_EQ(done->expected, 0u);
  EXPECT_EQ(done->objects, 2u);
  EXPECT_EQ(done->bad, 1u);
  EXPECT_EQ(files_in("quarantine"), 1u);
}

TEST_F(SharedVerifierTest, one_pass_at_a_time_of_any_tier) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {3 * kMiB}), Durability::shared).ok());
  const auto first = pass(1);
  ASSERT_TRUE(one.store->verify(first).ok());
  const auto second = pass();
  EXPECT_EQ(one.store->verify(second).code(), StatusCode::kResourceExhausted);
  second->tier = Tier::dram;
  EXPECT_EQ(one.store->verify(second).code(), StatusCode::kResourceExhausted);
  first->cancelled = true;
  ASSERT_TRUE(one.driver->until([&] { return first->over; }));
  EXPECT_EQ(first->result.code(), StatusCode::kCancelled);
  ASSERT_TRUE(one.store->verify(second).ok());
  EXPECT_EQ(one.store->verify(pass()).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(one.driver->until([&] { return second->over; }));
  EXPECT_EQ(verify(one)->objects, 1u);
}

TEST_F(SharedVerifierTest, it_is_no_faster_than_it_was_told) {
  TestNode& one = node();
  for (uint64_t n = 1; n <= 6; ++n) {
    ASSERT_TRUE(one.driver->put(TestObject(n, {kMiB}), Durability::shared).ok());
  }
  const auto done = pass(8);
  const Nanos begin = clock_.now();
  ASSERT_TRUE(one.store->verify(done).ok());
  ASSERT_TRUE(one.driver->until([&] { return done->over; }));
  const double took = std::chrono::duration<double>(clock_.now() - begin).count();
  EXPECT_EQ(done->objects, 6u);
  const double before_the_last = static_cast<double>(done->bytes) - 4.2 * kMiB;
  EXPECT_GE(took, before_the_last / (8.0 * kMiB));
}

TEST_F(SharedVerifierTest, one_that_is_cancelled_ends_and_closes_its_file) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {5 * kMiB}), Durability::shared).ok());
  const auto done = pass(1);
  ASSERT_TRUE(one.store->verify(done).ok());
  ASSERT_TRUE(one.driver->until([&] { return done->bytes > 0; }));
  EXPECT_EQ(open_files(), 1u);
  done->cancelled = true;
  ASSERT_TRUE(one.driver->until([&] { return done->over; }));
  EXPECT_EQ(done->result.code(), StatusCode::kCancelled);
  EXPECT_EQ(done->objects, 0u);
  EXPECT_TRUE(one.driver->until([&] { return open_files() == 0; }));
}

TEST_F(SharedVerifierTest, a_copy_that_cannot_be_moved_is_said) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {200'000}), Durability::shared).ok());
  ASSERT_TRUE(one.driver->put(TestObject(2, {200'000}), Durability::shared).ok());
  flip(TestObject(1, {200'000}));
  std::ofstream(path_ + "/quarantine") << "a file where the folder would be";
  const auto done = verify(one);
  EXPECT_EQ(done->bad, 1u);
  EXPECT_EQ(done->objects, 2u) << "the others are checked all the same";
  EXPECT_FALSE(done->result.ok());
  EXPECT_NE(done->result.message().find("1 damaged copies could not be moved"), std::string::npos)
      << done->result.to_string();
  EXPECT_EQ(one.metrics().quarantine_failures.get(), 3u);
  fs::remove(path_ + "/quarantine");
  const auto again = verify(one);
  EXPECT_EQ(again->bad, 1u);
  EXPECT_TRUE(again->result.ok());
  EXPECT_EQ(files_in("quarantine"), 1u);
}

TEST_F(SharedVerifierTest, a_medium_that_fails_is_no_damage) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {200'000}), Durability::shared).ok());
  one.faults->fail(0, EIO, true);
  const auto done = verify(one);
  EXPECT_EQ(done->result.code(), StatusCode::kUnavailable);
  EXPECT_EQ(done->bad, 0u);
  one.faults->reset();
  EXPECT_EQ(verify(one)->objects, 1u);
  EXPECT_EQ(files_in("quarantine"), 0u);
}

TEST_F(SharedVerifierTest, a_file_system_that_hangs_ends_the_pass) {
  ASSERT_TRUE(node().driver->put(TestObject(1, {6 * kMiB}), Durability::shared).ok());
  config_.shared_timeout = milliseconds(400);
  TestNode& one = node();
  for (const bool in_between : {false, true}) {
    // In between two steps the tier is fenced by somebody else, with the pass's file open.
    const auto done = pass(in_between ? 1 : 100);
    ASSERT_TRUE(one.driver->until([&] { return one.store->verify(done).ok(); }));
    ASSERT_TRUE(one.driver->until([&] { return done->bytes > 0 || done->over; }));
    one.faults->set_hang(true);
    if (in_between) {
      ASSERT_TRUE(one.driver->until([&] { return one.metrics().fenced.get() == 1; }));
      done->cancelled = true;
    }
    ASSERT_TRUE(one.driver->until([&] { return done->over; }));
    EXPECT_EQ(done->bad, 0u);
    EXPECT_TRUE(!done->result.ok() || done->objects == 1);
    ASSERT_TRUE(one.driver->until([&] { return one.metrics().fenced.get() == 1; }));
    EXPECT_EQ(one.store->verify(pass()).code(), StatusCode::kUnavailable);
    one.faults->set_hang(false);
    EXPECT_TRUE(one.driver->until([&] { return open_files() == 0; }));
  }
  ASSERT_TRUE(one.driver->until([&] { return one.metrics().fenced.get() == 0; }));
  EXPECT_EQ(files_in("quarantine"), 0u);
}

TEST_F(SharedVerifierTest, a_store_closes_while_a_pass_runs) {
  TestNode& one = node();
  ASSERT_TRUE(one.driver->put(TestObject(1, {6 * kMiB}), Durability::shared).ok());
  for (const bool hangs : {false, true}) {
    TestNode& other = node();
    const auto faults = other.faults;
    const auto done = pass(hangs ? 1000 : 1);
    ASSERT_TRUE(other.store->verify(done).ok());
    ASSERT_TRUE(other.driver->until([&] { return done->bytes > 0; }));
    if (hangs) {
      faults->set_hang(true);
      ASSERT_TRUE(other.driver->until([&] { return faults->now_hanging() > 0; }));
    }
    EXPECT_TRUE(other.driver->close().ok());
    EXPECT_TRUE(done->over);
    EXPECT_TRUE(!done->result.ok() || done->objects == 1);
    other.driver.reset();
    other.store.reset();
    nodes_.pop_back();
    faults->set_hang(false);  // a thread comes back to a store that is gone
    const Nanos until = clock_.now() + seconds(10);
    while ((faults->now_hanging() > 0 || open_files() > 0) && clock_.now() < until) {
      loop_->turn(milliseconds(1));
    }
    EXPECT_EQ(open_files(), 0u);
  }
  EXPECT_EQ(files_in("quarantine"), 0u);
}
}  // namespace
}  // namespace terrace
