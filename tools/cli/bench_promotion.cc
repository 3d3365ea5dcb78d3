// `terrace bench promotion`: chunks from nvme while every one of them becomes a dram copy, beside
// fio on the same file system and the bare sockets. What it shows: promotion costs the reader
// nothing, and the device is read once for both.
#include <algorithm>
#include <memory>
#include <optional>

#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_fio.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_socket.h"
#include "tools/cli/connection.h"

namespace terrace {
namespace {
constexpr double kRatioMin = 0.85;
constexpr double kPromotedMin = 0.9;
constexpr double kFromNvmeMin = 0.95;
constexpr double kReadTwice = 1.1;
// At most a quarter of the arena may be on its way in; what waits for its eviction takes as much.
constexpr uint64_t kArenaPerInFlight = 8;
// Chunks are read in turn: with an arena of at most this part of them, none is met again in dram.
constexpr uint64_t kArenaShare = 2;

class PromotionBench {
 public:
  PromotionBench(const ChunkBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  struct Counted {
    uint64_t promotions = 0;
    uint64_t device_read_bytes = 0;
  };
  Status set_up();
  Status load();
  Status round(uint32_t number);
  StatusOr<LoopResult> fetch_for(Nanos duration);
  StatusOr<Counted> counted() const;
  void set_bars(const Counted& before, const Counted& after);

  const ChunkBenchOptions options_;
  const Globals globals_;
  ChunkRig rig_;
  std::vector<ChunkKey> keys_;
  std::unique_ptr<BenchSession> session_;
  std::optional<FioFile> fio_;
  uint64_t next_ = 0;  // the chunk that is fetched next, of all rounds
  std::vector<Figure> ours_, sockets_, disk_;
  LoopResult total_;
  BenchReport report_;
};

Status PromotionBench::set_up() {
  const uint64_t in_flight = options_.depth * options_.chunk_mib * kMiB;
  const uint64_t bytes = options_.working_set_mib * kMiB;
  BenchNodeOptions node;
  node.dram_bytes = std::max(kGiB / 4, kArenaPerInFlight * in_flight);
  node.nvme_bytes = std::max(kGiB, dram_for(bytes));
  node.flags = {"--promote-hits", "1", "--policy", "lru"};
  if (node.dram_bytes * kArenaShare > bytes) {
    return error(StatusCode::kInvalidArgument,
                 "--working-set-mib " + std::to_string(options_.working_set_mib) +
                     ": too small for chunks to have left dram before they are read again; at "
                     "least " +
                     std::to_string(node.dram_bytes * kArenaShare / kMiB));
  }
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(options_, globals_, node));
  if (!rig_.node->own()) {
    return error(StatusCode::kInvalidArgument,
                 "bench promotion looks into its node: leave out --node, it starts one of its own");
  }
  keys_ = bench_keys(rig_.run, 0, rig_.chunks);
  TERRACE_RETURN_IF_ERROR(load());
  TERRACE_RETURN_IF_ERROR(rig_.node->restart(false));
  TERRACE_ASSIGN_OR_RETURN(session_, open_session(rig_, options_, rig_.destination.span(), true));
  TERRACE_ASSIGN_OR_RETURN(FioFile file,
                           FioFile::create(rig_.node->directory(), bytes, FioFile::Content::noise));
  fio_.emplace(std::move(file));
  return ok_status();
}

Status PromotionBench::load() {
  TERRACE_ASSIGN_OR_RETURN(const auto session,
                           open_session(rig_, options_, rig_.source.span(), true));
  return store_all(rig_, session.get(), keys_, options_.depth, Durability::nvme);
}

StatusOr<LoopResult> PromotionBench::fetch_for(Nanos duration) {
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.duration = duration;
  return session_->run(loop, [this](uint64_t) {
    const uint64_t chunk = next_++ % keys_.size();
    return session_->fetch(keys_[chunk], chunk, rig_.chunk_bytes);
  });
}

StatusOr<PromotionBench::Counted> PromotionBench::counted() const {
  TERRACE_ASSIGN_OR_RETURN(const proto::NodeStatusReply status, node_status(rig_.node->globals()));
  Counted out;
  out.promotions = counter_of(status, "promotions");
  TERRACE_ASSIGN_OR_RETURN(out.device_read_bytes, io_of(rig_.node->pid(), "read_bytes"));
  return out;
}

Status PromotionBench::round(uint32_t number) {
  TERRACE_ASSIGN_OR_RETURN(const Figure sockets,
                           stream_over_sockets({options_.connections, rig_.duration},
                                               rig_.source.span(), rig_.destination.span()));
  const Nanos cpu = rig_.node->cpu_time();
  TERRACE_ASSIGN_OR_RETURN(const LoopResult result, fetch_for(rig_.duration));
  const Figure ours = figure_of(result, rig_.node->cpu_time() - cpu);
  TERRACE_ASSIGN_OR_RETURN(const Figure disk, fio_->read_for(rig_.duration));
  sockets_.push_back(sockets);
  ours_.push_back(ours);
  disk_.push_back(disk);
  total_.add(result);
  report_.rounds.push_back({{"round", number},
                            {"raw_socket", json_of(sockets)},
                            {"terrace", json_of(ours)},
                            {"fio", json_of(disk)}});
  return ok_status();
}

void PromotionBench::set_bars(const Counted& before, const Counted& after) {
  const bool by_disk = median(disk_).gb_per_s < median(sockets_).gb_per_s;
  report_.ours = median(ours_);
  report_.ceiling_name = by_disk ? "fio 1 MiB read" : "raw socket";
  report_.ceiling = median(by_disk ? disk_ : sockets_);
  report_.competitors.push_back({"raw socket", median(sockets_)});
  report_.competitors.push_back({"fio 1 MiB read", median(disk_)});
  report_.bars.push_back({"GB/s / " + report_.ceiling_name,
                          median_ratio(ours_, by_disk ? disk_ : sockets_).gb_per_s,
                          Bar::Sense::at_least, kRatioMin});
  const auto fetched = static_cast<double>(total_.bytes);
  const auto from_nvme = static_cast<double>(total_.tier_bytes[static_cast<size_t>(Tier::nvme)]);
  const uint64_t promoted = (after.promotions - before.promotions) * rig_.chunk_bytes;
  const uint64_t read = after.device_read_bytes - before.device_read_bytes;
  report_.bars.push_back({"bytes fetched from nvme / bytes fetched", ratio_of(from_nvme, fetched),
                          Bar::Sense::at_least, kFromNvmeMin});
  report_.bars.push_back({"bytes promoted / bytes fetched",
                          ratio_of(static_cast<double>(promoted), fetched), Bar::Sense::at_least,
                          kPromotedMin});
  report_.bars.push_back({"bytes read from the device / bytes fetched from nvme",
                          ratio_of(static_cast<double>(read), from_nvme), Bar::Sense::at_most,
                          kReadTwice});
  report_.extra["promoted_bytes"] = promoted;
  report_.extra["device_read_bytes"] = read;
  report_.extra["fetched_bytes"] = total_.bytes;
}

StatusOr<BenchReport> PromotionBench::run() {
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_RETURN_IF_ERROR(fetch_for(rig_.duration).status());
  TERRACE_ASSIGN_OR_RETURN(const Counted before, counted());
  Progress progress("bench promotion", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  TERRACE_ASSIGN_OR_RETURN(const Counted after, counted());
  set_bars(before, after);
  report_.name = "promotion";
  report_.latencies = total_.latencies;
  report_.tier_bytes = total_.tier_bytes;
  report_.extra["chunk_bytes"] = rig_.chunk_bytes;
  report_.extra["layers"] = options_.layers;
  report_.extra["connections"] = options_.connections;
  report_.extra["depth"] = options_.depth;
  TERRACE_RETURN_IF_ERROR(fetch_and_compare(&rig_, session_.get(), keys_).status());
  TERRACE_RETURN_IF_ERROR(say_verified(session_.get(), &report_));
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_promotion(const ChunkBenchOptions& options, const Globals& globals) {
  PromotionBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
