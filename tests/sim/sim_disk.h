// tests/sim/sim_disk.h - one power supply for everything that is stored: the simulated device and
// the simulated file system count their steps on it, so that one cut stops both at the same moment.
// Thread-safe, because RocksDB has threads of its own.
#pragma once
#include <cstdint>
#include <mutex>

#include "base/prng.h"

namespace terrace::sim {

class SimDisk {
 public:
  explicit SimDisk(uint64_t seed) : prng_(seed) {}

  /// The power goes after `steps` more steps; 0: with the next one.
  void cut_after(uint64_t steps);
  /// Off, now.
  void cut();
  /// Counts one step. False: the power is off, and the step must leave no trace.
  bool step();
  bool powered() const;
  /// Power again, and no cut planned. The device and the file system are told by their own
  /// restart().
  void power_on();
  /// Steps so far, over all lives.
  uint64_t steps() const;

  /// Chance for whoever needs some; one sequence for all.
  uint64_t below(uint64_t bound);
  void garble(std::span<std::byte> out);

 private:
  mutable std::mutex mutex_;
  Prng prng_;           // guarded by mutex_
  uint64_t steps_ = 0;  // guarded by mutex_
  uint64_t cut_at_ = ~uint64_t{0};
  bool powered_ = true;
};
}  // namespace terrace::sim
