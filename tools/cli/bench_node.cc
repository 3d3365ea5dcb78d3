#include "tools/cli/bench_node.h"

#include <filesystem>

#include "storage/store_config.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr milliseconds kZeroTimeout{300'000};
constexpr milliseconds kMemoryTimeout{120'000};
constexpr milliseconds kPoll{50};

/// A node serves before all of its memory was touched; until then its dram tier is smaller, and
/// evicts what a benchmark needs there.
Status wait_memory(pid_t pid, uint64_t dram_bytes) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + kMemoryTimeout;
  for (;;) {
    TERRACE_ASSIGN_OR_RETURN(const uint64_t small, memory_of(pid, "RssShmem"));
    const StatusOr<uint64_t> pages = memory_of(pid, "HugetlbPages");
    const uint64_t huge = pages.ok() ? *pages : 0;  // not every kernel has such pages
    if (small + huge >= dram_bytes) return ok_status();
    if (clock.now() > deadline) {
      return error(StatusCode::kDeadlineExceeded, "only " + human_bytes(small + huge) +
                                                      " of the node's " + human_bytes(dram_bytes) +
                                                      " of memory were touched");
    }
    pause_for(kPoll);
  }
}
}  // namespace

StatusOr<std::unique_ptr<BenchNode>> BenchNode::start(const Globals& globals,
                                                      const BenchOptions& options,
                                                      const BenchNodeOptions& node) {
  TERRACE_ASSIGN_OR_RETURN(TemporaryDirectory directory,
                           TemporaryDirectory::create("bench", options.directory));
  std::unique_ptr<BenchNode> bench(new BenchNode(globals, std::move(directory)));
  bench->globals_.data_path = DataPath::tcp;  // what measures another path says so
  bench->globals_.client_cpus = options.client_cpus;
  bench->globals_.client_poll_for = std::chrono::microseconds(options.poll_us);
  if (globals.node_given) return bench;
  bench->own_ = true;
  LocalNodeOptions* const local = &bench->options_;
  local->dram_bytes = node.dram_bytes;
  local->nvme_bytes = node.nvme_bytes;
  local->flags = node.flags;
  local->flags.insert(local->flags.end(), {"--poll-us", std::to_string(options.poll_us)});
  if (!options.node_cpus.empty()) {
    local->flags.insert(local->flags.end(), {"--cpus", options.node_cpus});
  }
  local->log_file = bench->directory() + "/node.log";
  local->ready_timeout = kZeroTimeout;
  if (node.nvme_bytes > 0) {
    local->data_directory = bench->directory() + "/data";
    std::error_code problem;
    std::filesystem::create_directory(local->data_directory, problem);
    if (problem) return errno_status(problem.value(), "make " + local->data_directory);
  }
  TERRACE_RETURN_IF_ERROR(bench->launch());
  if (node.nvme_bytes > 0) {
    TERRACE_RETURN_IF_ERROR(wait_written(bench->data_path(), kZeroTimeout));
  }
  return bench;
}

Status BenchNode::launch() {
  TERRACE_ASSIGN_OR_RETURN(node_, LocalNode::start(options_));
  globals_.node = node_.endpoint();
  return wait_memory(node_.pid(), options_.dram_bytes);
}

Status BenchNode::restart(bool hard) {
  if (!own_) return error(StatusCode::kFailedPrecondition, "only a node of our own is restarted");
  if (hard) {
    node_.kill();
  } else {
    TERRACE_RETURN_IF_ERROR(node_.stop());
  }
  return launch();
}

StatusOr<Nanos> BenchNode::kill_and_start() {
  if (!own_) return error(StatusCode::kFailedPrecondition, "only a node of our own is restarted");
  const SystemClock clock;
  const Nanos begin = clock.now();
  node_.kill();
  TERRACE_ASSIGN_OR_RETURN(node_, LocalNode::start(options_));
  globals_.node = node_.endpoint();
  return clock.now() - begin;
}

std::string BenchNode::data_path() const {
  StoreConfig config;
  config.data_directory = options_.data_directory;
  return config.data_paths().front();
}

Nanos BenchNode::cpu_time() const {
  return process_cpu_time() + (own_ ? cpu_time_of(node_.pid()) : Nanos(0));
}
}  // namespace terrace
