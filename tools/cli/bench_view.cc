// `terrace bench fetch --transport view`: how soon a chunk of the dram tier can be read where it
// lies, beside a ping-pong of messages as long over sockets.
#include <algorithm>
#include <memory>

#include "base/limits.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_socket.h"
#include "tools/cli/connection.h"

namespace terrace {
namespace {
constexpr double kReadyMaxUs = 20;  // or so many ping-pongs, whichever is longer
constexpr double kPingPongs = 3;
constexpr size_t kRequestBytes = 32 + 60;  // a frame with a ViewRequest of one key
constexpr milliseconds kTimeout{10'000};

class ViewBench {
 public:
  ViewBench(const ChunkBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  Status set_up();
  Status round(uint32_t number);
  /// Asks for one chunk, and lets go of it; the bytes of its description go to `reply_bytes`.
  Status view_once(uint64_t n, bool verify, Latencies* ready);
  StatusOr<uint64_t> bytes_sent() const;

  const ChunkBenchOptions options_;
  const Globals globals_;
  ChunkRig rig_;
  std::vector<ChunkKey> keys_;
  std::unique_ptr<BenchSession> session_;
  size_t reply_bytes_ = 0;
  uint64_t verified_ = 0;
  Latencies ready_;
  std::vector<double> ready_us_, ping_us_, allowed_;
  BenchReport report_;
};

Status ViewBench::set_up() {
  BenchNodeOptions node;
  node.dram_bytes = dram_for(options_.working_set_mib * kMiB);
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(options_, globals_, node));
  keys_ = bench_keys(rig_.run, 0, rig_.chunks);
  TERRACE_ASSIGN_OR_RETURN(session_, open_session(rig_, options_, rig_.source.span(), true));
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.operations_max = keys_.size();
  const Submit put = [&](uint64_t n) {
    return session_->put(keys_[n], n, rig_.chunk_bytes, Durability::memory);
  };
  TERRACE_RETURN_IF_ERROR(session_->run(loop, put).status());
  // Every chunk once, every byte of it: what is timed later is what was checked here.
  for (uint64_t n = 0; n < keys_.size(); ++n) {
    TERRACE_RETURN_IF_ERROR(view_once(n, true, nullptr));
  }
  return ok_status();
}

Status ViewBench::view_once(uint64_t n, bool verify, Latencies* ready) {
  const SystemClock clock;
  const std::span<const ChunkKey> key(&keys_[n % keys_.size()], 1);
  const Nanos begin = clock.now();
  TERRACE_ASSIGN_OR_RETURN(const OpId op, session_->client().view(session_->ns(), key, {}));
  TERRACE_ASSIGN_OR_RETURN(const Completion done, session_->client().wait(op, kTimeout));
  if (ready != nullptr) ready->record(clock.now() - begin);
  TERRACE_RETURN_IF_ERROR(done.status);
  const ObjectView& view = done.views.at(0);
  if (verify) {
    TERRACE_RETURN_IF_ERROR(session_->client().verify(view.id));
    verified_ += done.bytes;
    size_t pieces = 0;
    for (const ViewedSection& section : view.sections) pieces += section.pieces.size();
    // A frame with the reply: pieces, sections, checksums.
    reply_bytes_ = 32 + pieces * 24 + view.sections.size() * 12 + done.bytes / kCrcUnitBytes * 4;
  }
  if (!session_->client().view_valid(view.id)) {
    return error(StatusCode::kAborted, "a view was revoked though nobody else wants memory");
  }
  session_->client().release_view(view.id);
  return ok_status();
}

StatusOr<uint64_t> ViewBench::bytes_sent() const {
  TERRACE_ASSIGN_OR_RETURN(const auto status, node_status(rig_.node->globals()));
  const auto found = status.counters().find("shm_bytes_sent");
  if (found != status.counters().end()) return found->second;
  return error(StatusCode::kFailedPrecondition,
               "the node has no shared memory: see its option shm");
}

Status ViewBench::round(uint32_t number) {
  const SystemClock clock;
  PingPongOptions ping;
  ping.request_bytes = kRequestBytes;
  ping.reply_bytes = reply_bytes_;
  ping.duration = rig_.duration / 2;
  TERRACE_ASSIGN_OR_RETURN(const PingPong pong, ping_pong_over_sockets(ping));
  Latencies ready;
  const Nanos end = clock.now() + rig_.duration / 2;
  for (uint64_t n = 0; clock.now() < end; ++n) {
    TERRACE_RETURN_IF_ERROR(view_once(n, false, &ready));
  }
  const double ready_us = microseconds_of(ready.percentile(500));
  const double ping_us = microseconds_of(pong.latencies.percentile(500));
  ready_us_.push_back(ready_us);
  ping_us_.push_back(ping_us);
  allowed_.push_back(ratio_of(ready_us, std::max(kReadyMaxUs, kPingPongs * ping_us)));
  ready_.merge(ready);
  report_.rounds.push_back({{"round", number}, {"ready_us", ready_us}, {"ping_pong_us", ping_us}});
  return ok_status();
}

StatusOr<BenchReport> ViewBench::run() {
  TERRACE_RETURN_IF_ERROR(set_up());
  TERRACE_ASSIGN_OR_RETURN(const uint64_t before, bytes_sent());
  Progress progress("bench fetch", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  TERRACE_ASSIGN_OR_RETURN(const uint64_t after, bytes_sent());
  report_.name = "fetch view dram";
  report_.latencies = ready_;
  report_.bytes_verified = verified_;
  report_.bytes_verified_by = "client (every chunk once, where it lies)";
  report_.extra["ready_p50_us"] = median(ready_us_);
  report_.extra["ping_pong_p50_us"] = median(ping_us_);
  report_.extra["reply_bytes"] = reply_bytes_;
  report_.extra["chunk_bytes"] = rig_.chunk_bytes;
  report_.bars.push_back(
      {"ready p50 / max(20 us, 3 socket ping-pongs)", median(allowed_), Bar::Sense::at_most, 1});
  report_.bars.push_back(
      {"bytes copied", static_cast<double>(after - before), Bar::Sense::at_most, 0});
  const Status erased = session_->erase_all(keys_);
  if (!erased.ok()) return erased;
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_view(const ChunkBenchOptions& options, const Globals& globals) {
  ViewBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
