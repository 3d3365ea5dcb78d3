#include "tools/cli/schedule.h"

#include <algorithm>

#include "base/check.h"

namespace terrace {

std::vector<Nanos> arrivals_of(std::span<const TraceRequest> requests, double speed) {
  TERRACE_CHECK(speed > 0);
  std::vector<Nanos> due;
  due.reserve(requests.size());
  for (const TraceRequest& request : requests) {
    const double gap_ns = static_cast<double>((request.time - requests.front().time).count());
    const Nanos at(static_cast<int64_t>(std::clamp(gap_ns / speed, 0.0, 9e18)));
    due.push_back(due.empty() ? at : std::max(at, due.back()));
  }
  return due;
}
}  // namespace terrace
