// server/node/scan_turns.h - one line for all that looks through the index. Loop thread only.
//
// A scan is many bounded steps. How many scans run is up to clients, so one step of one scan runs
// per turn of the loop, and what else the turn is for waits for no more than that. Whoever comes
// back for the next step is last in line.
#pragma once
#include <deque>
#include <memory>

#include "base/loop.h"

namespace terrace {

class ScanTurns {
 public:
  explicit ScanTurns(Loop* loop) : loop_(loop), line_(std::make_shared<Line>()) {}
  /// Steps that still wait never run.
  ~ScanTurns() { line_->waiting.clear(); }
  ScanTurns(const ScanTurns&) = delete;
  ScanTurns& operator=(const ScanTurns&) = delete;

  /// Runs `step` on a later turn, after those that wait already. Bounded by the scans that exist.
  void wait(Task step);

 private:
  struct Line {
    std::deque<Task> waiting;
    bool due = false;  // a turn is asked for
  };
  static void run_one(Loop* loop, const std::shared_ptr<Line>& line);

  Loop* const loop_;
  const std::shared_ptr<Line> line_;  // also of the turn that is due, which may outlive this
};
}  // namespace terrace
