// `terrace bench index`: what a node remembers of a million small objects, in resident memory per
// object and in seconds to be back after SIGKILL.
#include <algorithm>
#include <memory>

#include "base/limits.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_fio.h"
#include "tools/cli/bench_node.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_small_objects.h"
#include "tools/cli/connection.h"

namespace terrace {
namespace {
constexpr double kBytesPerObjectMax = 256;
constexpr double kRecoverySecondsMax = 5;
constexpr uint64_t kDramBytes = 64 * kMiB;  // all but the newest objects are cold
constexpr uint64_t kSamples = 1000;
constexpr uint64_t kFioBytes = kGiB;
constexpr seconds kStableTimeout{60};
constexpr uint64_t kStableBytes = 256 * kKiB;

/// Resident memory once it stopped moving: slabs are populated and flushes done behind the scenes.
StatusOr<uint64_t> stable_rss(pid_t pid) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + kStableTimeout;
  TERRACE_ASSIGN_OR_RETURN(uint64_t reference, memory_of(pid, "VmRSS"));
  uint32_t quiet = 0;
  while (quiet < 10 && clock.now() < deadline) {
    pause_for(milliseconds(200));
    TERRACE_ASSIGN_OR_RETURN(const uint64_t now, memory_of(pid, "VmRSS"));
    const uint64_t moved = std::max(now, reference) - std::min(now, reference);
    quiet = moved <= kStableBytes ? quiet + 1 : 0;
    if (moved > kStableBytes) reference = now;
  }
  return memory_of(pid, "VmRSS");
}

class IndexBench {
 public:
  IndexBench(const IndexBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  Status set_up();
  Status fill();
  Status recover();
  Status note_memory(const char* name, uint64_t* rss);

  const IndexBenchOptions options_;
  const Globals globals_;
  std::unique_ptr<BenchNode> node_;
  std::unique_ptr<SmallObjects> objects_;
  std::vector<Figure> disk_;
  uint64_t rss_empty_ = 0;
  uint64_t rss_full_ = 0;
  BenchReport report_;
};

Status IndexBench::note_memory(const char* name, uint64_t* rss) {
  TERRACE_ASSIGN_OR_RETURN(*rss, stable_rss(node_->pid()));
  Json parts = {{"VmRSS", *rss}};
  for (const char* part : {"RssAnon", "RssFile", "RssShmem"}) {
    TERRACE_ASSIGN_OR_RETURN(parts[part], memory_of(node_->pid(), part));
  }
  report_.extra[name] = parts;
  return ok_status();
}

Status IndexBench::set_up() {
  if (globals_.node_given) {
    return error(StatusCode::kInvalidArgument,
                 "bench index kills its node: it always starts one of its own");
  }
  BenchNodeOptions node;
  node.dram_bytes = kDramBytes;
  // Header and data are two sectors each; a quarter more, and a GiB, stay free.
  node.nvme_bytes = (options_.objects * 10 * kKiB / kGiB + 2) * kGiB;
  node.flags = {"--promote-hits", "255"};
  TERRACE_ASSIGN_OR_RETURN(node_, BenchNode::start(globals_, options_, node));
  TERRACE_RETURN_IF_ERROR(note_memory("memory_empty", &rss_empty_));
  TERRACE_ASSIGN_OR_RETURN(
      objects_,
      SmallObjects::open(node_->globals(), ClientConfig{}.data_connections, options_.depth));
  return ok_status();
}

Status IndexBench::fill() {
  const auto duration = Nanos(static_cast<int64_t>(options_.seconds_per_round * 1e9));
  TERRACE_ASSIGN_OR_RETURN(
      FioFile fio, FioFile::create(node_->directory(), kFioBytes, FioFile::Content::zeroes));
  TERRACE_ASSIGN_OR_RETURN(const Figure before, fio.write_small_for(duration));
  const Nanos cpu = node_->cpu_time();
  TERRACE_ASSIGN_OR_RETURN(const LoopResult stored,
                           objects_->store(options_.objects, Durability::nvme, !globals_.json));
  const double gb = static_cast<double>(stored.bytes) / 1e9;
  report_.ours = {.gb_per_s = ratio_of(gb, stored.seconds),
                  .cpu_s_per_gb = ratio_of(seconds_of(node_->cpu_time() - cpu), gb)};
  TERRACE_ASSIGN_OR_RETURN(const Figure after, fio.write_small_for(duration));
  disk_ = {before, after};
  report_.latencies = stored.latencies;
  report_.extra["objects"] = options_.objects;
  report_.extra["puts_per_s"] = ratio_of(static_cast<double>(options_.objects), stored.seconds);
  TERRACE_RETURN_IF_ERROR(objects_->session().expect_in(objects_->keys(), Tier::nvme));
  TERRACE_RETURN_IF_ERROR(note_memory("memory_full", &rss_full_));
  const double grown = static_cast<double>(rss_full_) - static_cast<double>(rss_empty_);
  report_.bars.push_back({"resident bytes per object",
                          grown / static_cast<double>(options_.objects), Bar::Sense::at_most,
                          kBytesPerObjectMax});
  return ok_status();
}

Status IndexBench::recover() {
  const SystemClock clock;
  const Nanos begin = clock.now();
  TERRACE_RETURN_IF_ERROR(node_->restart(true));
  const double ready = seconds_of(clock.now() - begin);
  TERRACE_ASSIGN_OR_RETURN(const proto::NodeStatusReply status, node_status(node_->globals()));
  report_.extra["recovered_objects"] = status.recovered_objects();
  report_.extra["recovery_s"] = static_cast<double>(status.recovery_us()) / 1e6;
  report_.extra["kill_to_ready_s"] = ready;
  report_.bars.push_back({"seconds to recover", static_cast<double>(status.recovery_us()) / 1e6,
                          Bar::Sense::at_most, kRecoverySecondsMax});
  report_.bars.push_back({"objects recovered", static_cast<double>(status.recovered_objects()),
                          Bar::Sense::at_least, static_cast<double>(options_.objects)});
  uint64_t rss = 0;
  TERRACE_RETURN_IF_ERROR(note_memory("memory_recovered", &rss));
  TERRACE_RETURN_IF_ERROR(objects_->reconnect(node_->globals()));
  TERRACE_RETURN_IF_ERROR(objects_->session().expect_in(objects_->keys(), Tier::nvme));
  TERRACE_ASSIGN_OR_RETURN(const LoopResult back, objects_->compare(kSamples, options_.objects));
  report_.tier_bytes = back.tier_bytes;
  report_.bytes_verified = back.bytes;
  report_.bytes_verified_by = "client (CRC32C, and compared: a sample after the kill)";
  return ok_status();
}

StatusOr<BenchReport> IndexBench::run() {
  report_.name = "index";
  if (options_.objects == 0) return error(StatusCode::kInvalidArgument, "--objects: want some");
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_RETURN_IF_ERROR(fill());
  TERRACE_RETURN_IF_ERROR(recover());
  report_.ceiling = median(disk_);
  report_.ceiling_name = "fio 4 KiB random write";
  report_.competitors.push_back({report_.ceiling_name, report_.ceiling});
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_index(const IndexBenchOptions& options, const Globals& globals) {
  IndexBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
