#include "tools/cli/bench_math.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace terrace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

Figure median(std::span<const Figure> rounds) {
  std::vector<double> speeds;
  std::vector<double> costs;
  for (const Figure& round : rounds) {
    speeds.push_back(round.gb_per_s);
    costs.push_back(round.cpu_s_per_gb);
  }
  return {.gb_per_s = median(std::move(speeds)), .cpu_s_per_gb = median(std::move(costs))};
}

Figure median_ratio(std::span<const Figure> a, std::span<const Figure> b) {
  TERRACE_CHECK(a.size() == b.size());
  std::vector<Figure> ratios;
  for (size_t i = 0; i < a.size(); ++i) {
    ratios.push_back({.gb_per_s = ratio_of(a[i].gb_per_s, b[i].gb_per_s),
                      .cpu_s_per_gb = ratio_of(a[i].cpu_s_per_gb, b[i].cpu_s_per_gb)});
  }
  return median(ratios);
}

double ratio_of(double a, double b) {
  return b > 0 ? a / b : 0;
}

bool all_held(std::span<const Bar> bars) {
  return std::all_of(bars.begin(), bars.end(), [](const Bar& bar) { return bar.held(); });
}

StatusOr<Figure> parse_fio(std::string_view json, const std::string& direction) {
  const auto bad = [](const std::string& what) {
    return error(StatusCode::kInvalidArgument, "fio's report: " + what);
  };
  // fio may say a sentence before the object.
  const size_t begin = json.find('{');
  if (begin == std::string_view::npos) return bad("no JSON object");
  const auto report = nlohmann::json::parse(json.substr(begin), nullptr, false);
  if (!report.is_object() || !report.contains("jobs") || !report["jobs"].is_array() ||
      report["jobs"].size() != 1) {
    return bad("not a report of one job");
  }
  const nlohmann::json& job = report["jobs"][0];
  const auto number = [](const nlohmann::json& object, const char* name) {
    const auto found = object.is_object() ? object.find(name) : object.end();
    return found != object.end() && found->is_number() ? found->get<double>() : -1.0;
  };
  if (!job.is_object() || !job.contains(direction)) return bad("no figures of " + direction);
  if (number(job, "error") != 0) return bad("the job failed");
  const nlohmann::json& moved = job[direction];
  const double bytes = number(moved, "io_bytes");
  const double seconds = number(moved, "runtime") / 1e3;
  const double cpu_percent = number(job, "usr_cpu") + number(job, "sys_cpu");
  const double job_seconds = number(job, "job_runtime") / 1e3;
  if (bytes <= 0 || seconds <= 0 || cpu_percent < 0 || job_seconds <= 0) {
    return bad("the job moved nothing");
  }
  return Figure{.gb_per_s = bytes / 1e9 / seconds,
                .cpu_s_per_gb = cpu_percent / 100 * job_seconds / (bytes / 1e9)};
}
}  // namespace terrace
