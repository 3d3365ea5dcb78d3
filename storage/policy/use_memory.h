// storage/policy/use_memory.h - what a policy has learned of uses, for the one of the next run, and
// how it is taken down without holding up the loop. Values; thread-confined.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "storage/policy/reuse_model.h"

namespace terrace {

struct UseMemory {
  static constexpr size_t kObjectsMax = size_t{1} << 20;
  static constexpr size_t kModelNumbersMax = 4096;
  struct Object {
    uint64_t name = 0;    // ObjectWorth::name
    uint32_t age_ms = 0;  // since its last use when this was taken down; the most for longer
    UseHistory history;
    bool operator==(const Object&) const = default;
  };
  std::vector<Object> objects;  // those used last, in no order
  uint64_t left_out = 0;        // so many more were used before all of them, and are not here
  std::vector<double> model;    // ReuseModel::counts()
  bool operator==(const UseMemory&) const = default;
};

/// One taking-down: whoever has objects shows all of them twice, in as many steps as it likes. The
/// first time their ages are counted, the second time those of the youngest ages are kept.
class UseScan {
 public:
  explicit UseScan(Nanos now, size_t objects_max = UseMemory::kObjectsMax)
      : now_(now), objects_max_(objects_max) {}
  void add(uint64_t name, Nanos last_use, const UseHistory& history);
  /// All were shown once: now from the start again. False: they were shown twice.
  bool again();
  /// After again() said false, once.
  UseMemory take(std::vector<double> model);
  Nanos now() const { return now_; }

  size_t next = 0;  // where whoever shows objects is: its own

 private:
  static constexpr size_t kAges = 128;  // 4 per octave of milliseconds
  static size_t age_class(uint32_t age_ms);
  const Nanos now_;
  const size_t objects_max_;
  bool collecting_ = false;
  size_t youngest_ = kAges;  // ages below this are kept, while there is room
  std::array<uint64_t, kAges> counts_{};
  uint64_t total_ = 0;
  UseMemory memory_;
};
}  // namespace terrace
