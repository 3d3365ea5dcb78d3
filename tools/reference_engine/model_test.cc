// Goal: the paged decoder computes what the architecture says, and its bits depend only on what its
// header promises. Method: a decoder in plain double loops that shares no code with it; the same
// tokens in other blocks, other pools and other surroundings; checkpoints written in all three
// types and read back.
#include "tools/reference_engine/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tools/reference_engine/testing.h"

namespace terrace {
namespace {
constexpr uint64_t kSeed = 21;
constexpr Model::Limits kLimits{32, 256};

struct Fixture {
  std::unique_ptr<Model> model;
  std::unique_ptr<KvPool> pool;
};
Fixture make(const ModelConfig& config, Weights weights) {
  auto model = Model::create(config, std::move(weights), kLimits);
  auto pool = KvPool::create(config, 64);
  TERRACE_CHECK(model.ok() && pool.ok());
  return {*std::move(model), *std::move(pool)};
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// The logits after all `tokens`, in steps of `step` tokens.
std::vector<float> prefill(Fixture* run, std::span<const uint32_t> tokens, uint32_t step) {
  auto sequence = Sequence::allocate(run->pool.get(), static_cast<uint32_t>(tokens.size()));
  TERRACE_CHECK(sequence.ok());
  std::vector<float> logits(run->model->config().vocab);
  for (uint32_t start = 0; start < tokens.size(); start += step) {
    const auto part = tokens.subspan(start, std::min<size_t>(step, tokens.size() - start));
    const Status status = run->model->run({part, start, nullptr}, *sequence, logits);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  return logits;
}

TEST(Model, AgreesWithPlainLoopsForEveryShape) {
  ModelConfig qwen = testing::tiny_config();
  ModelConfig llama = qwen;
  llama.family = ModelFamily::llama;
  llama.qkv_bias = false;
  llama.tied_embeddings = true;
  llama.rope_scaling = RopeScaling::llama3;
  llama.rope_factor = 8.0;
  llama.rope_original_context = 32;
  ModelConfig biased = llama;
  biased.kv_heads = biased.heads;  // no groups
  biased.head_dim = 16;            // wider than the residual stream
  biased.qkv_bias = biased.output_bias = true;
  biased.rope_scaling = RopeScaling::linear;
  for (const ModelConfig& config : {qwen, llama, biased}) {
    const auto tokens = testing::random_tokens(config, 77, kSeed);
    const auto expected = testing::naive_logits(config, random_weights(config, kSeed), tokens);
    Fixture run = make(config, random_weights(config, kSeed));
    for (const uint32_t step : {1u, 16u, 32u}) {
      const auto logits = prefill(&run, tokens, step);
      for (size_t i = 0; i < logits.size(); ++i) {
        ASSERT_NEAR(logits[i], expected.back()[i], 1e-4)
            << "seed " << kSeed << " step " << step << " logit " << i;
      }
    }
  }
}

TEST(Model, EveryPositionAgreesWithPlainLoops) {
  const ModelConfig config = testing::tiny_config();
  const auto tokens = testing::random_tokens(config, 40, kSeed + 1);
  const auto expected = testing::naive_logits(config, random_weights(config, kSeed), tokens);
  Fixture run = make(config, random_weights(config, kSeed));
  for (size_t count = 1; count <= tokens.size(); ++count) {
    const auto logits = prefill(&run, std::span(tokens).first(count), 16);
    for (size_t i = 0; i < logits.size(); ++i) {
      ASSERT_NEAR(logits[i], expected[count - 1][i], 1e-4) << "seed " << kSeed << " at " << count;
    }
  }
}

TEST(Model, BitsDoNotDependOnBlocksOrHistory) {
  const ModelConfig config = testing::tiny_config();
  const auto tokens = testing::random_tokens(config, 150, kSeed);
  Fixture run = make(config, random_weights(config, kSeed));
  const auto first = prefill(&run, tokens, 32);
  {
    const auto hole = Sequence::allocate(run.pool.get(), 48);
    ASSERT_TRUE(hole.ok());
    prefill(&run, testing::random_tokens(config, 200, kSeed + 2), 32);
    EXPECT_TRUE(same_bits(prefill(&run, tokens, 32), first)) << "seed " << kSeed;
  }
  Fixture other = make(config, random_weights(config, kSeed));
  EXPECT_TRUE(same_bits(prefill(&other, tokens, 32), first)) << "seed " << kSeed;
}

TEST(Model, AStepAfterCopiedKvHasTheBitsOfAColdOne) {
  const ModelConfig config = testing::tiny_config();
  const auto tokens = testing::random_tokens(config, 150, kSeed);
  Fixture run = make(config, random_weights(config, kSeed));
  auto cold = Sequence::allocate(run.pool.get(), 150);
  ASSERT_TRUE(cold.ok());
  std::vector<float> expected(config.vocab), logits(config.vocab);
  for (uint32_t start = 0; start < 150; start += 32) {
    const auto part = std::span(tokens).subspan(start, std::min(32u, 150 - start));
    ASSERT_TRUE(run.model->run({part, start, nullptr}, *cold, expected).ok());
  }
  for (uint32_t hit = 32; hit < 150; hit += 32) {
    auto warm = Sequence::allocate(run.pool.get(), 150);
    ASSERT_TRUE(warm.ok());
    for (uint32_t layer = 0; layer < config.layers; ++layer) {
      for (const KvPlane plane : {KvPlane::keys, KvPlane::values}) {
        for (uint32_t at = 0; at < hit; ++at) {
          std::memcpy(warm->row(layer, plane, at), cold->row(layer, plane, at),
                      config.kv_width() * sizeof(float));
        }
      }
    }
    for (uint32_t start = hit; start < 150; start += 32) {
      const auto part = std::span(tokens).subspan(start, std::min(32u, 150 - start));
      ASSERT_TRUE(run.model->run({part, start, nullptr}, *warm, logits).ok());
    }
    EXPECT_TRUE(same_bits(logits, expected)) << "seed " << kSeed << " hit " << hit;
  }
}

TEST(Model, CheckpointsOfEveryTypeGiveTheSameBits) {
  const ModelConfig config = testing::tiny_config();
  const auto tokens = testing::random_tokens(config, 40, kSeed);
  Fixture direct = make(config, testing::coarse_weights(config, kSeed));
  const auto expected = prefill(&direct, tokens, 32);
  Weights weights = testing::coarse_weights(config, kSeed);
  const std::vector<TensorSlot> slots = slots_of(config, &weights);
  for (const std::string type : {"F32", "F16", "BF16", "shards"}) {
    const testing::TemporaryDirectory directory;
    directory.write("config.json", testing::config_json(config));
    if (type == "shards") {
      const std::span<const TensorSlot> all(slots);
      directory.write("one.safetensors", testing::checkpoint_bytes(all.first(9), "F16"));
      directory.write("two.safetensors", testing::checkpoint_bytes(all.subspan(9), "F32"));
      directory.write("model.safetensors.index.json",
                      R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
    } else {
      directory.write("model.safetensors", testing::checkpoint_bytes(slots, type));
    }
    auto loaded = load_model(directory.path());
    ASSERT_TRUE(loaded.ok()) << type << ": " << loaded.status().to_string();
    EXPECT_EQ(loaded->identity.weights_digest.size(), 64u);
    Fixture run = make(loaded->config, std::move(loaded->weights));
    EXPECT_TRUE(same_bits(prefill(&run, tokens, 32), expected)) << "seed " << kSeed << " " << type;
  }
}

TEST(Model, AMissingTensorIsNamed) {
  const ModelConfig config = testing::tiny_config();
  Weights weights = testing::coarse_weights(config, kSeed);
  const std::vector<TensorSlot> slots = slots_of(config, &weights);
  const testing::TemporaryDirectory directory;
  directory.write("config.json", testing::config_json(config));
  directory.write("model.safetensors",
                  testing::checkpoint_bytes(std::span(slots).first(slots.size() - 1), "F32"));
  const Status status = load_model(directory.path()).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("lm_head.weight"), std::string::npos) << status.to_string();
}

TEST(Model, StepsOutOfBoundsAreRefused) {
  const ModelConfig config = testing::tiny_config();
  Fixture run = make(config, random_weights(config, kSeed));
  auto sequence = Sequence::allocate(run.pool.get(), 64);
  ASSERT_TRUE(sequence.ok());
  const auto tokens = testing::random_tokens(config, 64, kSeed);
  const uint32_t unknown[] = {config.vocab};
  const Step steps[] = {{{}, 0, nullptr},
                        {std::span(tokens).first(33), 0, nullptr},
                        {std::span(tokens).first(2), 63, nullptr},
                        {std::span(tokens).first(2), 0xFFFFFFFF, nullptr},
                        {unknown, 0, nullptr}};
  for (const Step& step : steps) {
    EXPECT_EQ(run.model->run(step, *sequence, {}).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Sequence::allocate(run.pool.get(), 64 * 16).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_FALSE(Model::create(ModelConfig{}, {}, kLimits).ok());
  EXPECT_FALSE(Model::create(config, random_weights(config, 1), {0, 16}).ok());
}

TEST(KvPool, FreshBlocksHoldNoKv) {
  const ModelConfig config = testing::tiny_config();
  Fixture run = make(config, random_weights(config, kSeed));
  for (int round = 0; round < 2; ++round) {
    auto sequence = Sequence::allocate(run.pool.get(), 30);
    ASSERT_TRUE(sequence.ok());
    EXPECT_EQ(sequence->capacity(), 32u);
    for (uint32_t at = 0; at < 32; ++at) {
      EXPECT_TRUE(std::isnan(sequence->row(1, KvPlane::values, at)[0])) << "round " << round;
    }
    const auto tokens = testing::random_tokens(config, 30, kSeed);
    ASSERT_TRUE(run.model->run({tokens, 0, nullptr}, *sequence, {}).ok());
    EXPECT_FALSE(std::isnan(sequence->row(1, KvPlane::values, 29)[0])) << "round " << round;
  }
  EXPECT_EQ(run.pool->free_blocks(), 64u);
}
}  // namespace
}  // namespace terrace
