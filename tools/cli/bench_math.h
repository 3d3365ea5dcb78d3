// tools/cli/bench_math.h - what a benchmark makes of its rounds: medians, ratios and the bars that
// must hold. Pure functions over values.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace terrace {

/// What one round moved, per second and per CPU second.
struct Figure {
  double gb_per_s = 0;      // 1e9 bytes
  double cpu_s_per_gb = 0;  // user plus system, all processes that took part
};

/// The middle value; of an even number the mean of the two in the middle; 0 of none.
double median(std::vector<double> values);
/// The median of each field by itself.
Figure median(std::span<const Figure> rounds);
/// The median over the rounds of `a / b`, field by field: what one round shares with the other (a
/// slow minute of a shared machine) is in both. Of equally many rounds.
Figure median_ratio(std::span<const Figure> a, std::span<const Figure> b);
/// `a / b`; 0 when b is not above 0, so that a ceiling that was not measured holds no bar.
double ratio_of(double a, double b);

/// One promise, and whether this run kept it.
struct Bar {
  enum class Sense { at_least, at_most };
  std::string what;
  double value = 0;
  Sense sense = Sense::at_least;
  double limit = 0;
  /// False for a value that is no number.
  bool held() const { return sense == Sense::at_least ? value >= limit : value <= limit; }
};
/// Whether all of them hold; true for none.
bool all_held(std::span<const Bar> bars);

/// What fio's JSON says of the only job in it: 1e9 bytes per second of `direction` ("read" or
/// "write"), and the CPU seconds it took per 1e9 bytes. kInvalidArgument: not such a report, or the
/// job failed or moved nothing.
StatusOr<Figure> parse_fio(std::string_view json, const std::string& direction);
}  // namespace terrace
