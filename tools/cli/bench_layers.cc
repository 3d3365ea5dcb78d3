#include "tools/cli/bench_layers.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/prng.h"
#include "tools/cli/bench_socket.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr double kFirstLayerMax = 1.3;  // times one layer alone
constexpr double kMedianGapsMax = 3;    // the p99 gap, in medians, or in ...
constexpr double kRawGapsMax = 1.5;     // ... p99 gaps of the raw stream; the larger one
constexpr milliseconds kTimeout{10'000};
constexpr uint32_t kTimesEach = 64;  // fetches of a kind and round

Status take(BenchSession* session, OpId op) {
  TERRACE_ASSIGN_OR_RETURN(const Completion completion, session->client().wait(op, kTimeout));
  return completion.status;
}
}  // namespace

Status LayerBench::alone(const ChunkRig& rig, uint32_t layers, BenchSession* session,
                         std::span<const ChunkKey> keys) {
  const SystemClock clock;
  for (uint32_t n = 0; n < kTimesEach; ++n) {
    const uint64_t place = n % keys.size();
    const Fragment layer{0, session->region(), place * rig.chunk_bytes, rig.chunk_bytes / layers};
    const Nanos begin = clock.now();
    TERRACE_ASSIGN_OR_RETURN(const OpId op, session->fetch(keys[place], {&layer, 1}));
    TERRACE_RETURN_IF_ERROR(session->client().wait_layer(op, 0, kTimeout));
    alone_.record(clock.now() - begin);
    TERRACE_RETURN_IF_ERROR(take(session, op));
  }
  return ok_status();
}

Status LayerBench::whole(const ChunkRig& rig, uint32_t layers, BenchSession* session,
                         std::span<const ChunkKey> keys) {
  const SystemClock clock;
  for (uint32_t n = 0; n < kTimesEach; ++n) {
    const uint64_t place = n % keys.size();
    Nanos last = clock.now();
    TERRACE_ASSIGN_OR_RETURN(const OpId op, session->fetch(keys[place], place, rig.chunk_bytes));
    for (uint32_t layer = 0; layer < layers; ++layer) {
      TERRACE_RETURN_IF_ERROR(session->client().wait_layer(op, layer, kTimeout));
      const Nanos now = clock.now();
      (layer == 0 ? first_ : gaps_).record(now - last);
      last = now;
    }
    TERRACE_RETURN_IF_ERROR(take(session, op));
  }
  return ok_status();
}

Status LayerBench::round(ChunkRig* rig, const ChunkBenchOptions& options, BenchSession* session,
                         std::span<const ChunkKey> keys) {
  LayerBench now;
  TERRACE_RETURN_IF_ERROR(now.alone(*rig, options.layers, session, keys));
  TERRACE_RETURN_IF_ERROR(now.whole(*rig, options.layers, session, keys));
  // ib_write_bw does not say when its pieces came, so over RDMA the gaps are shown, not judged.
  if (options.transport != "rdma") {
    StreamOptions stream{options.connections, rig->duration / 4};
    stream.piece_gaps = &now.raw_gaps_;
    TERRACE_RETURN_IF_ERROR(
        stream_over_sockets(stream, rig->source.span(), rig->destination.span()).status());
  }
  first_ratios_.push_back(ratio_of(microseconds_of(now.first_.percentile(500)),
                                   microseconds_of(now.alone_.percentile(500))));
  const double allowed = std::max(kMedianGapsMax * microseconds_of(now.gaps_.percentile(500)),
                                  kRawGapsMax * microseconds_of(now.raw_gaps_.percentile(990)));
  jitters_.push_back(ratio_of(microseconds_of(now.gaps_.percentile(990)), allowed));
  bytes_ += kTimesEach * (rig->chunk_bytes + rig->chunk_bytes / options.layers);
  alone_.merge(now.alone_);
  first_.merge(now.first_);
  gaps_.merge(now.gaps_);
  raw_gaps_.merge(now.raw_gaps_);
  return ok_status();
}

void LayerBench::report(bool bars, BenchReport* report) const {
  report->extra["layer_alone_p50_us"] = microseconds_of(alone_.percentile(500));
  report->extra["first_layer_p50_us"] = microseconds_of(first_.percentile(500));
  report->extra["first_layer_p99_us"] = microseconds_of(first_.percentile(990));
  report->extra["layer_gap_p50_us"] = microseconds_of(gaps_.percentile(500));
  report->extra["layer_gap_p99_us"] = microseconds_of(gaps_.percentile(990));
  if (raw_gaps_.count() > 0) {
    report->extra["raw_piece_gap_p99_us"] = microseconds_of(raw_gaps_.percentile(990));
  }
  if (!bars) return;
  report->bars.push_back({"first layer / one layer alone, p50", median(first_ratios_),
                          Bar::Sense::at_most, kFirstLayerMax});
  if (raw_gaps_.count() == 0) return;
  report->bars.push_back(
      {"layer gap p99 / max(3 medians, 1.5 raw p99)", median(jitters_), Bar::Sense::at_most, 1});
}

StatusOr<PagedCache> paged_cache(const ChunkRig& rig, uint32_t tokens_per_block, RegionId region) {
  const Geometry& geometry = rig.fingerprint.geometry;
  if (tokens_per_block == 0 || geometry.tokens_per_chunk % tokens_per_block != 0) {
    return error(StatusCode::kInvalidArgument,
                 "--block-tokens " + std::to_string(tokens_per_block) + ": a chunk has " +
                     std::to_string(geometry.tokens_per_chunk) + " tokens");
  }
  const uint32_t per_chunk = geometry.tokens_per_chunk / tokens_per_block;
  PagedCache cache;
  uint64_t plane_begin = 0;
  for (const SectionSpec& section : sections_of(geometry, geometry.tokens_per_chunk)) {
    const uint64_t block_bytes = section.bytes / per_chunk;
    cache.pool.push_back(
        {section.layer, section.kind, region, plane_begin, block_bytes, block_bytes});
    plane_begin += section.bytes * rig.chunks;
  }
  std::vector<uint32_t> blocks(rig.chunks * per_chunk);
  std::iota(blocks.begin(), blocks.end(), 0);
  Prng prng(1);
  for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[prng.below(i)]);
  for (auto at = blocks.begin(); at != blocks.end(); at += per_chunk) {
    cache.blocks.emplace_back(at, at + per_chunk);
  }
  return cache;
}

Status expect_in_cache(ChunkRig* rig, const PagedCache& cache) {
  for (size_t chunk = 0; chunk < cache.blocks.size(); ++chunk) {
    const std::byte* from = rig->source.data() + chunk * rig->chunk_bytes;
    for (const PoolSegment& plane : cache.pool) {
      for (const uint32_t block : cache.blocks[chunk]) {
        const std::byte* const there =
            rig->destination.data() + plane.offset + block * plane.block_stride;
        if (std::memcmp(from, there, plane.block_bytes) != 0) {
          return error(StatusCode::kDataLoss, "block " + std::to_string(block) +
                                                  " of a paged fetch is not what was stored");
        }
        from += plane.block_bytes;
      }
    }
  }
  return ok_status();
}
}  // namespace terrace
