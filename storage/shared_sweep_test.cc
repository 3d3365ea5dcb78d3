// Goal: a pass brings the directory below its capacity, oldest first, and touches nothing that is
// young, used again or another generation; what is left of dead publishers goes; a sweeper whose
// lease is lost removes nothing more. Method: real files, a grace of a fifth of a second.
#include "storage/shared_sweep.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/prng.h"
#include "storage/shared_directory.h"

namespace terrace {
namespace {

constexpr uint64_t kBytes = 100'000;
constexpr Nanos kGrace = milliseconds(200);

class SharedSweepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-sweep-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    medium_ = medium();
    options_.grace = kGrace;
    options_.lease = seconds(30);
    options_.bytes_max = 10 * kBytes;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  std::shared_ptr<SharedMedium> medium() {
    return SharedDirectory::make(path_, std::make_unique<FileCalls>(), &clock_);
  }
  void pass_time(Nanos time) {
    const Nanos until = clock_.now() + time;
    while (clock_.now() < until) std::this_thread::yield();
  }
  SharedName name(uint64_t n) const {
    SharedName out;
    Prng(n + 1).fill(out.key.digest);
    Prng(n % 2 + 100).fill(out.ns.digest);  // two namespaces
    out.generation = SharedGeneration::of(1'700'000'000, kBytes);
    return out;
  }
  void publish(uint64_t n) {
    std::string bytes(kBytes, 'x');
    const iovec piece{bytes.data(), bytes.size()};
    ASSERT_TRUE(medium_->publish(shared_path(name(n)), {&piece, 1}).ok());
  }
  bool there(uint64_t n) { return medium_->open(shared_path(name(n))).ok(); }
  SweepResult run() {
    const auto lease = claim_lease(medium_.get(), kSweeperLease, options_.lease);
    SharedSweep sweep(medium_, options_, *lease, &clock_);
    for (int steps = 0; !sweep.over() && steps < 10'000; ++steps) {
      const Status step = sweep.step();
      EXPECT_TRUE(step.ok()) << step.to_string();
    }
    release_lease(medium_.get(), *lease);
    return sweep.result();
  }
  size_t files_in(const std::string& folder) { return medium_->list(folder, 1000)->size(); }

  SystemClock clock_;
  std::string path_;
  std::shared_ptr<SharedMedium> medium_;
  SweepOptions options_;
};

TEST_F(SharedSweepTest, the_oldest_go_and_what_was_used_stays) {
  for (uint64_t n = 0; n < 20; ++n) {
    publish(n);
    pass_time(milliseconds(10));  // file systems count time in ticks
  }
  pass_time(kGrace);
  ASSERT_TRUE(medium_->touch(shared_path(name(0))).ok());  // used
  pass_time(kGrace + milliseconds(10));
  ASSERT_TRUE(
      medium_->touch(shared_path(name(1))).ok());  // used so short ago that nobody judges it
  const SweepResult result = run();
  EXPECT_EQ(result.objects, 20u);
  EXPECT_EQ(result.bytes, 20 * kBytes);
  EXPECT_EQ(result.swept_objects, 11u);  // below 95 % of ten
  for (uint64_t n = 0; n < 20; ++n) EXPECT_EQ(there(n), n < 2 || n >= 13) << n;
  EXPECT_EQ(files_in("trash"), 11u);
  EXPECT_EQ(run().trash_emptied, 0u);
  pass_time(kGrace + milliseconds(10));
  const SweepResult later = run();
  EXPECT_EQ(later.trash_emptied, 11u);
  EXPECT_EQ(later.swept_objects, 0u);
  EXPECT_EQ(files_in("trash"), 0u);
}

TEST_F(SharedSweepTest, what_is_young_stays_whatever_the_capacity) {
  options_.grace = seconds(30);
  for (uint64_t n = 0; n < 20; ++n) publish(n);
  EXPECT_EQ(run().swept_objects, 0u);
}

TEST_F(SharedSweepTest, only_the_generation_that_was_judged_goes) {
  options_.bytes_max = kBytes;
  publish(0);
  publish(2);
  pass_time(kGrace + milliseconds(10));
  SharedName again = name(0);
  again.generation = SharedGeneration::of(1'700'000'009, kBytes);
  std::string bytes(kBytes, 'y');
  const iovec piece{bytes.data(), bytes.size()};
  ASSERT_TRUE(medium_->publish(shared_path(again), {&piece, 1}).ok());
  EXPECT_EQ(run().swept_objects, 2u);
  EXPECT_FALSE(there(0));
  EXPECT_FALSE(there(2));
  EXPECT_TRUE(medium_->open(shared_path(again)).ok());
}

TEST_F(SharedSweepTest, a_sweeper_that_lost_its_lease_stops) {
  options_.bytes_max = 1;
  options_.lease = seconds(1);
  for (uint64_t n = 0; n < 200; ++n) publish(n);
  pass_time(kGrace + milliseconds(10));
  const auto lease = claim_lease(medium_.get(), kSweeperLease, options_.lease);
  SharedSweep sweep(medium_, options_, *lease, &clock_);
  while (sweep.result().swept_objects == 0) ASSERT_TRUE(sweep.step().ok());
  const uint64_t before = sweep.result().swept_objects;
  ASSERT_LT(before, 200u);
  pass_time(options_.lease + milliseconds(50));  // it is frozen
  const auto other = medium();
  ASSERT_TRUE(claim_lease(other.get(), kSweeperLease, options_.lease).ok());
  EXPECT_EQ(sweep.step().code(), StatusCode::kAborted);
  EXPECT_EQ(sweep.step().code(), StatusCode::kAborted);
  EXPECT_EQ(sweep.result().swept_objects, before);
  EXPECT_EQ(files_in("trash"), before);
}

TEST_F(SharedSweepTest, leftovers_of_the_dead_go) {
  ASSERT_TRUE(medium_->create("tmp/dead.1", "half").ok());
  ASSERT_TRUE(medium_->create("quarantine/q", "evidence").ok());
  pass_time(kGrace + milliseconds(10));
  ASSERT_TRUE(medium_->create("tmp/alive.1", "half").ok());
  options_.lease = milliseconds(50);
  ASSERT_TRUE(claim_lease(medium_.get(), "generate-x", options_.lease).ok());
  run();
  EXPECT_EQ(medium_->open("tmp/dead.1").status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(medium_->open("tmp/alive.1").ok());
  EXPECT_TRUE(medium_->open("quarantine/q").ok());
}
}  // namespace
}  // namespace terrace
