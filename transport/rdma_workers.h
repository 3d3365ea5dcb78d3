// transport/rdma_workers.h - a few threads for what takes a card long. The loop hands jobs in, any
// thread does them, and they end on the loop. Confined to the loop but for the threads' own part.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "base/loop.h"

namespace terrace {

class RdmaWorkers {
 public:
  /// Threads start when there is work for them, at most `threads_max`. They run where the thread
  /// that makes this may run, though the loop be pinned later.
  RdmaWorkers(Loop* loop, size_t threads_max);
  /// idle().
  ~RdmaWorkers();

  /// `work` runs on a thread, oldest first; then `ended` on the loop. Whoever adds
  /// bounds how many there are.
  void add(Task work, Task ended);
  /// Nothing waits, runs, or is about to end.
  bool idle() const { return unended_ == 0; }

 private:
  struct Job {
    Task work;
    Task ended;
  };
  void run();
  void end(Task ended);

  Loop* const loop_;
  const size_t threads_max_;
  const std::vector<uint32_t> cpus_;
  size_t unended_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> waiting_;  // guarded by mutex_
  size_t free_threads_ = 0;  // guarded by mutex_: those that wait for a job
  bool stopping_ = false;    // guarded by mutex_
  std::vector<std::thread> threads_;
};
}  // namespace terrace
