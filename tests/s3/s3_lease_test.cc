// Goal: a lease on a bucket has one holder at a time, and tokens that only grow, though answers get
// lost and requests are refused. Method: several nodes claim, hold and release one lease, each
// through a proxy that damages answers from a seed. The canary gives each node a lease of its own,
// and must find two holders.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "storage/shared_lease.h"
#include "tests/s3/fault_proxy.h"
#include "tests/s3/s3_place.h"

namespace terrace {
namespace {

constexpr int kNodes = 4;
constexpr Nanos kTtl = seconds(4);

struct Seen {
  std::atomic<int> holders{0};
  std::atomic<int> most{0};
  std::mutex mutex;
  std::vector<uint64_t> tokens;  // in the order in which they were held
  void hold(uint64_t token, const Clock& clock) {
    const int now = ++holders;
    if (now > most) most = now;
    {
      const std::lock_guard lock(mutex);
      tokens.push_back(token);
    }
    const Nanos until = clock.now() + milliseconds(30);
    while (clock.now() < until) std::this_thread::sleep_for(milliseconds(5));
    --holders;
  }
};

class S3Lease : public testing::Test {
 protected:
  void SetUp() override {
    server_ = s3_server();
    if (!server_) GTEST_SKIP() << "no S3 server here (tools/setup --s3)";
  }
  /// One node's part, until `end`.
  void take_turns(uint64_t seed, const std::string& prefix, bool looks, Nanos end, Seen* seen) {
    auto chance = std::make_shared<Prng>(seed);
    FaultProxy proxy(server_->host, [](const std::string&) { return Fault::none; });
    S3Options options = s3_options(*server_, prefix, proxy.url());
    options.timeout = seconds(3);
    const auto medium = *open_s3_medium(options, &clock_);
    ASSERT_EQ(medium->check(), ok_status());
    proxy.choose([chance](const std::string&) {
      const Fault faults[] = {Fault::lost, Fault::reset, Fault::slow_down, Fault::cut};
      return chance->chance(85) ? Fault::none : faults[chance->below(std::size(faults))];
    });
    while (clock_.now() < end) {
      const std::string name = looks ? "l" : "l" + std::to_string(seed);
      const auto lease = claim_lease(medium.get(), name, kTtl);
      if (!lease.ok()) continue;
      seen->hold(lease->token, clock_);
      release_lease(medium.get(), *lease);
    }
  }
  void run(bool looks, Seen* seen) {
    const std::string prefix = s3_fresh_prefix();
    const Nanos end = clock_.now() + (looks ? seconds(15) : seconds(3));
    std::vector<std::thread> threads;
    for (uint64_t node = 1; node <= kNodes; ++node) {
      threads.emplace_back([=, this] { take_turns(node, prefix, looks, end, seen); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  SystemClock clock_;
  std::optional<S3Server> server_;
};

TEST_F(S3Lease, one_holder_at_a_time) {
  Seen seen;
  run(true, &seen);
  EXPECT_EQ(seen.most, 1);
  EXPECT_GT(seen.tokens.size(), 5u);
  for (size_t i = 1; i < seen.tokens.size(); ++i) EXPECT_GT(seen.tokens[i], seen.tokens[i - 1]);
}

TEST_F(S3Lease, the_canary_finds_two_holders) {
  Seen seen;
  run(false, &seen);
  EXPECT_GT(seen.most, 1);
}
}  // namespace
}  // namespace terrace
