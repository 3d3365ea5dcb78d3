// tools/cli/bench_memcpy.h - the ceiling of anything over shared memory on this machine: one thread
// that copies. Blocking; single-threaded.
#pragma once
#include <cstddef>
#include <span>

#include "base/clock.h"
#include "tools/cli/bench_math.h"

namespace terrace {

/// Copies `from` to `into` (as long) by memcpy in pieces of 1 MiB, round and round, until
/// `duration` is over.
Figure copy_for(Nanos duration, std::span<const std::byte> from, std::span<std::byte> into);
}  // namespace terrace
