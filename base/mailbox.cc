#include "base/mailbox.h"

#include <sys/eventfd.h>

#include <string>

#include "base/check.h"

namespace terrace {

Mailbox::Mailbox(size_t tasks_max)
    : tasks_max_(tasks_max), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  TERRACE_CHECK(static_cast<bool>(event_));
}

Status Mailbox::post(Task task) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= tasks_max_) {
      return error(StatusCode::kResourceExhausted,
                   "mailbox full at " + std::to_string(tasks_max_) + " tasks");
    }
    first = tasks_.empty();
    tasks_.push_back(std::move(task));
  }
  if (first) wake();
  return ok_status();
}

void Mailbox::wake() {
  const uint64_t one = 1;
  // A full counter is readable already, which is all a wake means.
  [[maybe_unused]] const ssize_t n = ::write(event_.get(), &one, sizeof(one));
}

size_t Mailbox::run() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(event_.get(), &count, sizeof(count));
  {
    const std::lock_guard lock(mutex_);
    running_.swap(tasks_);
  }
  const size_t ran = running_.size();
  for (Task& task : running_) task();
  running_.clear();
  return ran;
}
}  // namespace terrace
