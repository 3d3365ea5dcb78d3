// tools/cli/schedule.h - when each request of a trace is due, fixed before the first is sent: an
// open loop, whose arrivals do not wait for answers. Pure.
#pragma once
#include <span>
#include <vector>

#include "base/clock.h"
#include "tools/trace/trace.h"

namespace terrace {

/// Due times counted from the start of the run: the trace's own gaps divided by `speed` (> 0; 2 is
/// twice as fast), the first request at 0. A request dated before its predecessor is due with it.
std::vector<Nanos> arrivals_of(std::span<const TraceRequest> requests, double speed);
}  // namespace terrace
