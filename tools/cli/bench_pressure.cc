// `terrace bench pressure`: puts at line rate into a node whose tiers are all full, beside probes
// and leases of what it holds. What it shows: room is always made, a put's latency stays bounded,
// and what was refused was counted. There is no ceiling beside it: the device and the sockets have
// theirs in fetch and put.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/connection.h"

namespace terrace {
namespace {
constexpr uint64_t kDramBytes = 256 * kMiB;
constexpr uint64_t kNvmeBytes = kGiB;
constexpr uint64_t kSharedBytes = kGiB;
constexpr Nanos kFillMax = seconds(180);
constexpr uint32_t kProbeKeys = 64;
// A put waits for the evictions that make its room, each of which deletes a row durably: so much
// longer than the middle one may the slowest in a hundred be, and not a second in all.
constexpr double kTailMax = 30;
constexpr double kSlowestMax_s = 1;
constexpr double kSteadyMin = 0.25;

class PressureBench {
 public:
  PressureBench(const ChunkBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  struct Counted {
    uint64_t refused = 0;  // puts, all reasons
    uint64_t dram_evictions = 0;
    uint64_t nvme_evictions = 0;
    uint64_t shared_publishes = 0;
  };
  Status set_up();
  Status fill();
  Status round(uint32_t number);
  /// Fresh objects, as fast as they are taken.
  StatusOr<LoopResult> put_for(Nanos duration);
  void probe(const std::atomic<bool>* stop, Status* status);
  StatusOr<Counted> counted();
  double slowest_round() const;
  void set_bars(const Counted& before, const Counted& after);

  const ChunkBenchOptions options_;
  const Globals globals_;
  std::optional<TemporaryDirectory> shared_;
  ChunkRig rig_;
  std::unique_ptr<BenchSession> writer_;
  std::unique_ptr<BenchSession> prober_;
  std::atomic<uint64_t> next_key_{0};
  uint64_t puts_ = 0;
  uint64_t refused_ = 0;
  uint64_t probes_ = 0;
  std::vector<Figure> ours_;
  Latencies latencies_;
  BenchReport report_;
};

Status PressureBench::set_up() {
  TERRACE_ASSIGN_OR_RETURN(TemporaryDirectory shared,
                           TemporaryDirectory::create("shared", options_.directory));
  shared_.emplace(std::move(shared));
  BenchNodeOptions node;
  node.dram_bytes = kDramBytes;
  node.nvme_bytes = kNvmeBytes;
  node.flags = {"--shared-directory",       shared_->path(),
                "--shared-bytes-max",       std::to_string(kSharedBytes),
                "--shared-sweep-period-ms", "1000",
                "--shared-grace-s",         "1"};
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(options_, globals_, node));
  if (!rig_.node->own()) {
    return error(StatusCode::kInvalidArgument,
                 "bench pressure fills a node: leave out --node, it starts one of its own");
  }
  TERRACE_ASSIGN_OR_RETURN(writer_, open_session(rig_, options_, rig_.source.span(), true));
  TERRACE_ASSIGN_OR_RETURN(prober_, open_session(rig_, options_, rig_.destination.span(), true));
  return ok_status();
}

StatusOr<PressureBench::Counted> PressureBench::counted() {
  TERRACE_ASSIGN_OR_RETURN(const proto::NodeStatusReply status, node_status(rig_.node->globals()));
  Counted out;
  for (const char* const reason : {"space", "quota", "in_flight", "device", "invalid"}) {
    out.refused += counter_of(status, std::string("puts_refused_") + reason);
  }
  out.dram_evictions = counter_of(status, "evictions_dram");
  out.nvme_evictions = counter_of(status, "evictions_nvme");
  out.shared_publishes = counter_of(status, "shared_publishes");
  return out;
}

StatusOr<LoopResult> PressureBench::put_for(Nanos duration) {
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.duration = duration;
  loop.refusals_fail = false;
  return writer_->run(loop, [this](uint64_t) {
    const uint64_t n = next_key_.fetch_add(1);
    return writer_->put(bench_keys(rig_.run, n, 1)[0], n % rig_.chunks, rig_.chunk_bytes,
                        Durability::memory);
  });
}

/// Puts until every tier has had to let something go.
Status PressureBench::fill() {
  const SystemClock clock;
  const Nanos until = clock.now() + kFillMax;
  Progress progress("fill all tiers", 1, !globals_.json);
  while (clock.now() < until) {
    TERRACE_RETURN_IF_ERROR(put_for(seconds(1)).status());
    TERRACE_ASSIGN_OR_RETURN(const Counted now, counted());
    const bool shared_full = now.shared_publishes * rig_.chunk_bytes > kSharedBytes;
    progress.show(0, human_bytes(next_key_ * rig_.chunk_bytes));
    if (now.dram_evictions > 0 && now.nvme_evictions > 0 && shared_full) return ok_status();
  }
  return error(StatusCode::kDeadlineExceeded, "the tiers were not full after 3 minutes of puts");
}

/// Looks up what was put last, with and without a lease, and fetches it now and then.
void PressureBench::probe(const std::atomic<bool>* stop, Status* status) {
  for (uint64_t n = 0; !stop->load() && status->ok(); ++n) {
    const uint64_t end = next_key_.load();
    const uint64_t first = end > kProbeKeys ? end - kProbeKeys : 0;
    const std::vector<ChunkKey> keys = bench_keys(rig_.run, first, kProbeKeys);
    LoopOptions one;
    one.operations_max = 1;
    one.refusals_fail = false;  // a lease may be
    const auto done = prober_->run(one, [&](uint64_t) -> StatusOr<OpId> {
      LookupOptions lookup;
      if (n % 2 == 0) lookup.lease = milliseconds(50);
      return prober_->client().lookup(prober_->ns(), keys, lookup);
    });
    status->update(done.status());
    ++probes_;
  }
}

Status PressureBench::round(uint32_t number) {
  std::atomic<bool> stop{false};
  Status probed;
  const Nanos cpu = rig_.node->cpu_time();
  std::thread beside([&] { probe(&stop, &probed); });
  StatusOr<LoopResult> result = put_for(rig_.duration);
  stop.store(true);
  beside.join();
  TERRACE_RETURN_IF_ERROR(result.status());
  TERRACE_RETURN_IF_ERROR(probed);
  ours_.push_back(figure_of(*result, rig_.node->cpu_time() - cpu));
  latencies_.merge(result->latencies);
  puts_ += result->operations;
  refused_ += result->refused;
  Json json = {{"round", number}};
  json["terrace"] = json_of(ours_.back());
  json["refused"] = result->refused;
  json["p99_ms"] = microseconds_of(result->latencies.percentile(990)) / 1000;
  report_.rounds.push_back(json);
  return ok_status();
}

double PressureBench::slowest_round() const {
  double least = ours_.front().gb_per_s;
  for (const Figure& each : ours_) least = std::min(least, each.gb_per_s);
  return least;
}

void PressureBench::set_bars(const Counted& before, const Counted& after) {
  const double p50 = seconds_of(latencies_.percentile(500));
  const double p99 = seconds_of(latencies_.percentile(990));
  report_.bars.push_back({"p99 / p50 of a put", ratio_of(p99, p50), Bar::Sense::at_most, kTailMax});
  report_.bars.push_back(
      {"slowest put, s", seconds_of(latencies_.max()), Bar::Sense::at_most, kSlowestMax_s});
  // A put that is refused is tried again at once, so how many are says little; that some get in all
  // the time says that room is made.
  report_.bars.push_back({"GB/s of the slowest round / of the middle one",
                          ratio_of(slowest_round(), median(ours_).gb_per_s), Bar::Sense::at_least,
                          kSteadyMin});
  const uint64_t known = after.refused - before.refused;
  report_.bars.push_back(
      {"refused puts that the node counted by reason / refused puts",
       refused_ == 0 ? 1 : ratio_of(static_cast<double>(known), static_cast<double>(refused_)),
       Bar::Sense::at_least, 1});
  report_.bars.push_back({"objects that left nvme meanwhile",
                          static_cast<double>(after.nvme_evictions - before.nvme_evictions),
                          Bar::Sense::at_least, 1});
  report_.extra["puts"] = puts_;
  report_.extra["puts_refused"] = refused_;
  report_.extra["probes"] = probes_;
  report_.extra["evictions_dram"] = after.dram_evictions - before.dram_evictions;
  report_.extra["evictions_nvme"] = after.nvme_evictions - before.nvme_evictions;
  report_.extra["shared_publishes"] = after.shared_publishes - before.shared_publishes;
}

StatusOr<BenchReport> PressureBench::run() {
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_RETURN_IF_ERROR(fill());
  TERRACE_ASSIGN_OR_RETURN(const Counted before, counted());
  Progress progress("bench pressure", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  TERRACE_ASSIGN_OR_RETURN(const Counted after, counted());
  report_.name = "pressure";
  report_.bytes_verified_by = "the node (each unit of a put)";
  report_.ours = median(ours_);
  report_.latencies = latencies_;
  report_.extra["chunk_bytes"] = rig_.chunk_bytes;
  report_.extra["depth"] = options_.depth;
  set_bars(before, after);
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_pressure(const ChunkBenchOptions& options, const Globals& globals) {
  PressureBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
