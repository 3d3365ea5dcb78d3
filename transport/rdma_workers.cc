#include "transport/rdma_workers.h"

#include <utility>

#include "base/check.h"
#include "base/cpu.h"

namespace terrace {
namespace {

constexpr Nanos kMailboxRetry = milliseconds(1);
}  // namespace

RdmaWorkers::RdmaWorkers(Loop* loop, size_t threads_max)
    : loop_(loop), threads_max_(threads_max), cpus_(cpus_of_this_thread()) {
  TERRACE_CHECK(threads_max > 0);
}

RdmaWorkers::~RdmaWorkers() {
  TERRACE_CHECK(idle());
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void RdmaWorkers::add(Task work, Task ended) {
  ++unended_;
  bool alone = false;
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(work), std::move(ended)});
    alone = waiting_.size() > free_threads_;
  }
  if (alone && threads_.size() < threads_max_) threads_.emplace_back([this] { run(); });
  changed_.notify_one();
}

void RdmaWorkers::run() {
  (void)pin_this_thread(cpus_);  // else it stays with the loop that started it
  std::unique_lock lock(mutex_);
  while (true) {
    ++free_threads_;
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    --free_threads_;
    if (waiting_.empty()) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;
    end(std::move(job.ended));
    lock.lock();
  }
}

/// The mailbox may be full for a moment; the loop waits for us before it goes.
void RdmaWorkers::end(Task ended) {
  const auto last = [this, ended = std::move(ended)] {
    --unended_;
    ended();
  };
  while (!loop_->post(last).ok()) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kMailboxRetry, [] { return false; });
  }
}
}  // namespace terrace
