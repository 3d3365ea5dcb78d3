#include "client/worker.h"

#include <string>
#include <utility>

namespace terrace {

Worker::Worker() : thread_([this] { run(); }) {}

Worker::~Worker() {
  stop();
}

Status Worker::post(Task task) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return error(StatusCode::kCancelled, "client is closing");
  if (tasks_.size() >= kTasksMax) {
    return error(StatusCode::kResourceExhausted,
                 "control calls waiting: " + std::to_string(kTasksMax) + " at most");
  }
  tasks_.push_back(std::move(task));
  changed_.notify_all();
  return ok_status();
}

void Worker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  std::call_once(joined_, [this] { thread_.join(); });
}

bool Worker::pause(Nanos time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [this] { return stopping_; });
  return !stopping_;
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;  // stopping
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}
}  // namespace terrace
