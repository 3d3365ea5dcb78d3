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

/// Destinations of a paged KV cache: the planes of chunk `place` cut into blocks of
/// `tokens_per_block`, which lie in the memory in random order. kInvalidArgument: the chunk is not
/// a whole number of blocks.
StatusOr<std::vector<Fragment>> paged_places(const ChunkRig& rig, uint32_t tokens_per_block,
                                             RegionId region, uint64_t place);
/// kDataLoss: the destination does not hold chunk `place` of the source in these places.
Status expect_in_places(ChunkRig* rig, uint64_t place, std::span<const Fragment> places);
}  // namespace terrace
