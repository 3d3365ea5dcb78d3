// storage/policy/write_budget.h - how much may be written to nvme: devices wear out. A bucket that
// fills evenly over the day, and what it means for the price of a place. Values and a pure
// function.
#pragma once
#include <cstdint>

#include "base/clock.h"

namespace terrace {

class WriteBudget {
 public:
  /// 0: no limit. An hour's worth may be written at once (at least 64 MiB).
  WriteBudget(uint64_t bytes_per_day, Nanos now);
  bool limited() const { return rate_ > 0; }
  /// These were written, whoever allowed it: it may be more than there was, and is owed then.
  void spend(uint64_t bytes, Nanos now);
  /// What is there, as a share of the most there can be: 1 to 0, below when it is owed.
  double left(Nanos now) const;

 private:
  double available(Nanos now) const;
  double rate_ = 0;   // bytes per second
  double burst_ = 0;  // most that is saved up
  double saved_ = 0;  // at `since_`
  Nanos since_{0};
};

/// The price of a place in nvme while `left` of the budget is left: as it is down to a half, and
/// then raised by more and more of what candidates are worth typically, so that fewer and better
/// ones get in; without bound when nothing is left.
double price_on_budget(double price, double typical_value, double left);
}  // namespace terrace
