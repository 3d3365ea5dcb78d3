// base/clock.h - time comes in through the constructor. Only main() and base/ ask the machine.
#pragma once
#include <chrono>
#include <cstdint>

namespace terrace {
using Nanos = std::chrono::nanoseconds;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic; the epoch means nothing.
  virtual Nanos now() const = 0;
};

/// CLOCK_MONOTONIC.
class SystemClock final : public Clock {
 public:
  Nanos now() const override;
};

/// A clock that tests advance. Not thread-safe.
class ManualClock final : public Clock {
 public:
  Nanos now() const override { return now_; }
  void advance(Nanos by) { now_ += by; }

 private:
  Nanos now_{0};
};

/// Wall-clock seconds since 1970, for what outlives a process (names, ends of a ttl). It may jump.
int64_t unix_seconds();
/// CPU time that this process used so far, user plus system.
Nanos process_cpu_time();
}  // namespace terrace
