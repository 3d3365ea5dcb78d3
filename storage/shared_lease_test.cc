// Goal: at most one of all nodes gets a lease, tokens only grow, a holder that dies loses it after
// its time and not before, and a holder that lost it is told. Method: many threads over media of
// their own on one directory, with leases of half a second.
#include "storage/shared_lease.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "base/identity.h"
#include "storage/shared_directory.h"
#include "storage/shared_names.h"

namespace terrace {
namespace {

constexpr Nanos kTtl = milliseconds(600);

class SharedLeaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-lease-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  std::shared_ptr<SharedMedium> medium() {
    return SharedDirectory::make(path_, std::make_unique<FileCalls>(), &clock_);
  }
  void pass(Nanos time) {
    const Nanos until = clock_.now() + time;
    while (clock_.now() < until) std::this_thread::yield();
  }
  SystemClock clock_;
  std::string path_;
};

TEST_F(SharedLeaseTest, one_has_it_until_it_lets_go) {
  const auto one = medium();
  const auto other = medium();
  const auto lease = claim_lease(one.get(), "work", seconds(30));
  ASSERT_TRUE(lease.ok()) << lease.status().to_string();
  EXPECT_EQ(claim_lease(other.get(), "work", kTtl).status().code(), StatusCode::kAborted);
  EXPECT_TRUE(claim_lease(other.get(), "works", kTtl).ok());  // another name
  EXPECT_TRUE(renew_lease(one.get(), *lease).ok());
  release_lease(one.get(), *lease);
  const auto next = claim_lease(other.get(), "work", seconds(30));
  ASSERT_TRUE(next.ok()) << next.status().to_string();
  EXPECT_GT(next->token, lease->token);
  EXPECT_EQ(renew_lease(one.get(), *lease).code(), StatusCode::kAborted);
  release_lease(one.get(), *lease);  // not its own any more
  EXPECT_EQ(claim_lease(one.get(), "work", kTtl).status().code(), StatusCode::kAborted);
}

TEST_F(SharedLeaseTest, who_does_not_renew_loses_it) {
  const auto one = medium();
  const auto other = medium();
  const auto lease = claim_lease(one.get(), "work", kTtl);
  ASSERT_TRUE(lease.ok());
  for (int i = 0; i < 6; ++i) {  // three times its life
    pass(kTtl / 2);
    EXPECT_TRUE(renew_lease(one.get(), *lease).ok());
    EXPECT_EQ(claim_lease(other.get(), "work", kTtl).status().code(), StatusCode::kAborted);
  }
  pass(kTtl + milliseconds(50));
  const auto next = claim_lease(other.get(), "work", kTtl);
  ASSERT_TRUE(next.ok()) << next.status().to_string();
  EXPECT_EQ(next->token, lease->token + 1);
  EXPECT_EQ(renew_lease(one.get(), *lease).code(), StatusCode::kAborted);
}

TEST_F(SharedLeaseTest, of_many_who_want_it_one_has_it_and_tokens_grow) {
  std::atomic<int> holding{0};
  std::atomic<int> most{0};
  std::mutex mutex;
  std::set<uint64_t> tokens;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      const auto mine = medium();
      for (int n = 0; n < 60; ++n) {
        const auto lease = claim_lease(mine.get(), "work", seconds(30));
        if (!lease.ok()) {
          EXPECT_EQ(lease.status().code(), StatusCode::kAborted) << lease.status().to_string();
          continue;
        }
        const int now = ++holding;
        if (now > most.load()) most.store(now);
        {
          const std::lock_guard lock(mutex);
          EXPECT_TRUE(tokens.insert(lease->token).second) << "token " << lease->token << " twice";
        }
        --holding;
        release_lease(mine.get(), *lease);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most.load(), 1);
  EXPECT_GT(tokens.size(), 5u);
}

TEST_F(SharedLeaseTest, a_holder_that_died_before_it_wrote_is_waited_for) {
  const auto one = medium();
  const std::string folder = shared_lease_folder(shared_folder_of(sha256("work")));
  ASSERT_TRUE(one->create(folder + "/work." + shared_token(7), "").ok());
  EXPECT_EQ(claim_lease(one.get(), "work", kTtl).status().code(), StatusCode::kAborted);
  pass(milliseconds(2100));
  const auto next = claim_lease(one.get(), "work", kTtl);
  ASSERT_TRUE(next.ok()) << next.status().to_string();
  EXPECT_EQ(next->token, 8u);
}

TEST_F(SharedLeaseTest, old_ones_are_forgotten) {
  const auto one = medium();
  const auto lease = claim_lease(one.get(), "work", kTtl);
  ASSERT_TRUE(lease.ok());
  const uint32_t folder = shared_folder_of(sha256("work"));
  EXPECT_EQ(*forget_leases(one.get(), folder, seconds(30), [] { return true; }), 0u);
  pass(kTtl);
  EXPECT_EQ(*forget_leases(one.get(), folder, kTtl, [] { return true; }), 1u);
  EXPECT_EQ(renew_lease(one.get(), *lease).code(), StatusCode::kAborted);
}
}  // namespace
}  // namespace terrace
