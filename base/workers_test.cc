// Goal: jobs run beside the loop, each ends on it once, no more run at once than there are threads,
// and work that never returns can be left behind. Method: jobs that block on a gate of the test's.
#include "base/workers.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace terrace {
namespace {

/// Threads wait here until it opens. Shared, because a job that was given up outlives the test.
struct Barrier {
  void wait() {
    std::unique_lock lock(mutex);
    ++inside;
    changed.wait(lock, [this] { return open; });
    ++through;
    changed.notify_all();
  }
  void let_go() {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  std::atomic<int> inside{0};
  int through = 0;
};

class WorkersTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& settled) {
    const Nanos give_up = clock_.now() + seconds(10);
    while (!settled() && clock_.now() < give_up) loop_->turn(milliseconds(1));
    return settled();
  }
  SystemClock clock_;
  std::unique_ptr<Loop> loop_ = *Loop::create({.ring_entries = 8}, &clock_);
};

TEST_F(WorkersTest, every_job_ends_on_the_loop_and_few_run_at_once) {
  Workers workers(loop_.get(), 3);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  int ended = 0;
  for (int i = 0; i < 200; ++i) {
    workers.add(
        [&] {
          const int now = ++running;
          if (now > most.load()) most.store(now);
          --running;
        },
        [&](const Status& began) {
          EXPECT_TRUE(began.ok());
          ++ended;
        });
  }
  EXPECT_FALSE(workers.idle());
  ASSERT_TRUE(until([&] { return workers.idle(); }));
  EXPECT_EQ(ended, 200);
  EXPECT_LE(most.load(), 3);
}

TEST_F(WorkersTest, work_that_hangs_can_be_left_behind) {
  const auto barrier = std::make_shared<Barrier>();
  bool ended = false;
  {
    Workers workers(loop_.get(), 1);
    workers.add([barrier] { barrier->wait(); }, [&ended](const Status&) { ended = true; });
    workers.add([] { ADD_FAILURE() << "it had not begun"; },
                [&ended](const Status&) { ended = true; });
    ASSERT_TRUE(until([&] { return barrier->inside.load() == 1; }));
    workers.give_up();
  }
  barrier->let_go();
  {
    std::unique_lock lock(barrier->mutex);
    barrier->changed.wait(lock, [&] { return barrier->through == 1; });
  }
  for (int i = 0; i < 10; ++i) loop_->turn(milliseconds(1));
  EXPECT_FALSE(ended);
}

/// While it lives new threads ask for a stack that no address space has.
class NoThreads {
 public:
  NoThreads() {
    pthread_attr_t attributes;
    EXPECT_EQ(::pthread_getattr_default_np(&attributes), 0);
    EXPECT_EQ(::pthread_attr_getstacksize(&attributes, &usual_), 0);
    ::pthread_attr_destroy(&attributes);
    set(size_t{1} << 48);
  }
  ~NoThreads() { set(usual_); }

 private:
  static void set(size_t stack_bytes) {
    pthread_attr_t attributes;
    EXPECT_EQ(::pthread_attr_init(&attributes), 0);
    EXPECT_EQ(::pthread_attr_setstacksize(&attributes, stack_bytes), 0);
    EXPECT_EQ(::pthread_setattr_default_np(&attributes), 0);
    ::pthread_attr_destroy(&attributes);
  }
  size_t usual_ = 0;
};

TEST_F(WorkersTest, a_job_that_gets_no_thread_ends_with_the_reason_and_the_next_tries_again) {
  Workers workers(loop_.get(), 2);
  Status first;
  {
    const NoThreads refused;
    workers.add([] { ADD_FAILURE() << "on which thread?"; },
                [&](const Status& began) { first = began; });
    EXPECT_TRUE(first.ok()) << "not inside the call";
    ASSERT_TRUE(until([&] { return workers.idle(); }));
  }
  EXPECT_EQ(first.code(), StatusCode::kResourceExhausted) << first.to_string();
  Status second = StatusCode::kUnknown;
  workers.add([] {}, [&](const Status& began) { second = began; });
  ASSERT_TRUE(until([&] { return workers.idle(); }));
  EXPECT_TRUE(second.ok()) << second.to_string();
}

TEST_F(WorkersTest, threads_that_are_there_do_for_those_that_are_refused) {
  const auto barrier = std::make_shared<Barrier>();
  Workers workers(loop_.get(), 2);
  int ended = 0;
  const auto count = [&](const Status& began) {
    EXPECT_TRUE(began.ok()) << began.to_string();
    ++ended;
  };
  workers.add([barrier] { barrier->wait(); }, count);
  ASSERT_TRUE(until([&] { return barrier->inside.load() == 1; }));
  {
    const NoThreads refused;
    workers.add([] {}, count);
  }
  barrier->let_go();
  ASSERT_TRUE(until([&] { return workers.idle(); }));
  EXPECT_EQ(ended, 2);
}
}  // namespace
}  // namespace terrace
