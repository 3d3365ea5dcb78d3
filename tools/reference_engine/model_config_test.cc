// Goal: both families' config.json become the shape their model cards mean, and what this engine
// does not compute is refused by name. Method: texts by hand, one field changed at a time; RoPE
// scaling against its published formula in double.
#include "tools/reference_engine/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tools/reference_engine/testing.h"

namespace terrace {
namespace {

const std::string kLlama = R"({"model_type": "llama", "hidden_size": 2048,
  "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
  "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}})";
const std::string kQwen2 = R"({"model_type": "qwen2", "hidden_size": 896,
  "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
  "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
  "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": true,
  "use_sliding_window": false, "sliding_window": 32768, "hidden_act": "silu"})";

/// `text` with the value of `name` (up to the next comma or brace) replaced.
std::string with(std::string text, const std::string& name, const std::string& value) {
  const size_t at = text.find("\"" + name + "\":");
  if (at == std::string::npos) return text.insert(1, "\"" + name + "\": " + value + ", ");
  const size_t begin = at + name.size() + 3;
  return text.replace(begin, text.find_first_of(",}", begin) - begin, " " + value);
}

TEST(Config, LlamaAsItsCardSays) {
  const auto config = parse_config(kLlama);
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->family, ModelFamily::llama);
  EXPECT_EQ(config->head_dim, 64u);
  EXPECT_EQ(config->group(), 4u);
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_EQ(config->rope_scaling, RopeScaling::llama3);
  const Geometry geometry = geometry_of(*config, 256);
  EXPECT_TRUE(geometry.validate().ok()) << geometry.validate().to_string();
  EXPECT_EQ(total_bytes(sections_of(geometry, 256)), 256u * 16 * 2 * 8 * 64 * 4);
}

TEST(Config, Qwen2HasBiasesOnQueryKeyAndValue) {
  const auto config = parse_config(kQwen2);
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->family, ModelFamily::qwen2);
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->output_bias);
  EXPECT_EQ(config->rope_scaling, RopeScaling::none);
  EXPECT_EQ(config->rope_theta, 1e6);
}

TEST(Config, Llama3ScalingFollowsItsFormula) {
  const auto config = parse_config(kLlama);
  ASSERT_TRUE(config.ok());
  const Rope rope = rope_of(*config);
  ASSERT_EQ(rope.frequencies.size(), 32u);
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double plain = std::pow(500000.0, -2.0 * static_cast<double>(i) / 64.0);
    const double wavelength = 2 * std::numbers::pi / plain;
    double expected = plain;
    if (wavelength > 8192.0) {
      expected = plain / 32.0;
    } else if (wavelength > 2048.0) {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      expected = (1 - smooth) * plain / 32.0 + smooth * plain;
    }
    EXPECT_FLOAT_EQ(rope.frequencies[i], static_cast<float>(expected)) << "frequency " << i;
  }
}

TEST(Config, LinearScalingDividesAndBothSpellingsAreRead) {
  const std::string linear = R"({"type": "linear", "factor": 4.0})";
  const auto plain = parse_config(kQwen2);
  const auto old_spelling = parse_config(with(kQwen2, "rope_scaling", linear));
  const auto new_spelling = parse_config(with(
      kQwen2, "rope_parameters", R"({"rope_type": "linear", "rope_theta": 1e6, "factor": 4})"));
  ASSERT_TRUE(old_spelling.ok()) << old_spelling.status().to_string();
  ASSERT_TRUE(new_spelling.ok()) << new_spelling.status().to_string();
  const Rope scaled = rope_of(*old_spelling);
  EXPECT_EQ(scaled, rope_of(*new_spelling));
  for (size_t i = 0; i < scaled.frequencies.size(); ++i) {
    EXPECT_FLOAT_EQ(scaled.frequencies[i] * 4, rope_of(*plain).frequencies[i]);
  }
}

TEST(Config, WhatIsNotComputedIsRefusedByName) {
  struct Case {
    const char* field;
    const char* value;
    StatusCode code;
  };
  const Case cases[] = {
      {"model_type", "\"mixtral\"", StatusCode::kUnimplemented},
      {"hidden_act", "\"gelu\"", StatusCode::kUnimplemented},
      {"use_sliding_window", "true", StatusCode::kUnimplemented},
      {"mlp_bias", "true", StatusCode::kUnimplemented},
      {"partial_rotary_factor", "0.5", StatusCode::kUnimplemented},
      {"quantization_config", "{}", StatusCode::kUnimplemented},
      {"rope_scaling", R"({"rope_type": "yarn", "factor": 4.0})", StatusCode::kUnimplemented},
      {"rope_scaling", R"({"rope_type": "linear"})", StatusCode::kInvalidArgument},
      {"rope_scaling", "3", StatusCode::kInvalidArgument},
      {"rope_theta", "-1", StatusCode::kInvalidArgument},
      {"hidden_size", "-5", StatusCode::kInvalidArgument},
      {"hidden_size", "1e3", StatusCode::kInvalidArgument},
      {"hidden_size", "18446744073709551616", StatusCode::kInvalidArgument},
      {"num_hidden_layers", "100000", StatusCode::kInvalidArgument},
      {"num_hidden_layers", "0", StatusCode::kInvalidArgument},
      {"num_attention_heads", "0", StatusCode::kInvalidArgument},
      {"num_key_value_heads", "3", StatusCode::kInvalidArgument},
      {"head_dim", "7", StatusCode::kInvalidArgument},
      {"vocab_size", "\"many\"", StatusCode::kInvalidArgument},
      {"rms_norm_eps", "\"small\"", StatusCode::kInvalidArgument},
      {"tie_word_embeddings", "1", StatusCode::kInvalidArgument},
  };
  for (const Case& c : cases) {
    const Status status = parse_config(with(kQwen2, c.field, c.value)).status();
    EXPECT_EQ(status.code(), c.code) << c.field << " = " << c.value << ": " << status.to_string();
  }
}

TEST(Config, NoJsonIsAnErrorAndNoMore) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1, 2]"), std::string("null"),
        std::string(1 << 20, '['), std::string("\xff\xfe\x00", 3)}) {
    EXPECT_EQ(parse_config(text).status().code(), StatusCode::kInvalidArgument);
  }
  testing::TemporaryDirectory directory;
  EXPECT_EQ(load_config(directory.path()).status().code(), StatusCode::kNotFound);
  directory.write("config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_EQ(load_config(directory.path()).status().code(), StatusCode::kInvalidArgument);
}

TEST(Config, TheFingerprintTellsModelsApart) {
  const ModelIdentity identity{"m", "1", "w", "t"};
  const auto llama = parse_config(kLlama);
  const auto qwen = parse_config(kQwen2);
  ASSERT_TRUE(llama.ok() && qwen.ok());
  const Fingerprint a = fingerprint_of(*llama, identity, 256);
  EXPECT_TRUE(a.validate().ok()) << a.validate().to_string();
  EXPECT_EQ(first_difference(a, fingerprint_of(*llama, identity, 256)), "");
  EXPECT_NE(first_difference(a, fingerprint_of(*qwen, identity, 256)), "");
  EXPECT_NE(first_difference(a, fingerprint_of(*llama, identity, 128)), "");
  EXPECT_TRUE(builtin_config().validate().ok());
}
}  // namespace
}  // namespace terrace
