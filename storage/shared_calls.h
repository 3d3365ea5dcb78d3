// storage/shared_calls.h - blocking work on the shared medium, on a few threads: bounded, ordered,
// with deadlines, and what becomes of the tier when a file system hangs. Thread-confined.
//
// A thread cannot be taken out of a call that hangs. So a call that is late ends for its caller,
// keeps its thread and its memory until it really returns, and fences the tier: everything is
// refused at once, until a probe gets through. No more threads than there are can ever hang. Work
// that returns kDeadlineExceeded has found out by itself that nobody answers, and fences as well.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "base/workers.h"
#include "storage/shared_medium.h"
#include "storage/shared_metrics.h"

namespace terrace {

/// Loads and puts that a client waits for go before listing, demotion and sweeping.
enum class SharedLane : uint8_t { foreground = 0, background = 1 };

struct SharedCall {
  SharedLane lane = SharedLane::foreground;
  uint64_t bytes = 0;  // that it moves: it may take longer by kBytesPerSecondMin
  /// Runs on a thread. What it refers to is its own, or in `holds`.
  std::function<Status()> work;
  /// Owns what `work` touches. Let go of on the loop, when the thread is done with it, which after
  /// a deadline is later than `then`.
  std::vector<std::shared_ptr<void>> holds;
  /// Called once, on the loop, on a later turn: what `work` returned, or kDeadlineExceeded. Then
  /// `work` may still run, so nothing that it writes may be looked at.
  std::function<void(Status)> then;
};

class SharedCalls {
 public:
  static constexpr uint64_t kBytesPerSecondMin = uint64_t{16} << 20;
  static constexpr size_t kForegroundMax = 1024;  // that wait
  static constexpr size_t kBackgroundMax = 64;
  struct Options {
    uint32_t threads = 4;
    Nanos timeout = seconds(5);
    Nanos probe_period = seconds(1);
  };
  SharedCalls(std::shared_ptr<SharedMedium> medium, Loop* loop, const Options& options,
              SharedMetrics* metrics);
  ~SharedCalls();

  /// Refused: kUnavailable (fenced), kResourceExhausted (too many wait).
  Status start(SharedCall call);
  /// What was started still ends; a tier that is fenced stays so.
  void stop() { stopping_ = true; }
  bool fenced() const { return fenced_; }
  bool has_room(SharedLane lane) const;
  /// No `then` is to come, and nothing runs but what is late.
  bool idle() const { return open_ == 0; }
  /// Calls that are late and hold a thread and memory.
  size_t hanging() const { return hanging_; }

 private:
  struct Running;
  using List = std::list<std::shared_ptr<Running>>;
  void pump();
  void run(std::shared_ptr<Running> running);
  void returned(const std::shared_ptr<Running>& running);
  /// The caller's part is over.
  void end(Running* running, Status result);
  void expire();
  void fence();
  void probe();
  void arm();
  void update_gauges();

  const std::shared_ptr<SharedMedium> medium_;
  Loop* const loop_;
  const Options options_;
  SharedMetrics* const metrics_;
  std::deque<std::shared_ptr<Running>> waiting_[2];  // by SharedLane
  List running_;                                     // on a thread, late ones too
  uint32_t background_running_ = 0;
  size_t open_ = 0;  // whose `then` is to come
  size_t hanging_ = 0;
  bool fenced_ = false;
  bool probing_ = false;
  bool stopping_ = false;
  Nanos next_probe_{0};
  Timer expiry_;
  Workers workers_;
};
}  // namespace terrace
