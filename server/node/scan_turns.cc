#include "server/node/scan_turns.h"

#include <utility>

namespace terrace {

void ScanTurns::wait(Task step) {
  line_->waiting.push_back(std::move(step));
  if (std::exchange(line_->due, true)) return;
  loop_->defer([loop = loop_, line = line_] { run_one(loop, line); });
}

void ScanTurns::run_one(Loop* loop, const std::shared_ptr<Line>& line) {
  if (!line->waiting.empty()) {
    const Task step = std::move(line->waiting.front());
    line->waiting.pop_front();
    step();
  }
  line->due = !line->waiting.empty();
  if (line->due) loop->defer([loop, line] { run_one(loop, line); });
}
}  // namespace terrace
