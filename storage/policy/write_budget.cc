#include "storage/policy/write_budget.h"

#include <algorithm>
#include <limits>

namespace terrace {
namespace {
constexpr double kSecondsPerDay = 86'400;
constexpr double kBurstSeconds = 3'600;
constexpr double kBurstLeast = 64 << 20;
constexpr double kNoTrouble = 0.5;
}  // namespace

WriteBudget::WriteBudget(uint64_t bytes_per_day, Nanos now)
    : rate_(static_cast<double>(bytes_per_day) / kSecondsPerDay),
      burst_(std::max(rate_ * kBurstSeconds, kBurstLeast)),
      saved_(burst_),
      since_(now) {}

double WriteBudget::available(Nanos now) const {
  const double passed = static_cast<double>((now - since_).count()) * 1e-9;
  return std::min(burst_, saved_ + rate_ * std::max(0.0, passed));
}

void WriteBudget::spend(uint64_t bytes, Nanos now) {
  saved_ = available(now) - static_cast<double>(bytes);
  since_ = now;
}

double WriteBudget::left(Nanos now) const {
  return limited() ? available(now) / burst_ : 1;
}

double price_on_budget(double price, double typical_value, double left) {
  if (left >= kNoTrouble) return price;
  if (left <= 0) return std::numeric_limits<double>::infinity();
  // 0 at a half, 1 at a quarter (better than typical), 4 at a tenth.
  return price + typical_value * (kNoTrouble - left) / left;
}
}  // namespace terrace
