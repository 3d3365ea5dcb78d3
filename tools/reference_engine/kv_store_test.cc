// Goal: KV goes out to a node and comes back through the SDK with its bits, and a node in trouble
// is a miss. Method: the real engine over a client whose node is a map that fails as told and
// delivers a layer only when it is waited for.
#include "tools/reference_engine/kv_store.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/clock.h"
#include "tools/reference_engine/engine.h"
#include "tools/reference_engine/fake_client.h"
#include "tools/reference_engine/testing.h"

namespace terrace {
namespace {
constexpr uint64_t kSeed = 41;
constexpr uint32_t kChunk = 32;

class KvStoreTest : public ::testing::Test {
 protected:
  KvStoreTest() {
    fake_store() = {};
    engine_ = *Engine::create(testing::tiny_model(kSeed), {kChunk, 512}, &clock_);
    client_ = *Client::open({});
    store_ = *KvStore::open(client_.get(), engine_->pool(), engine_->fingerprint(), {});
    prompt_ = testing::random_tokens(engine_->config(), 150, kSeed);
    cold_ = ask({4});
  }
  ~KvStoreTest() override {
    EXPECT_EQ(fake_store().leases_open, 0u);
    store_.reset();
    EXPECT_EQ(fake_store().regions_open, 0u);
  }
  Answer ask(const AnswerOptions& options) {
    auto answer = engine_->answer(prompt_, options);
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    return answer.ok() ? *std::move(answer) : Answer{};
  }
  void expect_cold_bits(const Answer& answer, const std::string& what) {
    EXPECT_EQ(
        std::memcmp(answer.logits.data(), cold_.logits.data(), cold_.logits.size() * sizeof(float)),
        0)
        << "seed " << kSeed << ": " << what;
    EXPECT_EQ(answer.tokens, cold_.tokens) << "seed " << kSeed << ": " << what;
  }
  ChunkKey key(size_t chunk) { return (*client_->prefix_keys(NamespaceId{1}, prompt_))[chunk]; }
  uint64_t chunk_bytes() const {
    return total_bytes(sections_of(engine_->fingerprint().geometry, kChunk));
  }

  SystemClock clock_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<KvStore> store_;
  std::vector<uint32_t> prompt_;
  Answer cold_;
};

TEST_F(KvStoreTest, WhatWasSavedComesBackLayerByLayer) {
  const Answer miss = ask({4, store_.get(), true, true});
  EXPECT_EQ(miss.hit_tokens, 0u);
  EXPECT_EQ(miss.save.chunks, 4u);
  EXPECT_EQ(miss.save.bytes, 4 * chunk_bytes());
  EXPECT_EQ(fake_store().layers_readied, 4 * engine_->config().layers);
  expect_cold_bits(miss, "a miss that saves");
  const Answer warm = ask({4, store_.get(), true, true});
  EXPECT_EQ(warm.hit_tokens, 4 * kChunk);
  EXPECT_EQ(warm.load.bytes, 4 * chunk_bytes());
  EXPECT_EQ(warm.load.tier_bytes[static_cast<size_t>(Tier::dram)], 4 * chunk_bytes());
  EXPECT_EQ(warm.save.chunks, 0u);
  EXPECT_TRUE(warm.load.status.ok());
  expect_cold_bits(warm, "warm");
}

TEST_F(KvStoreTest, SavingTwiceMovesNothing) {
  ask({0, store_.get(), false, true});
  const Answer again = ask({4, store_.get(), false, true});
  EXPECT_EQ(again.save.chunks, 4u);
  EXPECT_EQ(again.save.duplicates, 4u);
  EXPECT_EQ(again.save.bytes, 0u);
  EXPECT_TRUE(again.save.status.ok()) << again.save.status.to_string();
}

TEST_F(KvStoreTest, SavingAtOnceIsTheSame) {
  auto sequence = Sequence::allocate(engine_->pool(), 64);
  ASSERT_TRUE(sequence.ok());
  std::memset(engine_->pool()->memory().data(), 1, engine_->pool()->memory().size());
  const SaveReport report = store_->save(std::span(prompt_).first(64), *sequence);
  EXPECT_EQ(report.chunks, 2u);
  EXPECT_EQ(fake_store().objects.at(key(1)), std::string(chunk_bytes(), '\1'));
}

TEST_F(KvStoreTest, ADamagedChunkAndAllAfterItAreComputed) {
  ask({0, store_.get(), false, true});
  for (uint32_t damaged = 0; damaged < 4; ++damaged) {
    fake_store().damaged = {key(damaged)};
    const Answer answer = ask({4, store_.get()});
    EXPECT_EQ(answer.hit_tokens, damaged * kChunk);
    EXPECT_EQ(answer.load.status.code(), StatusCode::kDataLoss);
    expect_cold_bits(answer, "damaged " + std::to_string(damaged));
  }
}

TEST_F(KvStoreTest, ANodeThatDiesBeforeOrDuringAFetchIsAMiss) {
  ask({0, store_.get(), false, true});
  for (uint32_t layer = 0; layer < engine_->config().layers; ++layer) {
    fake_store().failing_layer = layer;
    const Answer answer = ask({4, store_.get()});
    EXPECT_EQ(answer.hit_tokens, 0u);
    EXPECT_EQ(answer.load.status.code(), StatusCode::kUnavailable);
    expect_cold_bits(answer, "died at layer " + std::to_string(layer));
  }
  fake_store().down = true;
  const Answer answer = ask({4, store_.get(), true, true});
  EXPECT_EQ(answer.hit_tokens, 0u);
  EXPECT_EQ(answer.save.failed, 4u);
  EXPECT_EQ(answer.save.status.code(), StatusCode::kUnavailable);
  expect_cold_bits(answer, "down");
}

TEST_F(KvStoreTest, ARefusedPutIsReportedAndTheAnswerStands) {
  fake_store().put_code = StatusCode::kResourceExhausted;
  const Answer answer = ask({4, store_.get(), true, true});
  EXPECT_EQ(answer.save.failed, 4u);
  EXPECT_EQ(answer.save.chunks, 0u);
  EXPECT_EQ(answer.save.status.code(), StatusCode::kResourceExhausted);
  expect_cold_bits(answer, "refused");
}

TEST_F(KvStoreTest, APoolOfAnotherShapeIsRefused) {
  ModelConfig other = engine_->config();
  other.layers = 2;
  const auto store = KvStore::open(client_.get(), engine_->pool(),
                                   fingerprint_of(other, {"other", "", "", ""}, kChunk), {});
  EXPECT_EQ(store.status().code(), StatusCode::kInvalidArgument);
}
}  // namespace
}  // namespace terrace
