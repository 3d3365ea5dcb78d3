// Goal: a client that gets no thread, or whose loop has no room for a task, says so and loses
// nothing. Method: a pthread_create that fails when told to; a loop that a signal handler holds.
#include <dirent.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <set>
#include <thread>

#include "client/client_fixture.h"

namespace {

std::atomic<int> g_threads_left{-1};  // negative: as many as the machine has
}  // namespace

// Instead of the C library's, which it calls.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(::dlsym(RTLD_NEXT, "pthread_create"));
  if (g_threads_left >= 0 && g_threads_left-- == 0) return EAGAIN;
  return real(thread, attributes, run, argument);
}

namespace terrace {
namespace {

sem_t g_held;
sem_t g_let_go;

void hold(int) {
  const int saved = errno;
  ::sem_post(&g_held);
  while (::sem_wait(&g_let_go) != 0) {
  }
  errno = saved;
}

std::set<pid_t> threads_of_this_process() {
  std::set<pid_t> threads;
  DIR* const tasks = ::opendir("/proc/self/task");
  while (const dirent* task = ::readdir(tasks)) {
    if (task->d_name[0] != '.') threads.insert(std::stoi(task->d_name));
  }
  ::closedir(tasks);
  return threads;
}

class ClientLimitsTest : public ClientFixture {};

TEST_F(ClientLimitsTest, AThreadThatTheMachineRefusesIsAReasonAndNoCrash) {
  client_.reset();
  for (int threads = 0; threads < 2; ++threads) {  // the worker's, then the loop's
    g_threads_left = threads;
    const auto refused = Client::open({}, FakeControl::channels({&control_, 1}));
    g_threads_left = -1;
    EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted) << threads;
  }
  open({});
}

TEST_F(ClientLimitsTest, ARegionThatTheFullLoopDidNotTakeBackIsStillTheClients) {
  client_.reset();
  const std::set<pid_t> before = threads_of_this_process();
  ClientConfig config;
  config.operations_max = 1;
  open(config);
  ASSERT_EQ(::sem_init(&g_held, 0, 0) + ::sem_init(&g_let_go, 0, 0), 0);
  ASSERT_NE(::signal(SIGUSR1, hold), SIG_ERR);
  uint32_t held = 0;
  for (const pid_t thread : threads_of_this_process()) {
    if (before.contains(thread)) continue;
    ASSERT_EQ(::syscall(SYS_tgkill, ::getpid(), thread, SIGUSR1), 0);
    ++held;
  }
  for (uint32_t i = 0; i < held; ++i) ASSERT_EQ(::sem_wait(&g_held), 0);
  // More than a mailbox takes; the loop takes none.
  for (int i = 0; i < 2000; ++i) client_->touch(ns_, std::vector{key_of(1)});
  EXPECT_EQ(client_->unregister_memory(region_).code(), StatusCode::kResourceExhausted);
  for (uint32_t i = 0; i < held; ++i) ::sem_post(&g_let_go);
  Status status = StatusCode::kResourceExhausted;
  while (status.code() == StatusCode::kResourceExhausted) {  // until there is room
    status = client_->unregister_memory(region_);
    std::this_thread::yield();
  }
  EXPECT_TRUE(status.ok()) << status.to_string();
}
}  // namespace
}  // namespace terrace
