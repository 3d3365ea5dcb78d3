// Goal: a real node and the real SDK, over real sockets: what was stored comes back, from every
// tier, layer by layer, and is found, listed, leased and erased as the SDK's page says. Method: one
// terraced per test with its own directory; every fetched byte compared.
#include <gtest/gtest.h>
#include <poll.h>

#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<std::string> two_tiers(const ScratchDirectory& scratch) {
  return {"--data-directory", scratch.path(), "--nvme-bytes", "256MiB",
          "--dram-bytes",     "128MiB",       "--slab-bytes", "64MiB"};
}

class RoundTrip : public OverEachPath {};

TEST_P(RoundTrip, SizesFromOneByteToManyMegabytes) {
  ScratchDirectory scratch;
  NodeProcess node(two_tiers(scratch));
  TestClient client(node.endpoint());
  for (const uint64_t bytes : {1ull, 4095ull, 4096ull, 65536ull, 65537ull, 1048576ull, 1048577ull,
                               5000001ull, 33554432ull}) {
    SCOPED_TRACE(bytes);
    const std::string name = "object-" + std::to_string(bytes);
    ASSERT_EQ(client.put(name, bytes, Durability::memory), StatusCode::kOk);
    ASSERT_EQ(client.fetch(name, bytes), StatusCode::kOk);
    ASSERT_EQ(client.put(name, bytes, Durability::memory), StatusCode::kAlreadyExists);
  }
  EXPECT_EQ(client.fetch("never stored", 10), StatusCode::kNotFound);
}

TEST_P(RoundTrip, ServesFromNvmeWhatDramNoLongerHolds) {
  ScratchDirectory scratch;
  auto flags = two_tiers(scratch);
  flags.insert(flags.end(), {"--promote-hits", "0"});
  NodeProcess node(flags);
  TestClient client(node.endpoint());
  constexpr uint64_t kBytes = 8u << 20;
  for (int i = 0; i < 24; ++i) {  // 192 MiB through 128 MiB of dram
    ASSERT_EQ(client.put("o" + std::to_string(i), kBytes, Durability::nvme, 16), StatusCode::kOk)
        << i;
  }
  uint64_t nvme_bytes = 0;
  for (int i = 0; i < 24; ++i) {
    Completion completion;
    ASSERT_EQ(client.fetch("o" + std::to_string(i), kBytes, &completion), StatusCode::kOk) << i;
    nvme_bytes += completion.tier_bytes[static_cast<size_t>(Tier::nvme)];
  }
  EXPECT_GT(nvme_bytes, 0u);
}

TEST_P(RoundTrip, FragmentsScatterAndPartsOfObjectsWork) {
  NodeProcess node({});
  TestClient client(node.endpoint());
  constexpr uint64_t kBytes = 1'000'000;
  ASSERT_EQ(client.put("scattered", kBytes, Durability::memory, 7), StatusCode::kOk);
  const auto wanted = TestClient::content("scattered", kBytes);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::fill_n(client.memory().begin(), 4u << 20, std::byte{0x5A});
    std::vector<Fragment> fragments;
    uint64_t at = prng.below(1000);
    uint64_t memory_at = 3'000'000;
    while (at < kBytes && fragments.size() < 300) {
      const uint64_t length = std::min<uint64_t>(1 + prng.below(40'000), kBytes - at);
      memory_at -= length;  // backwards, so that nothing is in order
      fragments.push_back({at, client.region(), memory_at, length});
      at += length + prng.below(3000);
      memory_at -= std::min<uint64_t>(memory_at, prng.below(100));
      if (memory_at < 50'000) break;
    }
    const FetchItem item{client.key("scattered"), fragments};
    const auto op = client.sdk().fetch(client.ns(), {&item, 1}, {});
    ASSERT_TRUE(op.ok()) << op.status().to_string();
    const auto done = client.sdk().wait(*op, seconds(10));
    ASSERT_TRUE(done.ok());
    ASSERT_TRUE(done->status.ok()) << done->status.to_string();
    std::vector<std::byte> expected(4u << 20, std::byte{0x5A});
    for (const Fragment& f : fragments) {
      std::copy_n(wanted.begin() + static_cast<ptrdiff_t>(f.object_offset), f.length,
                  expected.begin() + static_cast<ptrdiff_t>(f.offset));
    }
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), client.memory().begin()));
  }
}

TEST_P(RoundTrip, LookupMatchLeaseListAndErase) {
  NodeProcess node({});
  TestClient client(node.endpoint());
  std::vector<ChunkKey> keys;
  for (int i = 0; i < 6; ++i) {
    const std::string name = "chunk-" + std::to_string(i);
    keys.push_back(client.key(name));
    if (i == 4) continue;
    ASSERT_EQ(client.put(name, 5000, Durability::memory), StatusCode::kOk);
  }
  LookupOptions leased;
  leased.lease = seconds(5);
  auto op = client.sdk().lookup(client.ns(), keys, leased);
  auto done = client.sdk().wait(*op, seconds(5));
  ASSERT_TRUE(done.ok() && done->status.ok());
  ASSERT_EQ(done->keys.size(), 6u);
  EXPECT_EQ(done->keys[0].bytes, 5000u);
  EXPECT_EQ(done->keys[4].code, StatusCode::kNotFound);
  EXPECT_NE(done->lease, kNoLease);
  client.sdk().release(done->lease);

  const GroupKeys all{keys, 0};
  op = client.sdk().match_prefix(client.ns(), {&all, 1}, {});
  done = client.sdk().wait(*op, seconds(5));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->longest, 4u);
  const GroupKeys trailing{keys, 1};
  op = client.sdk().match_prefix(client.ns(), {&trailing, 1}, {});
  done = client.sdk().wait(*op, seconds(5));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->longest, 6u);
  EXPECT_EQ(done->restorable, (std::vector<bool>{true, true, true, true, false, true}));

  std::string cursor;
  size_t listed = 0;
  do {
    op = client.sdk().list(client.ns(), cursor, 2, {});
    done = client.sdk().wait(*op, seconds(5));
    ASSERT_TRUE(done.ok() && done->status.ok());
    listed += done->entries.size();
    cursor = done->cursor;
  } while (!cursor.empty());
  EXPECT_EQ(listed, 5u);

  op = client.sdk().erase(client.ns(), keys, {});
  done = client.sdk().wait(*op, seconds(5));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->key_codes[0], StatusCode::kOk);
  EXPECT_EQ(done->key_codes[4], StatusCode::kNotFound);
  EXPECT_EQ(client.fetch("chunk-0", 5000), StatusCode::kNotFound);
}

TEST_P(RoundTrip, LayersBecomeReadyInOrderAndTheEventFdTells) {
  Fingerprint model;
  model.model_id = "tiny";
  model.geometry.tokens_per_chunk = 64;
  model.geometry.layers.assign(12, {4, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  NodeProcess node({});
  TestClient client(node.endpoint(), 64u << 20, model);
  const uint64_t bytes = total_bytes(sections_of(model.geometry, 64));
  const auto wanted = TestClient::content("chunk", bytes);
  std::copy(wanted.begin(), wanted.end(), client.memory().begin());
  const std::vector<uint32_t> tokens(64, 7);
  const auto keys = client.sdk().prefix_keys(client.ns(), tokens);
  ASSERT_TRUE(keys.ok());
  const Fragment whole{0, client.region(), 0, bytes};
  PutItem put;
  put.key = (*keys)[0];
  put.fragments = {&whole, 1};
  PutOptions layerwise;
  layerwise.sources_ready = false;
  auto op = client.sdk().put(client.ns(), {&put, 1}, layerwise);
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  for (uint32_t layer = 0; layer < 12; ++layer) {
    ASSERT_TRUE(client.sdk().source_ready(*op, 0, 2 * layer, 2).ok());
  }
  auto done = client.sdk().wait(*op, seconds(10));
  ASSERT_TRUE(done.ok());
  ASSERT_TRUE(done->status.ok()) << done->status.to_string();

  const Fragment target{0, client.region(), 16u << 20, bytes};
  const FetchItem item{(*keys)[0], {&target, 1}};
  op = client.sdk().fetch(client.ns(), {&item, 1}, {});
  ASSERT_TRUE(op.ok());
  for (uint32_t layer = 0; layer < 12; ++layer) {
    ASSERT_TRUE(client.sdk().wait_layer(*op, layer, seconds(10)).ok()) << layer;
    const uint64_t end = bytes / 12 * (layer + 1);  // all layers are equal
    ASSERT_TRUE(std::equal(wanted.begin(), wanted.begin() + static_cast<ptrdiff_t>(end),
                           client.memory().begin() + (16u << 20)));
  }
  pollfd event{client.sdk().event_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&event, 1, 10'000), 1);
  std::array<Completion, 4> out;
  ASSERT_EQ(client.sdk().drain(out), 1u);
  EXPECT_EQ(out[0].op, *op);
  EXPECT_EQ(out[0].bytes, bytes);
}

INSTANTIATE_TEST_SUITE_P(Paths, RoundTrip, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
