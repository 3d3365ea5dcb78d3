// Goal: chunks leave one engine's paged KV cache and arrive in another's, block by block, whatever
// the layouts of the two are, in requests that a list of fragments could not hold. Method: a real
// node; both caches and block tables random; every byte of every block compared.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::seconds;

constexpr uint32_t kChunks = 72, kLayers = 32, kChunkTokens = 64, kBlockTokens = 4;
constexpr uint32_t kBlocks = kChunks * kChunkTokens / kBlockTokens;
constexpr uint64_t kBlockBytes = kBlockTokens * 2 * 16 * 2;  // 2 heads, dim 16, bf16
constexpr uint64_t kCacheBytes = uint64_t{kBlocks} * kLayers * 2 * kBlockBytes;
static_assert(uint64_t{kBlocks} * kLayers * 2 > 65536, "as fragments it would be refused");

struct Cache {
  std::vector<PoolSegment> pool;
  std::vector<uint32_t> table;  // of all chunks, one after the other
  std::span<const uint32_t> blocks_of(uint32_t chunk) const {
    return std::span(table).subspan(chunk * (kBlocks / kChunks), kBlocks / kChunks);
  }
};

std::vector<uint32_t> random_table(uint64_t seed) {
  std::vector<uint32_t> table(kBlocks);
  std::iota(table.begin(), table.end(), 0);
  Prng prng(seed);
  for (size_t i = table.size(); i > 1; --i) std::swap(table[i - 1], table[prng.below(i)]);
  return table;
}

/// Plane p begins `plane_stride` * p behind `offset`.
Cache cache_of(RegionId region, uint64_t offset, uint64_t plane_stride, uint64_t block_stride,
               uint64_t seed) {
  Cache cache{{}, random_table(seed)};
  for (uint16_t plane = 0; plane < kLayers * 2; ++plane) {
    cache.pool.push_back({static_cast<uint16_t>(plane / 2),
                          plane % 2 == 0 ? SectionKind::k_plane : SectionKind::v_plane, region,
                          offset + plane * plane_stride, block_stride, kBlockBytes});
  }
  return cache;
}

/// Each plane has all its blocks together, as FlashAttention keeps them.
Cache plane_major(RegionId region, uint64_t offset) {
  return cache_of(region, offset, kBlocks * kBlockBytes, kBlockBytes, 1);
}

/// Each block has all its planes together, across layers.
Cache block_major(RegionId region, uint64_t offset) {
  return cache_of(region, offset, kBlockBytes, kLayers * 2 * kBlockBytes, 2);
}

Fingerprint model() {
  Fingerprint fingerprint;
  fingerprint.model_id = "paged";
  fingerprint.geometry.tokens_per_chunk = kChunkTokens;
  fingerprint.geometry.layers.assign(kLayers, {2, 16, Dtype::bf16, Attention::gqa, 0, -1, 0});
  return fingerprint;
}

bool same_block(std::span<const std::byte> memory, const Cache& a, const Cache& b, size_t plane,
                size_t position) {
  const auto at = [&](const Cache& cache) {
    const PoolSegment& segment = cache.pool[plane];
    return memory.subspan(segment.offset + cache.table[position] * segment.block_stride,
                          kBlockBytes);
  };
  return std::ranges::equal(at(a), at(b));
}

class Paged : public OverEachPath {
 protected:
  Paged()
      : node_({"--dram-bytes", "256MiB"}),
        client_(node_.endpoint(), 2 * kCacheBytes, model()),
        from_(plane_major(client_.region(), 0)),
        to_(block_major(client_.region(), kCacheBytes)) {
    Prng(7).fill(client_.memory().first(kCacheBytes));
    const std::vector<uint32_t> tokens(kChunks * kChunkTokens, 5);
    keys_ = *client_.sdk().prefix_keys(client_.ns(), tokens);
  }
  Completion finish(const StatusOr<OpId>& op) {
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    if (!op.ok()) return {};
    auto done = client_.sdk().wait(*op, seconds(20));
    EXPECT_TRUE(done.ok());
    return done.ok() ? *std::move(done) : Completion{};
  }
  StatusOr<OpId> put(const PutOptions& options) {
    std::vector<PutItem> items(kChunks);
    for (uint32_t i = 0; i < kChunks; ++i) {
      items[i].key = keys_[i];
      items[i].block_ids = from_.blocks_of(i);
    }
    return client_.sdk().put(client_.ns(), items, options);
  }

  NodeProcess node_;
  TestClient client_;
  Cache from_, to_;
  std::vector<ChunkKey> keys_;
};

TEST_P(Paged, FromOneLayoutIntoAnother) {
  PutOptions put_options;
  put_options.pool = from_.pool;
  const Completion stored = finish(put(put_options));
  ASSERT_TRUE(stored.status.ok()) << stored.status.to_string();
  EXPECT_EQ(stored.bytes, kCacheBytes);
  std::vector<FetchItem> items;
  for (uint32_t i = 0; i < kChunks; ++i) items.push_back({keys_[i], {}, to_.blocks_of(i)});
  FetchOptions options;
  options.pool = to_.pool;
  const auto op = client_.sdk().fetch(client_.ns(), items, options);
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    ASSERT_TRUE(client_.sdk().wait_layer(*op, layer, seconds(10)).ok()) << layer;
    for (size_t position = 0; position < kBlocks; ++position) {
      ASSERT_TRUE(same_block(client_.memory(), from_, to_, 2 * layer, position));
      ASSERT_TRUE(same_block(client_.memory(), from_, to_, 2 * layer + 1, position));
    }
  }
  const Completion done = finish(op);
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  EXPECT_EQ(done.bytes, kCacheBytes);
}

TEST_P(Paged, LayerByLayerWhileTheyAreComputed) {
  PutOptions options;
  options.pool = from_.pool;
  options.sources_ready = false;
  const auto op = put(options);
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t i = 0; i < kChunks; ++i) {
      ASSERT_TRUE(client_.sdk().source_ready(*op, i, 2 * layer, 2).ok());
    }
  }
  ASSERT_TRUE(finish(op).status.ok());
  const FetchItem last{keys_.back(), {}, to_.blocks_of(kChunks - 1)};
  FetchOptions into;
  into.pool = to_.pool;
  ASSERT_TRUE(finish(client_.sdk().fetch(client_.ns(), {&last, 1}, into)).status.ok());
  for (size_t position = kBlocks - kBlocks / kChunks; position < kBlocks; ++position) {
    for (size_t plane = 0; plane < kLayers * 2; ++plane) {
      ASSERT_TRUE(same_block(client_.memory(), from_, to_, plane, position));
    }
  }
}

TEST_P(Paged, ABlockThatIsNotThereIsRefusedBeforeAnythingMoves) {
  std::vector<uint32_t> blocks(to_.blocks_of(0).begin(), to_.blocks_of(0).end());
  blocks[3] = kBlocks;  // one past the last
  const FetchItem item{keys_[0], {}, blocks};
  FetchOptions options;
  options.pool = to_.pool;
  auto op = client_.sdk().fetch(client_.ns(), {&item, 1}, options);
  EXPECT_EQ(op.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(op.status().message().find("item 0: a place of"), std::string::npos)
      << op.status().to_string();
  const FetchItem same[] = {{keys_[0], {}, to_.blocks_of(0)}, {keys_[1], {}, to_.blocks_of(0)}};
  op = client_.sdk().fetch(client_.ns(), same, options);
  EXPECT_NE(op.status().message().find("written to twice"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Paths, Paged, testing::Values(DataPath::tcp, DataPath::shm), name_of_path);
}  // namespace
}  // namespace terrace::e2e
