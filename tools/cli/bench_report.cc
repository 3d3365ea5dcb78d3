#include "tools/cli/bench_report.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <cstdio>
#include <fstream>

#include "base/machine_memory.h"
#include "base/version.h"

namespace terrace {
namespace {
std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

double percentile_us(const Latencies& latencies, double per_mille) {
  return microseconds_of(latencies.percentile(per_mille));
}

/// Enough digits for a rate of any size.
std::string figure_text(double value) {
  return fixed(value, value < 0.01 ? 5 : value < 100 ? 3 : 0);
}
}  // namespace

Json json_of(const Figure& figure) {
  return {{"gb_per_s", figure.gb_per_s}, {"cpu_s_per_gb", figure.cpu_s_per_gb}};
}

Json machine_facts() {
  utsname names{};
  ::uname(&names);
#ifdef __OPTIMIZE__
  const bool optimized = true;
#else
  const bool optimized = false;
#endif
  return {{"kernel", std::string(names.sysname) + " " + names.release},
          {"cpu", cpu_model()},
          {"cores", ::get_nprocs()},
          {"memory_bytes", machine_memory_bytes()},
          {"version", kVersion},
          {"optimized", optimized}};
}

Json BenchReport::to_json() const {
  Json tiers = Json::object();
  for (size_t i = 0; i < kTierCount; ++i) tiers[name_of(static_cast<Tier>(i))] = tier_bytes[i];
  Json bar_list = Json::array();
  for (const Bar& bar : bars) {
    bar_list.push_back({{"what", bar.what},
                        {"value", bar.value},
                        {"limit", bar.limit},
                        {"sense", bar.sense == Bar::Sense::at_least ? "at least" : "at most"},
                        {"held", bar.held()}});
  }
  Json beside = Json::object();
  for (const Competitor& other : competitors) beside[other.name] = json_of(other.figure);
  Json json = {{"name", name},
               {"gb_per_s", ours.gb_per_s},
               {"ceiling_gb_per_s", ceiling.gb_per_s},
               {"ceiling", ceiling_name},
               {"ratio", ratio_of(ours.gb_per_s, ceiling.gb_per_s)},
               {"cpu_s_per_gb", ours.cpu_s_per_gb},
               {"ceiling_cpu_s_per_gb", ceiling.cpu_s_per_gb},
               {"operations", latencies.count()},
               {"p50_us", percentile_us(latencies, 500)},
               {"p99_us", percentile_us(latencies, 990)},
               {"p999_us", percentile_us(latencies, 999)},
               {"bytes_verified", bytes_verified},
               {"bytes_verified_by", bytes_verified_by},
               {"tier_bytes", tiers},
               {"held", held()},
               {"bars", bar_list},
               {"unmeasured", unmeasured},
               {"beside", beside},
               {"rounds", rounds}};
  json.update(extra);
  json["machine"] = machine_facts();
  return json;
}

std::string BenchReport::to_text() const {
  Table speeds({name, "GB/s", "CPU s/GB"});
  speeds.add({"terrace", figure_text(ours.gb_per_s), figure_text(ours.cpu_s_per_gb)});
  for (const Competitor& other : competitors) {
    speeds.add(
        {other.name, figure_text(other.figure.gb_per_s), figure_text(other.figure.cpu_s_per_gb)});
  }
  std::string text = speeds.text();
  text += "\noperations: " + human_count(latencies.count()) + ", p50 " +
          human_duration(latencies.percentile(500)) + ", p99 " +
          human_duration(latencies.percentile(990)) + ", p99.9 " +
          human_duration(latencies.percentile(999)) + "\n";
  text += "verified: " + human_bytes(bytes_verified) + " by " + bytes_verified_by + "; from";
  for (size_t i = 0; i < kTierCount; ++i) {
    if (tier_bytes[i] == 0) continue;
    text += " " + std::string(name_of(static_cast<Tier>(i))) + " " + human_bytes(tier_bytes[i]);
  }
  text += "\n";
  for (const auto& [key, value] : extra.items()) text += key + ": " + value.dump() + "\n";
  Table verdicts({"bar", "value", "limit", "held"});
  for (const Bar& bar : bars) {
    verdicts.add({bar.what, figure_text(bar.value),
                  (bar.sense == Bar::Sense::at_least ? ">= " : "<= ") + figure_text(bar.limit),
                  bar.held() ? "yes" : "NO"});
  }
  for (const std::string& what : unmeasured) verdicts.add({what, "not measured", "", "?"});
  return text + "\n" + verdicts.text();
}

int print_report(const BenchReport& report, const Globals& globals, const BenchOptions& options) {
  if (globals.json) {
    print_json(report.to_json());
  } else {
    std::fputs(report.to_text().c_str(), stdout);
  }
  if (!options.check) return kExitOk;
  if (!report.held()) return kExitNo;
  return report.unmeasured.empty() ? kExitOk : kExitError;
}
}  // namespace terrace
