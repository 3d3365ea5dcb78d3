#include "base/clock.h"

#include <ctime>

namespace terrace {
namespace {

Nanos read_clock(clockid_t id) {
  timespec now{};
  ::clock_gettime(id, &now);
  return std::chrono::seconds(now.tv_sec) + Nanos(now.tv_nsec);
}
}  // namespace

Nanos SystemClock::now() const {
  return read_clock(CLOCK_MONOTONIC);
}
int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(read_clock(CLOCK_REALTIME)).count();
}
Nanos process_cpu_time() {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}
}  // namespace terrace
