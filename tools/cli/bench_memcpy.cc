#include "tools/cli/bench_memcpy.h"

#include <time.h>

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {

Nanos thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return seconds(now.tv_sec) + Nanos(now.tv_nsec);
}
}  // namespace

Figure copy_for(Nanos duration, std::span<const std::byte> from, std::span<std::byte> into) {
  const SystemClock clock;
  const Nanos begin = clock.now();
  const Nanos cpu = thread_cpu_time();
  uint64_t bytes = 0;
  for (size_t at = 0; clock.now() - begin < duration;
       at = at + kMiB < from.size() ? at + kMiB : 0) {
    const size_t piece = std::min<size_t>(kMiB, from.size() - at);
    std::memcpy(into.data() + at, from.data() + at, piece);
    bytes += piece;
  }
  const double gb = static_cast<double>(bytes) / 1e9;
  return {.gb_per_s = ratio_of(gb, seconds_of(clock.now() - begin)),
          .cpu_s_per_gb = ratio_of(seconds_of(thread_cpu_time() - cpu), gb)};
}
}  // namespace terrace
