// client/worker.h - one thread that runs blocking tasks in order: the control plane's calls, so
// that neither the loop nor the engine waits for them. Thread-safe.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/status.h"

namespace terrace {

class Worker {
 public:
  static constexpr size_t kTasksMax = 256;
  Worker();
  ~Worker();
  /// kResourceExhausted with kTasksMax waiting, kCancelled after stop().
  Status post(Task task);
  /// Ends the thread once the tasks that wait have run; make them short first. Idempotent.
  void stop();
  /// From a task: waits `time`, or less when the worker stops; false then.
  bool pause(Nanos time);

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::once_flag joined_;
  std::thread thread_;
};
}  // namespace terrace
