// `terrace bench put`: whole chunks out of registered memory into one tier of a node, beside raw
// sockets and, for nvme, fio with the same durability.
#include <algorithm>
#include <memory>
#include <optional>
#include <thread>

#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_fio.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_socket.h"

namespace terrace {
namespace {
constexpr double kRatioMin = 0.85;
constexpr double kDeviceShareMin = 0.99;
constexpr milliseconds kFioStartsWithin{1'000};
constexpr uint64_t kCachedBytesMax = kMiB;
// What a tier has beyond a round, so that no put waits for an eviction.
constexpr uint64_t kDramBytes = 3 * kGiB;
constexpr uint64_t kNvmeBytes = 6 * kGiB;
constexpr uint64_t kSmallDramBytes = 256 * kMiB;

class PutBench {
 public:
  PutBench(const ChunkBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  bool nvme() const { return options_.tier == Tier::nvme; }
  Status set_up();
  Status round(uint32_t number);
  StatusOr<Figure> put_round(bool timed);
  StatusOr<Figure> disk_beside_socket(double gb_per_s);
  Status proof_of_device();
  void finish();

  const ChunkBenchOptions options_;
  const Globals globals_;
  ChunkRig rig_;
  std::unique_ptr<BenchSession> writer_;
  std::unique_ptr<BenchSession> reader_;
  std::optional<FioFile> fio_;
  uint64_t next_key_ = 0;
  uint64_t round_chunks_ = 0;  // at most so many, by the tier's size
  uint64_t written_before_ = 0;
  uint64_t stored_ = 0;  // bytes since written_before_
  uint64_t compared_ = 0;
  Nanos node_cpu_{0};
  Latencies latencies_;
  std::vector<Figure> ours_, socket_, disk_, disk_beside_;
  BenchReport report_;
};

Status PutBench::set_up() {
  BenchNodeOptions node;
  const uint64_t in_flight = options_.depth * options_.chunk_mib * kMiB;
  node.dram_bytes = nvme() ? std::max(kSmallDramBytes, dram_for(in_flight)) : kDramBytes;
  node.nvme_bytes = nvme() ? kNvmeBytes : 0;
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(options_, globals_, node));
  const uint64_t capacity = nvme() ? kNvmeBytes : kDramBytes;
  round_chunks_ = std::max<uint64_t>(1, capacity / 4 * 3 / rig_.chunk_bytes);
  TERRACE_ASSIGN_OR_RETURN(writer_, open_session(rig_, options_, rig_.source.span(), true));
  TERRACE_ASSIGN_OR_RETURN(reader_, open_session(rig_, options_, rig_.destination.span(), true));
  if (nvme()) {
    const uint64_t bytes = rig_.chunks * rig_.chunk_bytes;
    TERRACE_ASSIGN_OR_RETURN(
        FioFile file, FioFile::create(rig_.node->directory(), bytes, FioFile::Content::zeroes));
    fio_.emplace(std::move(file));
  }
  TERRACE_RETURN_IF_ERROR(put_round(false).status());  // first touch of the tier's memory
  if (nvme() && rig_.node->own()) {
    TERRACE_ASSIGN_OR_RETURN(written_before_, io_of(rig_.node->pid(), "write_bytes"));
  }
  return ok_status();
}

StatusOr<Figure> PutBench::put_round(bool timed) {
  const std::vector<ChunkKey> keys = bench_keys(rig_.run, next_key_, round_chunks_);
  next_key_ += keys.size();
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.duration = timed ? rig_.duration : Nanos(0);
  loop.operations_max = keys.size();
  const Durability durability = nvme() ? Durability::nvme : Durability::memory;
  const Nanos cpu = rig_.node->cpu_time();
  const Nanos node_cpu = rig_.node->own() ? cpu_time_of(rig_.node->pid()) : Nanos(0);
  TERRACE_ASSIGN_OR_RETURN(const LoopResult result, writer_->run(loop, [&](uint64_t n) {
    return writer_->put(keys[n], n % rig_.chunks, rig_.chunk_bytes, durability);
  }));
  const Figure figure = figure_of(result, rig_.node->cpu_time() - cpu);
  const Nanos node_used = rig_.node->own() ? cpu_time_of(rig_.node->pid()) - node_cpu : Nanos(0);
  const std::span<const ChunkKey> put = std::span(keys).first(result.operations);
  if (result.bytes != put.size() * rig_.chunk_bytes) {
    return error(StatusCode::kFailedPrecondition, "not every byte was stored");
  }
  TERRACE_RETURN_IF_ERROR(writer_->expect_in(put, options_.tier));
  // The first chunks of the round are read back whole: they lie in the source's order.
  TERRACE_ASSIGN_OR_RETURN(const LoopResult back, fetch_and_compare(&rig_, reader_.get(), put));
  TERRACE_RETURN_IF_ERROR(writer_->erase_all(put));
  if (!timed) return figure;
  stored_ += result.bytes;
  node_cpu_ += node_used;
  compared_ += back.bytes;
  latencies_.merge(result.latencies);
  report_.tier_bytes[static_cast<size_t>(options_.tier)] += result.bytes;
  return figure;
}

Status PutBench::round(uint32_t number) {
  Json json = {{"round", number}};
  const StreamOptions stream{options_.connections, rig_.duration};
  TERRACE_ASSIGN_OR_RETURN(const Figure socket, stream_over_sockets(stream, rig_.source.span(),
                                                                    rig_.destination.span()));
  socket_.push_back(socket);
  json["raw_socket"] = json_of(socket);
  TERRACE_ASSIGN_OR_RETURN(const Figure ours, put_round(true));
  ours_.push_back(ours);
  json["terrace"] = json_of(ours);
  if (fio_) {
    TERRACE_ASSIGN_OR_RETURN(const Figure disk, fio_->write_for(rig_.duration));
    disk_.push_back(disk);
    json["fio"] = json_of(disk);
    TERRACE_ASSIGN_OR_RETURN(const Figure beside, disk_beside_socket(ours.gb_per_s));
    disk_beside_.push_back(beside);
    json["fio_beside_raw_socket"] = json_of(beside);
  }
  report_.rounds.push_back(json);
  return ok_status();
}

/// What the disk takes while raw sockets carry what we carried: a put needs both at once, and they
/// share cores and memory.
StatusOr<Figure> PutBench::disk_beside_socket(double gb_per_s) {
  StreamOptions stream{options_.connections, rig_.duration + kFioStartsWithin, gb_per_s * 1e9};
  StatusOr<Figure> socket = error(StatusCode::kInternal, "never streamed");
  std::thread streaming(
      [&] { socket = stream_over_sockets(stream, rig_.source.span(), rig_.destination.span()); });
  StatusOr<Figure> disk = fio_->write_for(rig_.duration);
  streaming.join();
  TERRACE_RETURN_IF_ERROR(socket.status());
  return disk;
}

Status PutBench::proof_of_device() {
  if (!rig_.node->own()) {
    report_.unmeasured.push_back("page cache and device writes of a node that is not ours");
    return ok_status();
  }
  TERRACE_ASSIGN_OR_RETURN(const uint64_t written, io_of(rig_.node->pid(), "write_bytes"));
  TERRACE_ASSIGN_OR_RETURN(const uint64_t cached, cached_bytes(rig_.node->data_path()));
  report_.extra["page_cache_bytes"] = cached;
  report_.extra["device_write_bytes"] = written - written_before_;
  report_.extra["stored_bytes"] = stored_;
  report_.bars.push_back(
      {"bytes written to the device / bytes stored",
       ratio_of(static_cast<double>(written - written_before_), static_cast<double>(stored_)),
       Bar::Sense::at_least, kDeviceShareMin});
  report_.bars.push_back({"bytes of the data file in the page cache", static_cast<double>(cached),
                          Bar::Sense::at_most, static_cast<double>(kCachedBytesMax)});
  return ok_status();
}

void PutBench::finish() {
  report_.name = "put " + options_.transport + " " + name_of(options_.tier);
  report_.ours = median(ours_);
  const Figure socket = median(socket_);
  report_.ceiling = socket;
  report_.ceiling_name = "raw socket";
  report_.competitors.push_back({"raw socket", socket});
  if (fio_) {
    const Figure disk = median(disk_);
    report_.competitors.push_back({"fio 1 MiB write, fdatasync per 32 MiB", disk});
    report_.competitors.push_back({"fio beside raw sockets at our rate", median(disk_beside_)});
    if (disk.gb_per_s < socket.gb_per_s) {
      report_.ceiling = disk;
      report_.ceiling_name = "fio 1 MiB write";
    }
    const bool by_disk = report_.ceiling_name != "raw socket";
    report_.bars.push_back({"GB/s / " + report_.ceiling_name,
                            median_ratio(ours_, by_disk ? disk_ : socket_).gb_per_s,
                            Bar::Sense::at_least, kRatioMin});
    report_.bars.push_back({"GB/s / fio beside raw sockets",
                            median_ratio(ours_, disk_beside_).gb_per_s, Bar::Sense::at_least,
                            kRatioMin});
  }
  report_.latencies = latencies_;
  report_.bytes_verified = stored_;
  report_.bytes_verified_by = "node (CRC32C of every unit before the acknowledgement)";
  report_.extra["bytes_read_back_and_compared"] = compared_;
  report_.extra["node_cpu_s_per_gb"] =
      ratio_of(seconds_of(node_cpu_), static_cast<double>(stored_) / 1e9);
  report_.extra["chunk_bytes"] = rig_.chunk_bytes;
  report_.extra["layers"] = options_.layers;
  report_.extra["connections"] = options_.connections;
  report_.extra["depth"] = options_.depth;
}

StatusOr<BenchReport> PutBench::run() {
  TERRACE_RETURN_IF_ERROR(set_up());
  Progress progress("bench put", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  finish();
  if (nvme()) TERRACE_RETURN_IF_ERROR(proof_of_device());
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_put(const ChunkBenchOptions& options, const Globals& globals) {
  PutBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
