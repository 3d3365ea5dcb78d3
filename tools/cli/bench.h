// tools/cli/bench.h - the benchmarks of `terrace bench`, and what the options of each mean. Each
// measures its own ceiling in the same run, round by round beside it. Blocking; single-threaded.
#pragma once
#include <cstdint>
#include <string>

#include "client/terrace.h"
#include "tools/cli/bench_report.h"
#include "tools/cli/command.h"

namespace terrace {

/// Of fetch and put.
struct ChunkBenchOptions : BenchOptions {
  std::string transport = "tcp";
  Tier tier = Tier::dram;
  uint64_t chunk_mib = 32;
  uint32_t layers = 32;
  uint32_t connections = 2;
  uint32_t depth = 4;  // the first and the last step of one leave room that others fill
  uint32_t batch = 1;  // chunks of one fetch
  uint64_t working_set_mib = 512;
  bool redis = true;
  uint32_t block_tokens = 16;  // of the paged cache that fetch scatters into
};
struct LookupBenchOptions : BenchOptions {
  uint64_t objects = 100'000;
  uint32_t batch = 128;
  uint32_t depth = 4;
  uint32_t connections = 2;
  uint32_t paced_per_second = 500;
};
struct IndexBenchOptions : BenchOptions {
  uint64_t objects = 1'000'000;
  uint32_t depth = 8;  // puts of 128 objects
};

struct RestartBenchOptions : BenchOptions {
  uint64_t chunk_mib = 8;
  uint64_t working_set_mib = 1024;
};

StatusOr<BenchReport> bench_fetch(const ChunkBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_view(const ChunkBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_put(const ChunkBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_pressure(const ChunkBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_promotion(const ChunkBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_lookup(const LookupBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_index(const IndexBenchOptions& options, const Globals& globals);
StatusOr<BenchReport> bench_restart(const RestartBenchOptions& options, const Globals& globals);
}  // namespace terrace
