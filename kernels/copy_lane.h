// kernels/copy_lane.h - copies of one direction: a thread that ends them one by one, in order.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/accelerator.h"

namespace terrace {

/// `Work` is a callable that blocks until a copy is over and says how it went.
class CopyLane {
 public:
  using Work = std::function<DeviceResult()>;
  CopyLane() : thread_([this] { run(); }) {}
  CopyLane(const CopyLane&) = delete;
  CopyLane& operator=(const CopyLane&) = delete;
  /// All that was added is done first.
  ~CopyLane() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  /// Thread-safe.
  void add(Work work, DeviceSlab::Ended ended) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back({std::move(work), std::move(ended)});
    }
    changed_.notify_one();
  }

 private:
  struct Job {
    Work work;
    DeviceSlab::Ended ended;
  };
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job.ended(job.work());
      job = {};
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // guarded by mutex_, as the next; whoever adds bounds them
  bool stopping_ = false;
  std::thread thread_;
};

/// Empty, or what is wrong with a piece: names it and the limit.
inline std::string outside_of(std::span<const DeviceSlab::Piece> pieces, uint64_t slab_bytes) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const DeviceSlab::Piece& piece = pieces[i];
    if (piece.bytes <= slab_bytes && piece.offset <= slab_bytes - piece.bytes) continue;
    return "piece " + std::to_string(i) + " of a copy, " + std::to_string(piece.bytes) +
           " bytes at " + std::to_string(piece.offset) + ", lies outside of a slab of " +
           std::to_string(slab_bytes) + " bytes";
  }
  return {};
}
}  // namespace terrace
