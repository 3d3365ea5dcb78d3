// Goal: a warm answer has the bits of a cold one whatever the store does, and a store in trouble
// only costs time. Method: a store in memory that delivers a layer only when it is waited for, and
// fails as told.
#include "tools/reference_engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "tools/reference_engine/testing.h"

namespace terrace {
namespace {
constexpr uint64_t kSeed = 31;
constexpr uint32_t kChunk = 32;

using Tokens = std::vector<uint32_t>;

class MemoryStore final : public PrefixStore {
 public:
  explicit MemoryStore(const ModelConfig& config) : config_(config) {}

  uint32_t begin_load(std::span<const uint32_t> tokens, uint32_t chunks_max,
                      const Sequence& sequence) override {
    EXPECT_FALSE(load_open_);
    load_open_ = true;
    tokens_.assign(tokens.begin(), tokens.end());
    sequence_ = &sequence;
    expected_ = 0;
    while (expected_ < chunks_max && chunks_.contains(prefix(expected_))) ++expected_;
    return expected_;
  }
  Status wait_layer(uint32_t layer) override {
    EXPECT_TRUE(load_open_);
    if (layer == fail_at_layer) return StatusCode::kDeadlineExceeded;
    for (uint32_t chunk = 0; chunk < expected_; ++chunk) {
      if (chunk != damaged_chunk) copy(chunk, layer, chunks_.at(prefix(chunk)).data(), false);
    }
    return ok_status();
  }
  LoadReport finish_load() override {
    EXPECT_TRUE(load_open_);
    load_open_ = false;
    LoadReport report;
    report.expected_chunks = expected_;
    report.chunks = std::min(expected_, damaged_chunk);
    if (fail_at_layer != kNever) report.chunks = std::min(report.chunks, whole_after_failure);
    if (fail_at_layer == kNever || report.chunks == 0) return report;
    for (uint32_t layer = 0; layer < config_.layers; ++layer) {
      for (uint32_t c = 0; c < report.chunks; ++c)
        copy(c, layer, chunks_.at(prefix(c)).data(), false);
    }
    return report;
  }

  void begin_save(std::span<const uint32_t> tokens, const Sequence& sequence) override {
    tokens_.assign(tokens.begin(), tokens.end());
    sequence_ = &sequence;
    saved_ = {};
  }
  void begin_chunk(uint32_t chunk) override {
    EXPECT_FALSE(load_open_) << "offered while bytes may be missing";
    chunks_[prefix(chunk)].resize(size_t{config_.layers} * 2 * kChunk * config_.kv_width());
    next_layer_ = 0;
    ++saved_.chunks;
  }
  void layer_computed(uint32_t chunk, uint32_t layer) override {
    EXPECT_EQ(layer, next_layer_++);
    copy(chunk, layer, chunks_.at(prefix(chunk)).data(), true);
  }
  SaveReport finish_save() override { return saved_; }

  static constexpr uint32_t kNever = ~0u;
  uint32_t damaged_chunk = kNever;        // never arrives, and finish_load tells
  uint32_t fail_at_layer = kNever;        // wait_layer fails there
  uint32_t whole_after_failure = kNever;  // chunks that finish_load still brings then
  void forget(uint32_t chunk) { chunks_.erase(prefix(chunk)); }
  size_t size() const { return chunks_.size(); }

 private:
  Tokens prefix(uint32_t chunk) const {
    return {tokens_.begin(), tokens_.begin() + (chunk + 1) * kChunk};
  }
  void copy(uint32_t chunk, uint32_t layer, float* stored, bool save) {
    const size_t width = config_.kv_width();
    stored += size_t{layer} * 2 * kChunk * width;
    for (const KvPlane plane : {KvPlane::keys, KvPlane::values}) {
      for (uint32_t at = 0; at < kChunk; ++at, stored += width) {
        float* row = sequence_->row(layer, plane, chunk * kChunk + at);
        std::memcpy(save ? stored : row, save ? row : stored, width * sizeof(float));
      }
    }
  }

  const ModelConfig config_;
  std::map<Tokens, std::vector<float>> chunks_;
  Tokens tokens_;
  const Sequence* sequence_ = nullptr;
  uint32_t expected_ = 0;
  uint32_t next_layer_ = 0;
  bool load_open_ = false;
  SaveReport saved_;
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : store_(testing::tiny_config()) {
    auto engine = Engine::create(testing::tiny_model(kSeed), {kChunk, 512}, &clock_);
    TERRACE_CHECK(engine.ok());
    engine_ = *std::move(engine);
  }
  Answer ask(const Tokens& prompt, const AnswerOptions& options) {
    auto answer = engine_->answer(prompt, options);
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    return answer.ok() ? *std::move(answer) : Answer{};
  }
  Tokens prompt(uint32_t count) const {
    return testing::random_tokens(engine_->config(), count, kSeed);
  }
  static void expect_same(const Answer& a, const Answer& b, const std::string& what) {
    ASSERT_EQ(a.logits.size(), b.logits.size()) << what;
    EXPECT_EQ(std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)), 0)
        << "seed " << kSeed << ": " << what;
    EXPECT_EQ(a.tokens, b.tokens) << "seed " << kSeed << ": " << what;
  }

  SystemClock clock_;
  std::unique_ptr<Engine> engine_;
  MemoryStore store_;
};

TEST_F(EngineTest, WarmAnswersHaveTheBitsOfColdOnesForEveryLength) {
  for (const uint32_t count : {1u, 31u, 32u, 33u, 64u, 65u, 96u, 150u, 255u, 256u}) {
    const Tokens tokens = prompt(count);
    MemoryStore store(engine_->config());
    const Answer cold = ask(tokens, {8});
    const Answer saving = ask(tokens, {8, &store, false, true});
    EXPECT_EQ(saving.save.chunks, count / kChunk);
    EXPECT_EQ(saving.hit_tokens, 0u);
    const Answer warm = ask(tokens, {8, &store});
    EXPECT_EQ(warm.hit_tokens, (count - 1) / kChunk * kChunk) << count;
    expect_same(saving, cold, "saving, " + std::to_string(count));
    expect_same(warm, cold, "warm, " + std::to_string(count));
    EXPECT_FALSE(cold.tokens.empty());
  }
}

TEST_F(EngineTest, AnyHitLengthGivesTheSameBits) {
  const Tokens tokens = prompt(200);
  const Answer cold = ask(tokens, {4});
  ask(tokens, {0, &store_, false, true});
  ASSERT_EQ(store_.size(), 6u);
  for (uint32_t kept = 6; kept-- > 0;) {
    store_.forget(kept);
    const Answer warm = ask(tokens, {4, &store_});
    EXPECT_EQ(warm.hit_tokens, kept * kChunk);
    expect_same(warm, cold, "kept " + std::to_string(kept));
  }
}

TEST_F(EngineTest, AChunkThatFailsIsComputedAndNothingWrongIsSaved) {
  const Tokens tokens = prompt(200);
  const Answer cold = ask(tokens, {4});
  for (uint32_t damaged = 0; damaged < 4; ++damaged) {
    MemoryStore store(engine_->config());
    ask(Tokens(tokens.begin(), tokens.begin() + 4 * kChunk), {0, &store, false, true});
    store.damaged_chunk = damaged;
    const Answer answer = ask(tokens, {4, &store, true, true});
    EXPECT_EQ(answer.hit_tokens, damaged * kChunk);
    EXPECT_EQ(answer.load.expected_chunks, 4u);
    expect_same(answer, cold, "damaged " + std::to_string(damaged));
    store.damaged_chunk = MemoryStore::kNever;
    const Answer after = ask(tokens, {4, &store});
    EXPECT_EQ(after.hit_tokens, 6 * kChunk);
    expect_same(after, cold, "what was saved beside damage " + std::to_string(damaged));
  }
}

TEST_F(EngineTest, AStoreThatStopsInTheMiddleCostsOnlyTime) {
  const Tokens tokens = prompt(170);
  const Answer cold = ask(tokens, {4});
  ask(tokens, {0, &store_, false, true});
  for (uint32_t layer = 0; layer < engine_->config().layers; ++layer) {
    for (const uint32_t whole : {0u, 3u, MemoryStore::kNever}) {
      store_.fail_at_layer = layer;
      store_.whole_after_failure = whole;
      const Answer answer = ask(tokens, {4, &store_});
      EXPECT_EQ(answer.hit_tokens, std::min(whole, 5u) * kChunk);
      expect_same(answer, cold, "failed at layer " + std::to_string(layer));
    }
  }
}

TEST_F(EngineTest, WhatCannotBeAnsweredIsRefused) {
  EXPECT_EQ(engine_->answer({}, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine_->answer(prompt(500), {13}).status().code(), StatusCode::kInvalidArgument);
  ask(prompt(200), {0, &store_, false, true});
  Tokens unknown = prompt(200);
  unknown.back() = engine_->config().vocab;  // found out while a load is open
  EXPECT_EQ(engine_->answer(unknown, {0, &store_}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(engine_->answer(prompt(200), {0, &store_}).ok());
  EXPECT_EQ(engine_->pool()->free_blocks(), 512u / KvPool::kBlockTokens);
  EXPECT_FALSE(Engine::create(testing::tiny_model(1), {24, 512}, &clock_).ok());
}

TEST_F(EngineTest, ByteTokensComeBack) {
  const std::string text = "K and V\n\xff";
  const Tokens tokens = engine_->tokenizer().encode(text);
  EXPECT_EQ(tokens.size(), text.size() + 1);
  EXPECT_EQ(engine_->tokenizer().decode(tokens), text);
  EXPECT_FALSE(ByteTokenizer::create(255).ok());
  EXPECT_EQ(ByteTokenizer::create(256)->encode(text).size(), text.size());
}

TEST(BuiltinModel, AnswersAndIsTheSameEveryTime) {
  SystemClock clock;
  std::vector<std::vector<float>> logits;
  for (int round = 0; round < 2; ++round) {
    auto engine = Engine::create(builtin_model(1), {64, 256}, &clock);
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    EXPECT_TRUE((*engine)->fingerprint().validate().ok());
    auto answer = (*engine)->answer((*engine)->tokenizer().encode("once upon a time"), {2});
    ASSERT_TRUE(answer.ok()) << answer.status().to_string();
    EXPECT_GT(answer->time_to_first_token.count(), 0);
    logits.push_back(answer->logits);
  }
  EXPECT_EQ(logits[0], logits[1]);
}
}  // namespace
}  // namespace terrace
