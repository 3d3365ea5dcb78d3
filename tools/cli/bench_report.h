// tools/cli/bench_report.h - what a benchmark says: the same fields for all of them, as JSON or as
// a table, and the exit code that its bars ask for. Values; single-threaded.
#pragma once
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/chunk_key.h"
#include "tools/cli/bench_math.h"
#include "tools/cli/command.h"
#include "tools/cli/latencies.h"
#include "tools/cli/output.h"

namespace terrace {

/// Options that every benchmark takes.
struct BenchOptions {
  uint32_t rounds = 5;
  double seconds_per_round = 2;
  bool check = false;
  std::string directory = "/var/tmp";  // where nodes and fio get their files
  std::string node_cpus;               // where the node's and the client's loops run; empty: any
  std::string client_cpus;
  uint32_t poll_us = 0;  // both look for work so long before they sleep
};

/// One table line of figures that stand beside the benchmark's own.
struct Competitor {
  std::string name;
  Figure figure;
};

struct BenchReport {
  std::string name;  // "fetch tcp dram"
  Figure ours;
  Figure ceiling;            // the smallest of those measured
  std::string ceiling_name;  // "raw socket"
  Latencies latencies;       // of one operation, all rounds
  uint64_t bytes_verified = 0;
  std::string bytes_verified_by;
  std::array<uint64_t, kTierCount> tier_bytes{};
  std::vector<Bar> bars;
  std::vector<std::string> unmeasured;  // what a bar needs and this run could not know
  std::vector<Competitor> competitors;  // ceilings and peers, ours left out
  Json extra = Json::object();          // of this benchmark only
  Json rounds = Json::array();

  bool held() const { return all_held(bars); }
  Json to_json() const;
  std::string to_text() const;
};

/// Prints the report as the globals ask for, and returns the exit code: kExitNo when --check was
/// given and a bar does not hold, kExitError when it was given and something stayed unmeasured.
int print_report(const BenchReport& report, const Globals& globals, const BenchOptions& options);
/// {"gb_per_s": ..., "cpu_s_per_gb": ...}
Json json_of(const Figure& figure);
/// Kernel, CPU, cores and memory of this machine.
Json machine_facts();
}  // namespace terrace
