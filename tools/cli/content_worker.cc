#include "tools/cli/content_worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "tools/cli/content.h"

namespace terrace {

ContentWorker::ContentWorker()
    : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { run(); }) {
  TERRACE_CHECK(static_cast<bool>(event_));
}

ContentWorker::~ContentWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void ContentWorker::post(const Job& job) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(job);
  }
  changed_.notify_one();
}

std::vector<ContentWorker::Job> ContentWorker::drain() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(event_.get(), &count, sizeof(count));
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void ContentWorker::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    Job job = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    if (job.work == Work::fill) {
      fill_content(job.seed, 0, job.bytes);
    } else {
      job.differences = count_differences(job.seed, 0, job.bytes);
    }
    lock.lock();
    done_.push_back(job);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(event_.get(), &one, sizeof(one));
  }
}
}  // namespace terrace
