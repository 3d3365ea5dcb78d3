// `terrace bench fetch`: whole chunks from one tier of a node into registered memory, beside what
// the transport is made of (sockets, memcpy, ib_write_bw), fio (nvme) and Redis (dram over TCP) on
// the same bytes.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/copy_crc32c.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_fio.h"
#include "tools/cli/bench_layers.h"
#include "tools/cli/bench_memcpy.h"
#include "tools/cli/bench_perftest.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_redis.h"
#include "tools/cli/bench_socket.h"

namespace terrace {
namespace {
constexpr double kRatioMin = 0.85;
constexpr double kCopyRatioMin = 0.9;
constexpr double kCopyRatioMinUnfused = 0.75;
constexpr double kRdmaRatioMin = 0.7;
constexpr double kCpuRatioMax = 1.3;
constexpr double kRedisRatioMin = 1.5;
constexpr double kCrcCostMax = 0.10;
constexpr double kPagedMin = 0.8;
constexpr double kDeviceShareMin = 0.99;
// Identity blocks and what a tool looked at; the data itself would be hundreds of MiB.
constexpr uint64_t kCachedBytesMax = kMiB;
constexpr uint64_t kColdDramBytes = 16 * kMiB;

class FetchBench {
 public:
  FetchBench(const ChunkBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  bool tcp() const { return options_.transport == "tcp"; }
  bool shm() const { return options_.transport == "shm"; }
  bool rdma() const { return options_.transport == "rdma"; }
  /// What the transport's ceiling is called.
  std::string bare_name() const {
    return shm() ? "memcpy" : rdma() ? "ib_write_bw 1 MiB" : "raw socket";
  }
  std::string bare_field() const {
    return shm() ? "memcpy" : rdma() ? "ib_write_bw" : "raw_socket";
  }
  double bare_ratio_min() const;
  StatusOr<Figure> bare_round();
  bool nvme() const { return options_.tier == Tier::nvme; }
  Status set_up();
  Status load();
  Status warm_up();
  Status round(uint32_t number);
  StatusOr<Figure> fetch_round(BenchSession* session, const Submit& submit, LoopResult* total);
  Submit contiguous(BenchSession* session);
  Submit paged(BenchSession* session);
  Status compare_paged();
  Status check_tier(const LoopResult& result) const;
  Status finish();
  Status proof_of_device();
  void set_bars();

  const ChunkBenchOptions options_;
  const Globals globals_;
  ChunkRig rig_;
  std::vector<ChunkKey> keys_;
  std::unique_ptr<BenchSession> verified_;
  std::unique_ptr<BenchSession> unverified_;
  std::optional<RedisPeer> redis_;
  std::optional<FioFile> fio_;
  std::optional<Perftest> perftest_;
  uint64_t read_before_ = 0;
  uint64_t fetched_ = 0;  // by both sessions, since read_before_
  LoopResult total_;      // of the verified rounds
  std::vector<Figure> ours_, unverified_rounds_, paged_, bare_, redis_rounds_, hiredis_rounds_,
      disk_;
  PagedCache cache_;
  LayerBench layers_;
  BenchReport report_;
};

Status FetchBench::set_up() {
  BenchNodeOptions node;
  const uint64_t bytes = options_.working_set_mib * kMiB;
  if (nvme()) {
    node.dram_bytes = std::max(kGiB / 4, dram_for(options_.depth * options_.chunk_mib * kMiB));
    node.nvme_bytes = std::max(kGiB, dram_for(bytes));
    node.flags = {"--promote-hits", "255"};
  } else {
    node.dram_bytes = dram_for(bytes);
  }
  if (rdma()) {
    node.flags.insert(node.flags.end(), {"--rdma", "true"});
    TERRACE_ASSIGN_OR_RETURN(Perftest found, Perftest::find());
    report_.extra["rdma_device"] = found.device();
    perftest_.emplace(std::move(found));
  }
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(options_, globals_, node));
  keys_ = bench_keys(rig_.run, 0, rig_.chunks);
  TERRACE_RETURN_IF_ERROR(load());
  if (nvme() && rig_.node->own()) {
    // What is left of the puts in DRAM goes with the old process, and no chunk fits into the new
    // one's.
    rig_.node->set_dram_bytes(std::max(kMiB, std::min(kColdDramBytes, rig_.chunk_bytes / 2)));
    TERRACE_RETURN_IF_ERROR(rig_.node->restart(false));
  }
  const std::span<std::byte> into = rig_.destination.span();
  TERRACE_ASSIGN_OR_RETURN(verified_, open_session(rig_, options_, into, true));
  TERRACE_ASSIGN_OR_RETURN(unverified_, open_session(rig_, options_, into, false));
  TERRACE_ASSIGN_OR_RETURN(cache_, paged_cache(rig_, options_.block_tokens, verified_->region()));
  if (nvme()) {
    TERRACE_ASSIGN_OR_RETURN(
        FioFile file, FioFile::create(rig_.node->directory(), bytes, FioFile::Content::noise));
    fio_.emplace(std::move(file));
  } else if (options_.redis && tcp()) {
    RedisOptions redis;
    redis.connections = options_.connections;
    TERRACE_ASSIGN_OR_RETURN(RedisPeer peer, RedisPeer::start(redis, rig_.source.span()));
    redis_.emplace(std::move(peer));
  }
  return ok_status();
}

Status FetchBench::load() {
  TERRACE_ASSIGN_OR_RETURN(const auto session,
                           open_session(rig_, options_, rig_.source.span(), true));
  const Durability durability = nvme() ? Durability::nvme : Durability::memory;
  TERRACE_RETURN_IF_ERROR(store_all(rig_, session.get(), keys_, options_.depth, durability));
  return session->expect_in(keys_, options_.tier);
}

Status FetchBench::warm_up() {
  for (BenchSession* session : {verified_.get(), unverified_.get()}) {
    TERRACE_ASSIGN_OR_RETURN(const LoopResult result, fetch_and_compare(&rig_, session, keys_));
    TERRACE_RETURN_IF_ERROR(check_tier(result));
  }
  if (nvme() && rig_.node->own()) {
    TERRACE_ASSIGN_OR_RETURN(read_before_, io_of(rig_.node->pid(), "read_bytes"));
  }
  return ok_status();
}

/// Bytes from anywhere else make the figure a figure of something else.
Status FetchBench::check_tier(const LoopResult& result) const {
  const uint64_t from_tier = result.tier_bytes[static_cast<size_t>(options_.tier)];
  if (from_tier == result.bytes) return ok_status();
  return error(StatusCode::kFailedPrecondition, "only " + human_bytes(from_tier) + " of " +
                                                    human_bytes(result.bytes) + " came from " +
                                                    name_of(options_.tier));
}

Submit FetchBench::contiguous(BenchSession* session) {
  return [this, session](uint64_t n) {
    const uint64_t first = n * options_.batch % keys_.size();
    const uint64_t count = std::min<uint64_t>(options_.batch, keys_.size() - first);
    return session->fetch(std::span(keys_).subspan(first, count), first, rig_.chunk_bytes);
  };
}

Submit FetchBench::paged(BenchSession* session) {
  return [this, session](uint64_t n) {
    const uint64_t chunk = n % keys_.size();
    return session->fetch(keys_[chunk], cache_.pool, cache_.blocks[chunk]);
  };
}

/// Every block of every chunk, in the places it was asked for.
Status FetchBench::compare_paged() {
  std::fill_n(rig_.destination.data(), rig_.destination.size(), std::byte{0});
  LoopOptions loop;
  loop.operations_max = keys_.size();
  TERRACE_RETURN_IF_ERROR(verified_->run(loop, paged(verified_.get())).status());
  return expect_in_cache(&rig_, cache_);
}

StatusOr<Figure> FetchBench::fetch_round(BenchSession* session, const Submit& submit,
                                         LoopResult* total) {
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.duration = rig_.duration;
  const Nanos cpu = rig_.node->cpu_time();
  TERRACE_ASSIGN_OR_RETURN(const LoopResult result, session->run(loop, submit));
  const Figure figure = figure_of(result, rig_.node->cpu_time() - cpu);
  TERRACE_RETURN_IF_ERROR(check_tier(result));
  fetched_ += result.bytes;
  if (total != nullptr) total->add(result);
  return figure;
}

StatusOr<Figure> FetchBench::bare_round() {
  if (shm()) return copy_for(rig_.duration, rig_.source.span(), rig_.destination.span());
  if (rdma()) return perftest_->write_for(rig_.duration);
  const StreamOptions stream{options_.connections, rig_.duration};
  return stream_over_sockets(stream, rig_.source.span(), rig_.destination.span());
}

Status FetchBench::round(uint32_t number) {
  Json json = {{"round", number}};
  const auto keep = [&json](const std::string& name, const Figure& figure,
                            std::vector<Figure>* to) {
    to->push_back(figure);
    json[name] = json_of(figure);
  };
  TERRACE_ASSIGN_OR_RETURN(const Figure bare, bare_round());
  keep(bare_field(), bare, &bare_);
  TERRACE_ASSIGN_OR_RETURN(const Figure ours,
                           fetch_round(verified_.get(), contiguous(verified_.get()), &total_));
  keep("terrace", ours, &ours_);
  TERRACE_ASSIGN_OR_RETURN(const Figure unverified,
                           fetch_round(unverified_.get(), contiguous(unverified_.get()), nullptr));
  keep("terrace_unverified", unverified, &unverified_rounds_);
  TERRACE_ASSIGN_OR_RETURN(const Figure blocks,
                           fetch_round(verified_.get(), paged(verified_.get()), nullptr));
  keep("terrace_paged", blocks, &paged_);
  TERRACE_RETURN_IF_ERROR(layers_.round(&rig_, options_, verified_.get(), keys_));
  if (redis_) {
    TERRACE_ASSIGN_OR_RETURN(const Figure redis,
                             redis_->fetch_for(rig_.duration, rig_.destination.span()));
    keep("redis", redis, &redis_rounds_);
    TERRACE_ASSIGN_OR_RETURN(const Figure hiredis,
                             redis_->fetch_by_hiredis(rig_.duration, rig_.destination.span()));
    keep("redis_by_hiredis", hiredis, &hiredis_rounds_);
  }
  if (fio_) {
    TERRACE_ASSIGN_OR_RETURN(const Figure disk, fio_->read_for(rig_.duration));
    keep("fio", disk, &disk_);
  }
  report_.rounds.push_back(json);
  return ok_status();
}

Status FetchBench::proof_of_device() {
  if (!rig_.node->own()) {
    report_.unmeasured.push_back("page cache and device reads of a node that is not ours");
    return ok_status();
  }
  TERRACE_ASSIGN_OR_RETURN(const uint64_t read_after, io_of(rig_.node->pid(), "read_bytes"));
  TERRACE_ASSIGN_OR_RETURN(const uint64_t cached, cached_bytes(rig_.node->data_path()));
  report_.extra["page_cache_bytes"] = cached;
  report_.extra["device_read_bytes"] = read_after - read_before_;
  fetched_ += layers_.bytes();
  report_.extra["fetched_bytes"] = fetched_;
  report_.bars.push_back(
      {"bytes read from the device / bytes fetched",
       ratio_of(static_cast<double>(read_after - read_before_), static_cast<double>(fetched_)),
       Bar::Sense::at_least, kDeviceShareMin});
  report_.bars.push_back({"bytes of the data file in the page cache", static_cast<double>(cached),
                          Bar::Sense::at_most, static_cast<double>(kCachedBytesMax)});
  return ok_status();
}

double FetchBench::bare_ratio_min() const {
  if (shm()) return has_fused_copy() ? kCopyRatioMin : kCopyRatioMinUnfused;
  return rdma() ? kRdmaRatioMin : kRatioMin;
}

void FetchBench::set_bars() {
  report_.ours = median(ours_);
  const Figure bare = median(bare_);
  report_.ceiling = bare;
  report_.ceiling_name = bare_name();
  report_.competitors.push_back({bare_name(), bare});
  if (nvme()) {
    const Figure disk = median(disk_);
    report_.competitors.push_back({"fio 1 MiB read", disk});
    if (disk.gb_per_s < bare.gb_per_s) {
      report_.ceiling = disk;
      report_.ceiling_name = "fio 1 MiB read";
    }
  }
  report_.competitors.push_back({"terrace, CRC off", median(unverified_rounds_)});
  report_.competitors.push_back(
      {"terrace, paged, " + std::to_string(options_.block_tokens) + " tokens", median(paged_)});
  layers_.report(!nvme(), &report_);
  const bool by_disk = nvme() && report_.ceiling_name != bare_name();
  report_.bars.push_back({"GB/s / " + report_.ceiling_name,
                          median_ratio(ours_, by_disk ? disk_ : bare_).gb_per_s,
                          Bar::Sense::at_least, by_disk ? kRatioMin : bare_ratio_min()});
  if (nvme()) return;
  const double cpu = median_ratio(ours_, bare_).cpu_s_per_gb;
  if (rig_.node->own() && tcp()) {
    report_.bars.push_back({"CPU s/GB / " + bare_name(), cpu, Bar::Sense::at_most, kCpuRatioMax});
  } else if (rig_.node->own()) {
    report_.extra["cpu_ratio"] = cpu;
  } else {
    report_.unmeasured.push_back("CPU seconds of a node that is not ours");
  }
  report_.bars.push_back({"GB/s paged / contiguous", median_ratio(paged_, ours_).gb_per_s,
                          Bar::Sense::at_least, kPagedMin});
  const double crc_cost = 1 - median_ratio(ours_, unverified_rounds_).gb_per_s;
  report_.extra["crc_cost"] = crc_cost;
  report_.bars.push_back({"CRC's share of throughput", crc_cost, Bar::Sense::at_most, kCrcCostMax});
  if (!tcp()) return;
  if (!redis_) {
    report_.unmeasured.push_back("Redis (--no-redis)");
    return;
  }
  // The bar is what Redis's own C client gives, its copy into place included; a client of ours that
  // receives straight into place shows what the server alone could do.
  report_.competitors.push_back({"redis, hiredis, 2 MiB", median(hiredis_rounds_)});
  report_.competitors.push_back({"redis, our lean client", median(redis_rounds_)});
  report_.bars.push_back({"GB/s / redis by hiredis", median_ratio(ours_, hiredis_rounds_).gb_per_s,
                          Bar::Sense::at_least, kRedisRatioMin});
}

Status FetchBench::finish() {
  set_bars();
  report_.name = "fetch " + options_.transport + " " + name_of(options_.tier);
  report_.latencies = total_.latencies;
  report_.tier_bytes = total_.tier_bytes;
  report_.extra["chunk_bytes"] = rig_.chunk_bytes;
  report_.extra["layers"] = options_.layers;
  report_.extra["connections"] = options_.connections;
  report_.extra["depth"] = options_.depth;
  report_.extra["batch"] = options_.batch;
  report_.extra["working_set_bytes"] = rig_.chunks * rig_.chunk_bytes;
  if (nvme()) TERRACE_RETURN_IF_ERROR(proof_of_device());
  // The bytes of the last fetches too are those that were stored, and not only by their CRCs.
  TERRACE_RETURN_IF_ERROR(compare_paged());
  TERRACE_RETURN_IF_ERROR(fetch_and_compare(&rig_, verified_.get(), keys_).status());
  const Status verified = say_verified(verified_.get(), &report_);
  const Status erased = verified_->erase_all(keys_);
  return verified.ok() ? erased : verified;
}

StatusOr<BenchReport> FetchBench::run() {
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_RETURN_IF_ERROR(warm_up());
  Progress progress("bench fetch", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  TERRACE_RETURN_IF_ERROR(finish());
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_fetch(const ChunkBenchOptions& options, const Globals& globals) {
  if (options.transport == "view") return bench_view(options, globals);
  FetchBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
