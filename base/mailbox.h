// base/mailbox.h - the only way onto a loop's thread from another one. Bounded. Thread-safe.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

#include "base/handle.h"
#include "base/status.h"

namespace terrace {

using Task = std::function<void()>;

class Mailbox {
 public:
  explicit Mailbox(size_t tasks_max);
  /// From any thread. kResourceExhausted when full: the caller sheds load.
  Status post(Task task);
  /// Wakes the reader without a task.
  void wake();
  /// Reader's side: runs all tasks that are waiting; returns how many.
  size_t run();
  /// Readable whenever there may be tasks; the reader clears it with run().
  int event_fd() const { return event_.get(); }

 private:
  const size_t tasks_max_;
  Fd event_;
  std::mutex mutex_;
  std::vector<Task> tasks_;  // guarded by mutex_
  std::vector<Task> running_;
};
}  // namespace terrace
