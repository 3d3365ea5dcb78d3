#include "tools/cli/bench_chunks.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "tools/cli/content.h"

namespace terrace {
namespace {
constexpr uint64_t kSlabBytes = 256 * kMiB;
constexpr uint32_t kCompareDepth = 2;

/// A view is a way to read over shared memory.
DataPath path_of(const std::string& transport) {
  if (transport == "rdma") return DataPath::rdma;
  return transport == "tcp" ? DataPath::tcp : DataPath::shm;
}

Status check(const ChunkBenchOptions& options) {
  const auto bad = [](const std::string& what) {
    return error(StatusCode::kInvalidArgument, what);
  };
  if (options.tier != Tier::dram && options.tier != Tier::nvme) {
    return bad(std::string("--tier ") + name_of(options.tier) + ": want dram or nvme");
  }
  if (options.chunk_mib == 0 || options.working_set_mib < options.chunk_mib ||
      options.working_set_mib % options.chunk_mib != 0) {
    return bad("--working-set-mib " + std::to_string(options.working_set_mib) +
               ": want a multiple of --chunk-mib");
  }
  return ok_status();
}
}  // namespace

StatusOr<ChunkRig> make_chunk_rig(const ChunkBenchOptions& options, const Globals& globals,
                                  const BenchNodeOptions& node) {
  TERRACE_RETURN_IF_ERROR(check(options));
  ChunkRig rig;
  rig.chunk_bytes = options.chunk_mib * kMiB;
  rig.chunks = options.working_set_mib / options.chunk_mib;
  rig.run = random_run();
  rig.duration = Nanos(static_cast<int64_t>(options.seconds_per_round * 1e9));
  TERRACE_ASSIGN_OR_RETURN(rig.fingerprint, chunk_fingerprint(rig.chunk_bytes, options.layers));
  const size_t bytes = rig.chunks * rig.chunk_bytes;
  TERRACE_ASSIGN_OR_RETURN(rig.source, AlignedBuffer::allocate(bytes));
  TERRACE_ASSIGN_OR_RETURN(rig.destination, AlignedBuffer::allocate(bytes));
  fill_content(rig.run, 0, rig.source.span());
  std::memset(rig.destination.data(), 0, bytes);  // every page is there before anything is timed
  TERRACE_ASSIGN_OR_RETURN(rig.node, BenchNode::start(globals, options, node));
  return rig;
}

StatusOr<std::unique_ptr<BenchSession>> open_session(const ChunkRig& rig,
                                                     const ChunkBenchOptions& options,
                                                     std::span<std::byte> memory, bool verify) {
  SessionOptions session;
  // One namespace per geometry: a node that is not ours may have met another one.
  session.ns = "bench-" + std::to_string(options.chunk_mib) + "m-" + std::to_string(options.layers);
  session.fingerprint = rig.fingerprint;
  session.connections = options.connections;
  session.verify = verify;
  session.memory = memory;
  Globals globals = rig.node->globals();
  globals.data_path = path_of(options.transport);
  return BenchSession::open(globals, session);
}

Status store_all(const ChunkRig& rig, BenchSession* session, std::span<const ChunkKey> keys,
                 uint32_t depth, Durability durability) {
  LoopOptions loop;
  loop.depth = depth;
  loop.operations_max = keys.size();
  const auto put = [&](uint64_t n) {
    return session->put(keys[n], n, rig.chunk_bytes, durability);
  };
  return session->run(loop, put).status();
}

Status say_verified(BenchSession* session, BenchReport* report) {
  const ClientStatistics statistics = session->client().statistics();
  report->bytes_verified = statistics.bytes_verified;
  report->bytes_verified_by = "client (CRC32C of every unit; all chunks compared at the end)";
  if (statistics.crc_failures == 0) return ok_status();
  return error(StatusCode::kDataLoss,
               std::to_string(statistics.crc_failures) + " units failed their CRC");
}

Figure figure_of(const LoopResult& result, Nanos cpu) {
  const double gb = static_cast<double>(result.bytes) / 1e9;
  return {.gb_per_s = ratio_of(gb, result.seconds), .cpu_s_per_gb = ratio_of(seconds_of(cpu), gb)};
}

uint64_t dram_for(uint64_t bytes) {
  const uint64_t wanted = bytes + bytes / 4 + kSlabBytes / 2;
  return (wanted + kSlabBytes - 1) / kSlabBytes * kSlabBytes;
}

StatusOr<LoopResult> fetch_and_compare(ChunkRig* rig, BenchSession* session,
                                       std::span<const ChunkKey> keys) {
  std::memset(rig->destination.data(), 0, rig->destination.size());
  LoopOptions loop;
  loop.depth = kCompareDepth;
  loop.operations_max = std::min<uint64_t>(keys.size(), rig->chunks);
  auto result =
      session->run(loop, [&](uint64_t n) { return session->fetch(keys[n], n, rig->chunk_bytes); });
  if (!result.ok()) return result;
  const size_t bytes = loop.operations_max * rig->chunk_bytes;
  if (result->bytes == bytes &&
      std::memcmp(rig->source.data(), rig->destination.data(), bytes) == 0) {
    return result;
  }
  return error(StatusCode::kDataLoss, "what came back is not what was stored");
}
}  // namespace terrace
