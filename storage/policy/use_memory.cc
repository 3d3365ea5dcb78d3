#include "storage/policy/use_memory.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

namespace terrace {
namespace {
uint32_t age_ms_of(Nanos age) {
  const int64_t ms = std::chrono::duration_cast<milliseconds>(age).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(ms, 0, std::numeric_limits<uint32_t>::max()));
}
}  // namespace

/// Octave and two bits below it; grows with the age.
size_t UseScan::age_class(uint32_t age_ms) {
  if (age_ms < 4) return age_ms;
  const auto octave = static_cast<unsigned>(std::bit_width(age_ms)) - 1;
  return (octave - 1) * 4 + (age_ms >> (octave - 2) & 3);
}

void UseScan::add(uint64_t name, Nanos last_use, const UseHistory& history) {
  const uint32_t age_ms = age_ms_of(now_ - last_use);
  const size_t its_class = age_class(age_ms);
  if (!collecting_) {
    ++total_;
    ++counts_[its_class];
    return;
  }
  if (its_class > youngest_ || memory_.objects.size() >= objects_max_) return;
  if (its_class == youngest_) {  // of these as many as the younger ones leave room for
    if (counts_[its_class] == 0) return;
    --counts_[its_class];
  }
  memory_.objects.push_back({name, age_ms, history});
}

bool UseScan::again() {
  next = 0;
  if (std::exchange(collecting_, true)) return false;
  uint64_t room = objects_max_;
  youngest_ = 0;
  while (youngest_ < kAges && counts_[youngest_] <= room) room -= counts_[youngest_++];
  if (youngest_ < kAges) counts_[youngest_] = room;
  memory_.objects.reserve(std::min<uint64_t>(total_, objects_max_));
  return true;
}

UseMemory UseScan::take(std::vector<double> model) {
  memory_.model = std::move(model);
  memory_.left_out = total_ - std::min<uint64_t>(total_, memory_.objects.size());
  return std::move(memory_);
}
}  // namespace terrace
