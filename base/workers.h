// base/workers.h - a few threads for what blocks. The loop hands jobs in, any thread does them, and
// they end on the loop. Confined to the loop but for the threads' own part.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/loop.h"
#include "base/status.h"

namespace terrace {

class Workers {
 public:
  /// Threads start when there is work for them, at most `threads_max`. They run where the thread
  /// that makes this may run, though the loop be pinned later.
  Workers(Loop* loop, size_t threads_max);
  /// idle(), or given up.
  ~Workers();

  /// OK: the work was done. kResourceExhausted: it never began, because the machine gave no thread;
  /// the next job tries again.
  using Ended = std::function<void(const Status&)>;
  /// `work` runs on a thread, oldest first; then `ended` on the loop. Whoever adds
  /// bounds how many there are. The threads that there are do for those that the machine refuses.
  void add(Task work, Ended ended);
  /// Nothing waits, runs, or is about to end.
  bool idle() const { return unended_ == 0; }
  /// For work that may never return: nobody waits for it any more. What did not begin never does,
  /// no `ended` runs from here on, and a thread that comes back later ends. What its job refers to
  /// must outlive it, so keep it for ever. Nothing may be added afterwards.
  void give_up();

 private:
  struct Job {
    Task work;
    Ended ended;
  };
  struct Shared;
  static void run(const std::shared_ptr<Shared>& shared, const std::vector<uint32_t>& cpus);
  static Task last_of(const std::shared_ptr<Shared>& shared, Ended ended, Status result);
  static void end(const std::shared_ptr<Shared>& shared, Ended ended);
  /// One more, if the machine has it. kResourceExhausted.
  Status start_thread();
  /// Of no thread at all.
  void refuse_waiting(const Status& why);

  const size_t threads_max_;
  const std::vector<uint32_t> cpus_;
  size_t unended_ = 0;
  const std::shared_ptr<Shared> shared_;  // with the threads, one of which may outlive this
  std::vector<std::thread> threads_;
};
}  // namespace terrace
