// `terrace bench restart`: how soon after SIGKILL a node serves from dram again what lay there, and
// what the first look at every byte costs beside the second fetch, which needs none.
#include <memory>

#include "base/limits.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/connection.h"
#include "tools/cli/content.h"

namespace terrace {
namespace {
constexpr double kFirstHitSecondsMax = 2;
constexpr uint64_t kBarBytesMax = 8 * kGiB;  // what the bar is said for
constexpr milliseconds kTimeout{30'000};
constexpr uint64_t kNvmeBytes = kGiB;  // the index needs a tier; no object goes there

class RestartBench {
 public:
  RestartBench(const RestartBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  Status set_up();
  Status open();
  Status fill();
  Status round(uint32_t number);
  /// Fetches chunk `n` and compares it with what was put.
  Status fetch(uint64_t n);
  /// All of them, one after the other.
  StatusOr<Figure> fetch_all();

  const RestartBenchOptions options_;
  const Globals globals_;
  const SystemClock clock_;
  AlignedBuffer memory_;  // outlives the session
  std::unique_ptr<BenchNode> node_;
  std::unique_ptr<BenchSession> session_;
  uint64_t run_ = 0;
  uint64_t chunk_bytes_ = 0;
  std::vector<ChunkKey> keys_;
  std::vector<double> ready_s_, first_hit_s_, taking_back_s_;
  std::vector<Figure> first_, second_;
  BenchReport report_;
};

Status RestartBench::set_up() {
  if (globals_.node_given) {
    return error(StatusCode::kInvalidArgument,
                 "bench restart kills its node: it always starts one of its own");
  }
  run_ = random_run();
  chunk_bytes_ = options_.chunk_mib * kMiB;
  keys_ = bench_keys(run_, 0, options_.working_set_mib / options_.chunk_mib);
  TERRACE_ASSIGN_OR_RETURN(memory_, AlignedBuffer::allocate(chunk_bytes_));
  BenchNodeOptions node;
  // Eviction keeps a hundredth free, and headers take their part.
  const uint64_t bytes = options_.working_set_mib * kMiB;
  node.dram_bytes = (bytes + bytes / 16 + kGiB) / kGiB * kGiB;
  node.nvme_bytes = kNvmeBytes;
  node.flags = {"--warm-restart",  "keeper", "--keeper-linger-s", "10",
                "--write-through", "false",  "--demote-on-close", "false"};
  TERRACE_ASSIGN_OR_RETURN(node_, BenchNode::start(globals_, options_, node));
  report_.extra["dram_bytes"] = node.dram_bytes;
  return ok_status();
}

Status RestartBench::open() {
  session_.reset();
  SessionOptions session;
  session.ns = "bench-restart";
  TERRACE_ASSIGN_OR_RETURN(session.fingerprint, chunk_fingerprint(chunk_bytes_, 1));
  session.memory = memory_.span();
  TERRACE_ASSIGN_OR_RETURN(session_, BenchSession::open(node_->globals(), session));
  return ok_status();
}

Status RestartBench::fill() {
  TERRACE_RETURN_IF_ERROR(open());
  for (uint64_t n = 0; n < keys_.size(); ++n) {
    fill_content(run_, n * chunk_bytes_, memory_.span());
    TERRACE_ASSIGN_OR_RETURN(const OpId op,
                             session_->put(keys_[n], 0, chunk_bytes_, Durability::memory));
    TERRACE_ASSIGN_OR_RETURN(const Completion done, session_->client().wait(op, kTimeout));
    TERRACE_RETURN_IF_ERROR(done.status);
  }
  return session_->expect_in(keys_, Tier::dram);
}

Status RestartBench::fetch(uint64_t n) {
  TERRACE_ASSIGN_OR_RETURN(const OpId op, session_->fetch(keys_[n], 0, chunk_bytes_));
  TERRACE_ASSIGN_OR_RETURN(const Completion done, session_->client().wait(op, kTimeout));
  TERRACE_RETURN_IF_ERROR(done.status);
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    report_.tier_bytes[tier] += done.tier_bytes[tier];
  }
  if (count_differences(run_, n * chunk_bytes_, memory_.span()) != 0) {
    return error(StatusCode::kDataLoss, "what came back is not what was stored");
  }
  report_.bytes_verified += chunk_bytes_;
  return ok_status();
}

StatusOr<Figure> RestartBench::fetch_all() {
  const Nanos cpu = node_->cpu_time();
  Nanos busy{0};
  for (uint64_t n = 0; n < keys_.size(); ++n) {
    const Nanos begin = clock_.now();
    TERRACE_ASSIGN_OR_RETURN(const OpId op, session_->fetch(keys_[n], 0, chunk_bytes_));
    TERRACE_RETURN_IF_ERROR(session_->client().wait(op, kTimeout).status());
    busy += clock_.now() - begin;
    report_.latencies.record(clock_.now() - begin);
  }
  const double gb = static_cast<double>(keys_.size() * chunk_bytes_) / 1e9;
  return Figure{.gb_per_s = gb / seconds_of(busy),
                .cpu_s_per_gb = seconds_of(node_->cpu_time() - cpu) / gb};
}

Status RestartBench::round(uint32_t number) {
  const Nanos killed = clock_.now();
  TERRACE_ASSIGN_OR_RETURN(const Nanos ready, node_->kill_and_start());
  TERRACE_RETURN_IF_ERROR(open());
  TERRACE_RETURN_IF_ERROR(fetch(keys_.size() / 2));
  const double first_hit = seconds_of(clock_.now() - killed);
  TERRACE_ASSIGN_OR_RETURN(const auto status, node_status(node_->globals()));
  if (counter_of(status, "warm_objects") != keys_.size()) {
    return error(StatusCode::kDataLoss, std::to_string(counter_of(status, "warm_objects")) +
                                            " of " + std::to_string(keys_.size()) +
                                            " objects came back");
  }
  TERRACE_ASSIGN_OR_RETURN(const Figure first, fetch_all());
  TERRACE_ASSIGN_OR_RETURN(const Figure second, fetch_all());
  for (uint64_t n = 0; n < keys_.size(); ++n) TERRACE_RETURN_IF_ERROR(fetch(n));
  ready_s_.push_back(seconds_of(ready));
  first_hit_s_.push_back(first_hit);
  taking_back_s_.push_back(static_cast<double>(counter_of(status, "warm_us")) / 1e6);
  first_.push_back(first);
  second_.push_back(second);
  report_.rounds.push_back({{"round", number},
                            {"kill_to_ready_s", seconds_of(ready)},
                            {"kill_to_first_hit_s", first_hit},
                            {"taking_back_s", taking_back_s_.back()},
                            {"first_fetch_gb_per_s", first.gb_per_s},
                            {"second_fetch_gb_per_s", second.gb_per_s}});
  return ok_status();
}

StatusOr<BenchReport> RestartBench::run() {
  report_.name = "restart";
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_RETURN_IF_ERROR(fill());
  Progress progress("bench restart", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  report_.ours = median(first_);
  report_.ceiling = median(second_);
  report_.ceiling_name = "once verified";
  report_.competitors.push_back({report_.ceiling_name, report_.ceiling});
  report_.bytes_verified_by = "client (CRC32C, and compared: every byte, every round)";
  report_.extra["stored_bytes"] = keys_.size() * chunk_bytes_;
  report_.extra["kill_to_ready_s"] = median(ready_s_);
  report_.extra["kill_to_first_hit_s"] = median(first_hit_s_);
  report_.extra["taking_back_s"] = median(taking_back_s_);
  const uint64_t fetched = report_.bytes_verified;
  const uint64_t from_dram = report_.tier_bytes[static_cast<size_t>(Tier::dram)];
  report_.bars.push_back({"compared bytes from dram / all",
                          static_cast<double>(from_dram) / static_cast<double>(fetched),
                          Bar::Sense::at_least, 1});
  if (keys_.size() * chunk_bytes_ <= kBarBytesMax) {
    report_.bars.push_back({"seconds from the kill to the first dram hit", median(first_hit_s_),
                            Bar::Sense::at_most, kFirstHitSecondsMax});
  }
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_restart(const RestartBenchOptions& options, const Globals& globals) {
  RestartBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
