// Goal: uses that were learned outlive the store: after a clean end all of them, after a power cut
// those of the last period; a file that is damaged, of a later build or cannot be written costs
// only what it knew. Method: stores on simulated media live several lives beside a real directory
// for the file; the clock is the test's.
#include "storage/use_recorder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/handle.h"
#include "storage/explanation.h"
#include "storage/use_file.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::TestObject;

class UseRecorderTest : public ::testing::Test {
 protected:
  UseRecorderTest() : world_(3) {
    path_ = ::testing::TempDir() + "terrace_recorder_" + std::to_string(::getpid());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    world_.config.data_directory = path_;
    world_.config.uses_period = seconds(600);
  }
  ~UseRecorderTest() override { std::filesystem::remove_all(path_); }

  void start() { ASSERT_TRUE(world_.start().ok()); }
  void put(uint64_t n) {
    ASSERT_TRUE(world_.driver->put(TestObject(n), Durability::nvme).ok()) << n;
  }
  void use(uint64_t n) {
    world_.clock.advance(seconds(2));
    world_.store->touch(NamespaceId{1}, std::vector{TestObject(n).key});
  }
  /// Three objects: one used often, one used twice, one never after it came.
  void put_three() {
    for (uint64_t n = 1; n <= 3; ++n) put(n);
    for (int i = 0; i < 5; ++i) use(1);
    use(2);
  }
  Explanation explain(uint64_t n) {
    return world_.store->explain(NamespaceId{1}, TestObject(n).key);
  }
  void expect_uses(uint32_t one, uint32_t two, uint32_t three) {
    EXPECT_EQ(explain(1).policy.uses, one);
    EXPECT_EQ(explain(2).policy.uses, two);
    EXPECT_EQ(explain(3).policy.uses, three);
  }
  const StoreMetrics& metrics() { return world_.store->metrics(); }
  std::string file() const { return path_ + "/" + kUseFile; }
  /// A period passes, and its file is written.
  void let_it_be_written() {
    const uint64_t before = metrics().uses_writes.get();
    world_.clock.advance(world_.config.uses_period);
    ASSERT_TRUE(world_.driver->until([&] { return metrics().uses_writes.get() > before; }));
  }

  StoreWorld world_;
  std::string path_;
};

TEST_F(UseRecorderTest, a_clean_end_keeps_all_of_it) {
  start();
  put_three();
  expect_uses(6, 2, 1);
  world_.stop();
  start();
  EXPECT_EQ(metrics().uses_recalled.get(), 3u);
  expect_uses(6, 2, 1);
  EXPECT_GT(explain(3).since_use, seconds(10)) << "being found again is no use";
  use(2);
  world_.stop();
  start();
  expect_uses(6, 3, 1);
}

TEST_F(UseRecorderTest, a_power_cut_costs_what_was_learned_since_the_last_period) {
  start();
  put_three();
  let_it_be_written();
  for (int i = 0; i < 4; ++i) use(2);
  put(4);
  std::filesystem::copy_file(file(), path_ + "/then");
  world_.crash();
  std::filesystem::rename(path_ + "/then",
                          file());  // what ended in good order was the test's store
  start();
  expect_uses(6, 2, 1);
  EXPECT_EQ(explain(4).policy.uses, 1u) << "new to it";
  let_it_be_written();
}

TEST_F(UseRecorderTest, who_was_used_before_whom_is_known) {
  start();
  for (uint64_t n = 1; n <= 6; ++n) put(n);
  for (const uint64_t n : {3u, 1u, 5u, 2u, 6u, 4u}) use(n);
  world_.stop();
  start();
  std::vector<Nanos> since;
  for (const uint64_t n : {3u, 1u, 5u, 2u, 6u, 4u}) since.push_back(explain(n).since_use);
  EXPECT_TRUE(std::is_sorted(since.rbegin(), since.rend()));
}

TEST_F(UseRecorderTest, a_write_that_ended_half_way_leaves_the_one_before) {
  start();
  put_three();
  world_.stop();
  std::ofstream(file() + ".new") << "terrace uses ";
  start();
  expect_uses(6, 2, 1);
}

/// A pipe that nobody reads, where the file is written beside: opening it hangs as a disk may.
class HangingFile {
 public:
  explicit HangingFile(std::string path) : path_(std::move(path)) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  }
  /// The writer goes on, cannot sync a pipe, and takes it away.
  ~HangingFile() {
    const Fd reader(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    for (int i = 0; i < 10'000'000 && std::filesystem::exists(path_); ++i) {
      std::array<char, 4096> bytes;
      if (::read(reader.get(), bytes.data(), bytes.size()) <= 0) std::this_thread::yield();
    }
    EXPECT_FALSE(std::filesystem::exists(path_)) << "nobody wrote";
  }

 private:
  const std::string path_;
};

TEST_F(UseRecorderTest, a_disk_that_hangs_does_not_hold_up_the_end) {
  constexpr seconds kPatience{30};  // of the test's clock, which is fast
  start();
  put_three();
  world_.stop();
  for (const bool periodic : {false, true}) {
    const Nanos usual = std::exchange(world_.config.uses_patience, kPatience);
    start();
    use(2);
    {
      const HangingFile hangs(file() + ".new");
      if (periodic) {
        world_.clock.advance(world_.config.uses_period);
        for (int i = 0; i < 50; ++i) world_.turn();
      }
      const Nanos before = world_.clock.now();
      world_.stop();
      EXPECT_GE(world_.clock.now() - before, kPatience);
      EXPECT_LT(world_.clock.now() - before, 2 * kPatience);
      EXPECT_TRUE(read_uses(path_).ok()) << "it stayed whole";
    }
    world_.config.uses_patience = usual;
    start();
    expect_uses(6, 2, 1);
    world_.stop();
  }
}

TEST_F(UseRecorderTest, a_bad_file_is_counted_and_nothing_else) {
  start();
  put_three();
  world_.stop();
  std::ifstream in(file(), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  UseFile other = *decode_uses(good);
  other.memory.model.pop_back();
  std::string later = good;
  later[13] = 9;
  const std::string cut = good.substr(0, good.size() / 2);
  for (const std::string& bad : {cut, later, std::string(), encode_uses(other)}) {
    std::ofstream(file(), std::ios::binary | std::ios::trunc) << bad;
    world_.config.uses_period = seconds(600);
    start();
    EXPECT_EQ(metrics().uses_refused.get(), 1u) << bad.size();
    EXPECT_EQ(metrics().uses_recalled.get(), 0u);
    expect_uses(1, 1, 1);
    world_.stop();
  }
  start();
  EXPECT_EQ(metrics().uses_refused.get(), 0u) << "the last one wrote a good one";
}

TEST_F(UseRecorderTest, what_cannot_be_written_is_counted_and_ends_nothing) {
  start();
  put_three();
  std::filesystem::create_directory(file());
  world_.clock.advance(seconds(601));
  ASSERT_TRUE(world_.driver->until([&] { return metrics().uses_write_failures.get() > 0; }));
  EXPECT_TRUE(world_.driver->get(TestObject(1)).ok());
  std::filesystem::remove(file());
  let_it_be_written();
}

TEST_F(UseRecorderTest, a_wall_clock_that_was_set_back_takes_no_time) {
  start();
  put_three();
  world_.stop();
  UseFile file = *read_uses(path_);
  file.taken_s += 100'000;
  ASSERT_TRUE(write_uses(path_, file).ok());
  start();
  expect_uses(6, 2, 1);
  EXPECT_LT(explain(2).since_use, seconds(60));
}

TEST_F(UseRecorderTest, an_end_of_years_ago_or_in_the_future_is_no_trouble) {
  start();
  put_three();
  world_.stop();
  for (const int64_t taken_s : {int64_t{0}, int64_t{1} << 40}) {
    UseFile file = *read_uses(path_);
    file.taken_s = taken_s;
    ASSERT_TRUE(write_uses(path_, file).ok());
    start();
    expect_uses(6, 2, 1);
    EXPECT_GE(explain(1).since_use, Nanos(0));
    use(3);
    world_.stop();
    ASSERT_TRUE(write_uses(path_, file).ok());
  }
}

TEST_F(UseRecorderTest, switched_off_it_neither_writes_nor_reads) {
  start();
  put_three();
  world_.stop();
  world_.config.uses_period = seconds(0);
  start();
  expect_uses(1, 1, 1);
  const auto written = std::filesystem::last_write_time(file());
  world_.clock.advance(seconds(10'000));
  ASSERT_TRUE(world_.driver->get(TestObject(1)).ok());
  world_.stop();
  EXPECT_EQ(std::filesystem::last_write_time(file()), written);
  world_.config.uses_period = seconds(600);
  world_.config.policy = PolicyKind::lru;
  start();
  EXPECT_EQ(metrics().uses_refused.get(), 0u);
  world_.stop();
  EXPECT_EQ(std::filesystem::last_write_time(file()), written);
}

TEST_F(UseRecorderTest, without_a_data_directory_there_is_no_file) {
  world_.config.data_directory.clear();
  start();
  put_three();
  world_.stop();
  EXPECT_FALSE(std::filesystem::exists(file()));
}
}  // namespace
}  // namespace terrace
