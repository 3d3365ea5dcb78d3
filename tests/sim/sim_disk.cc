#include "tests/sim/sim_disk.h"

namespace terrace::sim {

void SimDisk::cut_after(uint64_t steps) {
  const std::lock_guard lock(mutex_);
  cut_at_ = steps_ + steps;
}

void SimDisk::cut() {
  const std::lock_guard lock(mutex_);
  powered_ = false;
}

bool SimDisk::step() {
  const std::lock_guard lock(mutex_);
  if (powered_ && steps_ >= cut_at_) powered_ = false;
  if (powered_) ++steps_;
  return powered_;
}

bool SimDisk::powered() const {
  const std::lock_guard lock(mutex_);
  return powered_;
}

void SimDisk::power_on() {
  const std::lock_guard lock(mutex_);
  powered_ = true;
  cut_at_ = ~uint64_t{0};
}

uint64_t SimDisk::steps() const {
  const std::lock_guard lock(mutex_);
  return steps_;
}

uint64_t SimDisk::below(uint64_t bound) {
  const std::lock_guard lock(mutex_);
  return prng_.below(bound);
}

void SimDisk::garble(std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  prng_.fill(out);
}
}  // namespace terrace::sim
