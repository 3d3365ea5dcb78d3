// Goal: the loop runs I/O, timers, posts and cancels, each exactly once, on its own thread.
// Method: a socket pair, a manual order of turns, another thread that posts.
#include "base/loop.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>

#include "base/cpu.h"

namespace terrace {
namespace {

struct Result final : IoOp {
  void io_done(int32_t result) override {
    value = result;
    ++runs;
  }
  int32_t value = 0;
  int runs = 0;
};

class LoopTest : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = Loop::create({}, &clock);
    ASSERT_TRUE(loop.ok()) << loop.status().to_string();
    loop_ = *std::move(loop);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  }
  void TearDown() override {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  void turn_until(const std::function<bool()>& there) {
    for (int i = 0; i < 10'000 && !there(); ++i) loop_->turn(milliseconds(10));
    ASSERT_TRUE(there());
  }
  SystemClock clock;
  std::unique_ptr<Loop> loop_;
  int fds[2] = {-1, -1};
};

TEST_F(LoopTest, SendsAndReceives) {
  std::array<char, 8> in{};
  char out[] = "terrace";
  iovec to{out, 7};
  iovec into{in.data(), in.size()};
  msghdr sent{};
  sent.msg_iov = &to;
  sent.msg_iovlen = 1;
  msghdr received{};
  received.msg_iov = &into;
  received.msg_iovlen = 1;
  Result send;
  Result receive;
  loop_->receive(fds[1], &received, &receive);
  loop_->send(fds[0], &sent, &send);
  EXPECT_EQ(receive.runs, 0);  // never inside the call
  turn_until([&] { return send.runs == 1 && receive.runs == 1; });
  EXPECT_EQ(send.value, 7);
  EXPECT_EQ(receive.value, 7);
  EXPECT_STREQ(in.data(), "terrace");
}

TEST_F(LoopTest, CancelEndsAWaitingReceiveOnce) {
  std::array<char, 8> in{};
  iovec into{in.data(), in.size()};
  msghdr received{};
  received.msg_iov = &into;
  received.msg_iovlen = 1;
  Result receive;
  loop_->receive(fds[1], &received, &receive);
  loop_->turn(Nanos(0));
  loop_->cancel(&receive);
  turn_until([&] { return receive.runs == 1; });
  EXPECT_EQ(receive.value, -ECANCELED);
}

TEST_F(LoopTest, TimersFireInOrderAndCanBeMoved) {
  std::vector<int> fired;
  Timer a([&] { fired.push_back(1); });
  Timer b([&] { fired.push_back(2); });
  Timer c([&] { fired.push_back(3); });
  const Nanos now = loop_->now();
  loop_->arm(&a, now + milliseconds(30));
  loop_->arm(&b, now + milliseconds(10));
  loop_->arm(&c, now + milliseconds(20));
  loop_->arm(&a, now + milliseconds(1));  // moved to the front
  loop_->disarm(&c);
  turn_until([&] { return fired.size() == 2; });
  EXPECT_EQ(fired, (std::vector<int>{1, 2}));
  EXPECT_FALSE(c.armed());
}

TEST_F(LoopTest, PostsFromAnotherThreadWakeAWaitingLoop) {
  int ran = 0;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(loop_->post([&] { ++ran; }).ok());
    }
    ASSERT_TRUE(loop_->post([&] { loop_->stop(); }).ok());
  });
  loop_->run();
  other.join();
  EXPECT_EQ(ran, 100);
}

Nanos cpu_time_of_this_thread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return seconds(time.tv_sec) + Nanos(time.tv_nsec);
}

TEST_F(LoopTest, ALoopThatPollsRunsWhereItWasPutAndSleepsInTheEnd) {
  const std::vector<uint32_t> here = cpus_of_this_thread();
  constexpr Nanos kPoll = milliseconds(20);
  Nanos used{0};
  std::thread([&] {  // who runs a loop is who ends it
    const auto polling = *Loop::create({.cpus = {here.back()}, .poll_for = kPoll}, &clock);
    EXPECT_EQ(cpus_of_this_thread(), here) << "it is pinned when it runs";
    Timer end([&] { polling->stop(); });
    polling->arm(&end, clock.now() + 12 * kPoll);
    ASSERT_TRUE(polling
                    ->post([&] {
                      EXPECT_EQ(cpus_of_this_thread(), std::vector<uint32_t>{here.back()});
                      used = -cpu_time_of_this_thread();
                    })
                    .ok());
    polling->run();
    used += cpu_time_of_this_thread();
  })
      .join();
  EXPECT_LT(used, 4 * kPoll) << "it looks for work for ever";
  EXPECT_EQ(cpus_of_this_thread(), here);
}

TEST(LoopOptions, CpusThatAreNotThereAreRefused) {
  const SystemClock clock;
  EXPECT_EQ(Loop::create({.cpus = {kCpusMax - 1}}, &clock).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(LoopTest, AFullMailboxRefuses) {
  auto small = Loop::create({.ring_entries = 8, .mailbox_tasks_max = 2}, &clock);
  ASSERT_TRUE(small.ok());
  EXPECT_TRUE((*small)->post([] {}).ok());
  EXPECT_TRUE((*small)->post([] {}).ok());
  EXPECT_EQ((*small)->post([] {}).code(), StatusCode::kResourceExhausted);
}

TEST_F(LoopTest, DeferredRunsOnTheNextTurn) {
  struct Done final : Op {
    void done(Status status) override { result = std::move(status); }
    Status result;
  } op;
  loop_->defer(&op, StatusCode::kNotFound);
  EXPECT_TRUE(op.result.ok());
  loop_->turn(seconds(1));
  EXPECT_EQ(op.result.code(), StatusCode::kNotFound);
}
}  // namespace
}  // namespace terrace
