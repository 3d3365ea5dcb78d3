#include "base/workers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <system_error>
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

void Workers::add(Task work, Ended ended) {
  ++unended_;
  bool alone = false;
  {
    const std::lock_guard lock(shared_->mutex);
    TERRACE_CHECK(shared_->loop != nullptr);
    shared_->waiting.push_back({std::move(work), std::move(ended)});
    alone = shared_->waiting.size() > shared_->free_threads;
  }
  if (alone && threads_.size() < threads_max_) {
    const Status started = start_thread();
    if (threads_.empty()) return refuse_waiting(started);
  }
  shared_->changed.notify_one();
}

Status Workers::start_thread() {
  try {
    threads_.emplace_back([shared = shared_, cpus = cpus_] { run(shared, cpus); });
    return ok_status();
  } catch (const std::system_error& refused) {
    return error(StatusCode::kResourceExhausted,
                 std::string("a thread beside the loop: ") + refused.what() +
                     "; raise the limit of tasks (ulimit -u, pids.max)");
  }
}

void Workers::refuse_waiting(const Status& why) {
  std::deque<Job> refused;
  {
    const std::lock_guard lock(shared_->mutex);
    refused.swap(shared_->waiting);
  }
  for (Job& job : refused) shared_->loop->defer(last_of(shared_, std::move(job.ended), why));
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

/// On the loop.
Task Workers::last_of(const std::shared_ptr<Shared>& shared, Ended ended, Status result) {
  return [shared, ended = std::move(ended), result = std::move(result)] {
    if (shared->owner == nullptr) return;
    --shared->owner->unended_;
    ended(result);
  };
}

/// The mailbox may be full for a moment; the loop waits for us before it goes.
void Workers::end(const std::shared_ptr<Shared>& shared, Ended ended) {
  const Task last = last_of(shared, std::move(ended), ok_status());
  std::unique_lock lock(shared->mutex);
  while (shared->loop != nullptr && !shared->loop->post(last).ok()) {
    shared->changed.wait_for(lock, kMailboxRetry, [] { return false; });
  }
}
}  // namespace terrace
