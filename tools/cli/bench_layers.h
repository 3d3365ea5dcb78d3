// tools/cli/bench_layers.h - what a fetch is to an engine that computes while it loads: when its
// first layer is there, how evenly the others follow, and what a paged cache costs beside one run
// of memory. Measured with one fetch in flight, beside the raw stream's own gaps. Single-threaded.
#pragma once
#include <span>
#include <vector>

#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_report.h"

namespace terrace {

class LayerBench {
 public:
  /// One round: layer 0 alone, whole chunks layer by layer, the raw stream. `session` delivers into
  /// the rig's destination.
  Status round(ChunkRig* rig, const ChunkBenchOptions& options, BenchSession* session,
               std::span<const ChunkKey> keys);
  /// Fetched in all rounds.
  uint64_t bytes() const { return bytes_; }
  /// Times and, with `bars`, what must hold of them.
  void report(bool bars, BenchReport* report) const;

 private:
  Status alone(const ChunkRig& rig, uint32_t layers, BenchSession* session,
               std::span<const ChunkKey> keys);
  Status whole(const ChunkRig& rig, uint32_t layers, BenchSession* session,
               std::span<const ChunkKey> keys);

  uint64_t bytes_ = 0;
  Latencies alone_, first_, gaps_, raw_gaps_;  // of all rounds, for the percentiles printed
  std::vector<double> first_ratios_;           // a round's p50 of first / alone
  std::vector<double> jitters_;                // a round's p99 gap / what is allowed
};

/// A paged KV cache in the rig's destination: its planes one after the other, each with the blocks
/// of all chunks; the blocks of a chunk lie anywhere in it, in random order.
struct PagedCache {
  std::vector<PoolSegment> pool;
  std::vector<std::vector<uint32_t>> blocks;  // of each chunk
};
/// kInvalidArgument: a chunk is not a whole number of blocks of `tokens_per_block`.
StatusOr<PagedCache> paged_cache(const ChunkRig& rig, uint32_t tokens_per_block, RegionId region);
/// kDataLoss: the cache does not hold every chunk of the source.
Status expect_in_cache(ChunkRig* rig, const PagedCache& cache);
}  // namespace terrace
