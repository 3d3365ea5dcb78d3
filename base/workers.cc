#include "base/workers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/cpu.h"

namespace terrace {
namespace {

constexpr Nanos kMailboxRetry = milliseconds(1);
}  // namespace

struct Workers::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Job> waiting;  // guarded by mutex, as everything here
  size_t free_threads = 0;  // those that wait for a job
  bool stopping = false;
  Loop* loop = nullptr;      // null once given up
  Workers* owner = nullptr;  // the same; used on the loop only
};

Workers::Workers(Loop* loop, size_t threads_max)
    : threads_max_(threads_max), cpus_(cpus_of_this_thread()), shared_(std::make_shared<Shared>()) {
  TERRACE_CHECK(threads_max > 0);
  shared_->loop = loop;
  shared_->owner = this;
}

Workers::~Workers() {
  TERRACE_CHECK(idle());
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->changed.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::add(Task work, Task ended) {
  ++unended_;
  bool alone = false;
  {
    const std::lock_guard lock(shared_->mutex);
    TERRACE_CHECK(shared_->loop != nullptr);
    shared_->waiting.push_back({std::move(work), std::move(ended)});
    alone = shared_->waiting.size() > shared_->free_threads;
  }
  if (alone && threads_.size() < threads_max_) {
    threads_.emplace_back([shared = shared_, cpus = cpus_] { run(shared, cpus); });
  }
  shared_->changed.notify_one();
}

void Workers::give_up() {
  std::deque<Job> dropped;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
    shared_->loop = nullptr;
    shared_->owner = nullptr;
    dropped.swap(shared_->waiting);
  }
  shared_->changed.notify_all();
  for (std::thread& thread : threads_) thread.detach();
  threads_.clear();
  unended_ = 0;
}

void Workers::run(const std::shared_ptr<Shared>& shared, const std::vector<uint32_t>& cpus) {
  (void)pin_this_thread(cpus);  // else it stays with the loop that started it
  std::unique_lock lock(shared->mutex);
  while (true) {
    ++shared->free_threads;
    shared->changed.wait(lock, [&] { return shared->stopping || !shared->waiting.empty(); });
    --shared->free_threads;
    if (shared->waiting.empty()) return;
    Job job = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;
    end(shared, std::move(job.ended));
    lock.lock();
  }
}

/// The mailbox may be full for a moment; the loop waits for us before it goes.
void Workers::end(const std::shared_ptr<Shared>& shared, Task ended) {
  const Task last = [shared, ended = std::move(ended)] {
    if (shared->owner == nullptr) return;
    --shared->owner->unended_;
    ended();
  };
  std::unique_lock lock(shared->mutex);
  while (shared->loop != nullptr && !shared->loop->post(last).ok()) {
    shared->changed.wait_for(lock, kMailboxRetry, [] { return false; });
  }
}
}  // namespace terrace
