// tools/cli/content_worker.h - fills memory with known content, and checks it, on a thread of its
// own, so that whoever drives a node is never late because it was busy with bytes.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/handle.h"

namespace terrace {

class ContentWorker {
 public:
  enum class Work : uint8_t { fill, check };
  struct Job {
    Work work = Work::fill;
    uint64_t seed = 0;           // content_seed()
    std::span<std::byte> bytes;  // borrowed until the job is drained
    uint64_t token = 0;          // comes back with the job
    uint64_t differences = 0;    // of a check: bytes that are not what they should be
  };
  ContentWorker();
  /// What was not done is dropped.
  ~ContentWorker();

  /// From one thread. The caller's memory bounds how many jobs there are.
  void post(const Job& job);
  /// Takes the jobs that are done.
  std::vector<Job> drain();
  /// Readable while jobs that are done wait; drain() clears it.
  int event_fd() const { return event_.get(); }

 private:
  void run();
  Fd event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> waiting_;  // guarded by mutex_
  std::vector<Job> done_;    // guarded by mutex_
  bool stop_ = false;        // guarded by mutex_
  std::thread thread_;
};
}  // namespace terrace
