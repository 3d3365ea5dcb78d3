// tools/cli/bench_chunks.h - what fetch and put measure with: a node, chunks of a geometry, and the
// memory they come from and go to. Single-threaded.
#pragma once
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_node.h"
#include "tools/cli/bench_session.h"

namespace terrace {

/// Members are destroyed last to first: sessions end before the memory that they borrow.
struct ChunkRig {
  uint64_t chunk_bytes = 0;
  uint64_t chunks = 0;  // of the working set
  Fingerprint fingerprint;
  uint64_t run = 0;           // makes the keys this run's own
  AlignedBuffer source;       // chunk i at i * chunk_bytes
  AlignedBuffer destination;  // as long
  std::unique_ptr<BenchNode> node;

  Nanos duration{0};  // of a round
};

/// Checks the options, makes the memories and fills the source, starts the node. `node` says its
/// tiers. kInvalidArgument names the option.
StatusOr<ChunkRig> make_chunk_rig(const ChunkBenchOptions& options, const Globals& globals,
                                  const BenchNodeOptions& node);
/// A session of the rig's namespace over `memory`.
StatusOr<std::unique_ptr<BenchSession>> open_session(const ChunkRig& rig,
                                                     const ChunkBenchOptions& options,
                                                     std::span<std::byte> memory, bool verify);
/// Puts all `keys`, the i-th one from place i of the session's memory. As BenchSession::run.
Status store_all(const ChunkRig& rig, BenchSession* session, std::span<const ChunkKey> keys,
                 uint32_t depth, Durability durability);
/// What the session's client verified, after all chunks were compared. kDataLoss: a unit failed.
Status say_verified(BenchSession* session, BenchReport* report);
/// A figure of a loop: its bytes over its seconds, and the CPU time over its bytes.
Figure figure_of(const LoopResult& result, Nanos cpu);
/// Bytes for a dram tier that holds `bytes` of objects with room to spare.
uint64_t dram_for(uint64_t bytes);
/// Fetches all `keys` into the wiped destination and compares it with the source: the bytes that
/// came back. kDataLoss when one differs.
StatusOr<LoopResult> fetch_and_compare(ChunkRig* rig, BenchSession* session,
                                       std::span<const ChunkKey> keys);
}  // namespace terrace
