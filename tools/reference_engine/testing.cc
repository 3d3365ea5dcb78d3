#include "tools/reference_engine/testing.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/check.h"
#include "base/prng.h"

namespace terrace::testing {
namespace {
using Row = std::vector<double>;

Row multiply(const FloatArray& weight, const FloatArray& bias, const Row& x) {
  Row out(weight.size() / x.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = bias.size() == 0 ? 0.0 : static_cast<double>(bias.data()[i]);
    for (size_t j = 0; j < x.size(); ++j) {
      out[i] += static_cast<double>(weight.data()[i * x.size() + j]) * x[j];
    }
  }
  return out;
}

Row norm(const Row& x, const FloatArray& weight, double epsilon) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  Row out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] = x[i] / std::sqrt(sum / static_cast<double>(x.size()) + epsilon) *
             static_cast<double>(weight.data()[i]);
  }
  return out;
}

/// Every head of `x` as complex numbers (i, i + half), turned by position * frequency.
void rotate(const Rope& rope, uint32_t head_dim, size_t position, Row* x) {
  const size_t half = head_dim / 2;
  for (size_t head = 0; head < x->size(); head += head_dim) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * static_cast<double>(rope.frequencies[i]);
      const double a = (*x)[head + i];
      const double b = (*x)[head + i + half];
      (*x)[head + i] = a * std::cos(angle) - b * std::sin(angle);
      (*x)[head + i + half] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
}

Row attend(const ModelConfig& c, const Row& query, const std::vector<Row>& keys,
           const std::vector<Row>& values) {
  Row out(query.size());
  for (size_t head = 0; head < c.heads; ++head) {
    const size_t q = head * c.head_dim;
    const size_t kv = head / c.group() * c.head_dim;
    Row weights(keys.size());
    double sum = 0;
    for (size_t t = 0; t < keys.size(); ++t) {
      for (size_t i = 0; i < c.head_dim; ++i) weights[t] += query[q + i] * keys[t][kv + i];
      weights[t] = std::exp(weights[t] / std::sqrt(static_cast<double>(c.head_dim)));
      sum += weights[t];
    }
    for (size_t t = 0; t < keys.size(); ++t) {
      for (size_t i = 0; i < c.head_dim; ++i) out[q + i] += weights[t] / sum * values[t][kv + i];
    }
  }
  return out;
}

void add(const Row& x, Row* to) {
  for (size_t i = 0; i < x.size(); ++i) (*to)[i] += x[i];
}

uint32_t half_bits(float value, const std::string& type) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (type == "BF16") {
    TERRACE_CHECK((bits & 0xFFFF) == 0);
    return bits >> 16;
  }
  if (value == 0.0f) return bits >> 16;
  TERRACE_CHECK((bits & 0x1FFF) == 0);
  const uint32_t exponent = (bits >> 23) & 0xFF;
  TERRACE_CHECK(exponent > 112 && exponent < 143);
  return ((bits >> 16) & 0x8000) | ((exponent - 112) << 10) | ((bits >> 13) & 0x3FF);
}
}  // namespace

ModelConfig tiny_config() {
  ModelConfig config;
  config.family = ModelFamily::qwen2;
  config.hidden = 48;
  config.ffn = 80;
  config.layers = 3;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.vocab = 259;
  config.context_max = 1024;
  config.norm_epsilon = 1e-5f;
  config.qkv_bias = true;
  return config;
}

Weights coarse_weights(const ModelConfig& config, uint64_t seed) {
  Weights weights = random_weights(config, seed);
  for (const TensorSlot& slot : slots_of(config, &weights)) {
    for (float& value : slot.into->span()) value = std::round(value * 128.0f) / 128.0f;
  }
  return weights;
}

LoadedModel tiny_model(uint64_t seed) {
  const ModelConfig config = tiny_config();
  const ByteTokenizer tokenizer = *ByteTokenizer::create(config.vocab);
  return {
      config, coarse_weights(config, seed), {"tiny", "", "", tokenizer.digest()}, tokenizer, {}};
}

std::vector<uint32_t> random_tokens(const ModelConfig& config, uint32_t count, uint64_t seed) {
  Prng prng(seed);
  std::vector<uint32_t> tokens(count);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(prng.below(config.vocab));
  return tokens;
}

std::vector<std::vector<double>> naive_logits(const ModelConfig& config, const Weights& weights,
                                              std::span<const uint32_t> tokens) {
  const Rope rope = rope_of(config);
  const double epsilon = static_cast<double>(config.norm_epsilon);
  const FloatArray none;
  std::vector<std::vector<Row>> keys(config.layers), values(config.layers);
  std::vector<Row> logits;
  for (size_t position = 0; position < tokens.size(); ++position) {
    const float* embedding = weights.embedding.data() + size_t{tokens[position]} * config.hidden;
    Row x(embedding, embedding + config.hidden);
    for (size_t layer = 0; layer < config.layers; ++layer) {
      const LayerWeights& w = weights.layers[layer];
      const Row in = norm(x, w.attention_norm, epsilon);
      Row query = multiply(w.query, w.query_bias, in);
      Row key = multiply(w.key, w.key_bias, in);
      rotate(rope, config.head_dim, position, &query);
      rotate(rope, config.head_dim, position, &key);
      keys[layer].push_back(key);
      values[layer].push_back(multiply(w.value, w.value_bias, in));
      add(multiply(w.output, w.output_bias, attend(config, query, keys[layer], values[layer])), &x);
      const Row middle = norm(x, w.ffn_norm, epsilon);
      Row gate = multiply(w.gate, none, middle);
      const Row up = multiply(w.up, none, middle);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      add(multiply(w.down, none, gate), &x);
    }
    const FloatArray& output = config.tied_embeddings ? weights.embedding : weights.output;
    logits.push_back(multiply(output, none, norm(x, weights.final_norm, epsilon)));
  }
  return logits;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name =
      (std::filesystem::temp_directory_path() / ("terrace-" + std::string(6, 'X'))).string();
  TERRACE_CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}
TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}
void TemporaryDirectory::write(const std::string& name, const std::string& bytes) const {
  std::ofstream out(path_ + "/" + name, std::ios::binary);
  out << bytes;
  TERRACE_CHECK(out.good());
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  ByteWriter out;
  out.u64(header.size());
  out.raw(header);
  out.raw(data);
  return out.take();
}

std::string config_json(const ModelConfig& c) {
  const auto field = [](const char* name, uint32_t value) {
    return ", \"" + std::string(name) + "\": " + std::to_string(value);
  };
  return std::string("{\"model_type\": ") +
         (c.family == ModelFamily::qwen2 ? "\"qwen2\"" : "\"llama\"") +
         field("hidden_size", c.hidden) + field("intermediate_size", c.ffn) +
         field("num_hidden_layers", c.layers) + field("num_attention_heads", c.heads) +
         field("num_key_value_heads", c.kv_heads) + field("head_dim", c.head_dim) +
         field("vocab_size", c.vocab) + field("max_position_embeddings", c.context_max) +
         ", \"rms_norm_eps\": 1e-5, \"rope_scaling\": null, \"tie_word_embeddings\": " +
         (c.tied_embeddings ? "true" : "false") + "}";
}

std::string checkpoint_bytes(std::span<const TensorSlot> slots, const std::string& type) {
  std::string header = "{\"__metadata__\": {\"format\": \"pt\"}";
  ByteWriter data;
  for (const TensorSlot& slot : slots) {
    const size_t begin = data.size();
    for (const float value : slot.into->span()) {
      if (type == "F32") data.u32(std::bit_cast<uint32_t>(value));
      if (type != "F32") data.u16(static_cast<uint16_t>(half_bits(value, type)));
    }
    std::string shape;
    for (const uint64_t extent : slot.shape) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    }
    header += ", \"" + slot.name + "\": {\"dtype\": \"" + type + "\", \"shape\": [" + shape +
              "], \"data_offsets\": [" + std::to_string(begin) + ", " +
              std::to_string(data.size()) + "]}";
  }
  return safetensors_bytes(header + "}", data.take());
}
}  // namespace terrace::testing
