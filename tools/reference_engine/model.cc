#include "tools/reference_engine/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace terrace {
namespace {

void add_bias(const FloatArray& bias, float* rows, uint32_t count) {
  if (bias.size() == 0) return;
  for (uint32_t row = 0; row < count; ++row)
    add({rows + row * bias.size(), bias.size()}, bias.span());
}

/// out[rows][outputs] = in[rows][inputs] * weight^T + bias.
void linear(const MatrixView& in, const FloatArray& weight, const FloatArray& bias, float* out) {
  const uint32_t outputs = static_cast<uint32_t>(weight.size() / in.columns);
  multiply_transposed(in, {weight.data(), outputs, in.columns, in.columns}, {out, outputs});
  add_bias(bias, out, in.rows);
}

void norm_rows(const float* in, const FloatArray& weight, float epsilon, uint32_t rows,
               float* out) {
  const size_t width = weight.size();
  for (uint32_t row = 0; row < rows; ++row) {
    rms_norm({in + row * width, width}, weight.span(), epsilon, {out + row * width, width});
  }
}

Status wrong(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "model: " + what);
}
}  // namespace

/// Every intermediate of a step, for the largest step; allocated once.
struct Model::Scratch {
  Scratch(const ModelConfig& c, const Limits& limits)
      : residual(size_t{limits.step_tokens} * c.hidden),
        normed(size_t{limits.step_tokens} * c.hidden),
        branch(size_t{limits.step_tokens} * c.hidden),
        query(size_t{limits.step_tokens} * c.query_width()),
        key(size_t{limits.step_tokens} * c.kv_width()),
        value(size_t{limits.step_tokens} * c.kv_width()),
        mixed(size_t{limits.step_tokens} * c.query_width()),
        gate(size_t{limits.step_tokens} * c.ffn),
        up(size_t{limits.step_tokens} * c.ffn),
        head_keys(size_t{limits.context} * c.head_dim),
        head_values(size_t{limits.context} * c.head_dim),
        scores(size_t{limits.step_tokens} * limits.context),
        cosines(size_t{limits.context} * (c.head_dim / 2)),
        sines(size_t{limits.context} * (c.head_dim / 2)) {
    const Rope rope = rope_of(c);
    const size_t half = c.head_dim / 2;
    for (size_t position = 0; position < limits.context; ++position) {
      for (size_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(position) * static_cast<double>(rope.frequencies[i]);
        cosines.data()[position * half + i] = static_cast<float>(std::cos(angle));
        sines.data()[position * half + i] = static_cast<float>(std::sin(angle));
      }
    }
  }

  FloatArray residual, normed, branch;  // [rows][hidden]
  FloatArray query, key, value, mixed;  // [rows][heads][head_dim]
  FloatArray gate, up;                  // [rows][ffn]
  FloatArray head_keys, head_values;    // [context][head_dim], gathered out of the blocks
  FloatArray scores;                    // [rows][context so far]
  FloatArray cosines, sines;            // [context][head_dim / 2]
};

Model::Model(const ModelConfig& config, Weights weights, const Limits& limits)
    : config_(config),
      limits_(limits),
      weights_(std::move(weights)),
      scratch_(std::make_unique<Scratch>(config, limits)) {}

Model::~Model() = default;

StatusOr<std::unique_ptr<Model>> Model::create(const ModelConfig& config, Weights weights,
                                               const Limits& limits) {
  TERRACE_RETURN_IF_ERROR(config.validate());
  constexpr uint32_t kStepMax = 1u << 16;
  if (limits.step_tokens == 0 || limits.step_tokens > kStepMax || limits.context == 0) {
    return wrong("steps of " + std::to_string(limits.step_tokens) + " tokens in a context of " +
                 std::to_string(limits.context) + "; steps of 1 to " + std::to_string(kStepMax));
  }
  fix_matrix_threads();
  Limits bounded = limits;
  bounded.context = std::min(limits.context, config.context_max);
  return std::unique_ptr<Model>(new Model(config, std::move(weights), bounded));
}

Status Model::check(const Step& step, const Sequence& sequence, std::span<float> logits) const {
  if (step.tokens.empty() || step.tokens.size() > limits_.step_tokens) {
    return wrong("a step of " + std::to_string(step.tokens.size()) + " tokens; 1 to " +
                 std::to_string(limits_.step_tokens));
  }
  const uint64_t end = uint64_t{step.start} + step.tokens.size();
  if (end > limits_.context || end > sequence.capacity()) {
    return wrong("position " + std::to_string(end - 1) + " in a context of " +
                 std::to_string(limits_.context) + " and a sequence of " +
                 std::to_string(sequence.capacity()));
  }
  for (const uint32_t token : step.tokens) {
    if (token >= config_.vocab) {
      return wrong("token " + std::to_string(token) + " of " + std::to_string(config_.vocab));
    }
  }
  TERRACE_CHECK(logits.empty() || logits.size() == config_.vocab);
  TERRACE_CHECK(sequence.pool().row_floats() == config_.kv_width());
  TERRACE_CHECK(sequence.pool().layers() == config_.layers);
  return ok_status();
}

Status Model::run(const Step& step, const Sequence& sequence, std::span<float> logits) {
  TERRACE_RETURN_IF_ERROR(check(step, sequence, logits));
  Scratch& s = *scratch_;
  const uint32_t rows = static_cast<uint32_t>(step.tokens.size());
  const size_t width = config_.hidden;
  for (uint32_t row = 0; row < rows; ++row) {
    std::memcpy(s.residual.data() + row * width,
                weights_.embedding.data() + step.tokens[row] * width, width * sizeof(float));
  }
  const std::span<float> residual = s.residual.span().first(rows * width);
  const std::span<const float> branch = s.branch.span().first(rows * width);
  for (uint32_t layer = 0; layer < config_.layers; ++layer) {
    const LayerWeights& w = weights_.layers[layer];
    norm_rows(s.residual.data(), w.attention_norm, config_.norm_epsilon, rows, s.normed.data());
    project(w, rows);
    store_kv(step, layer, sequence);
    if (step.observer != nullptr) {
      TERRACE_RETURN_IF_ERROR(step.observer->before_attention(layer));
    }
    attend(step, layer, sequence);
    linear({s.mixed.data(), rows, config_.query_width(), config_.query_width()}, w.output,
           w.output_bias, s.branch.data());
    add(residual, branch);
    norm_rows(s.residual.data(), w.ffn_norm, config_.norm_epsilon, rows, s.normed.data());
    feed_forward(w, rows);
    add(residual, branch);
    if (step.observer != nullptr) step.observer->after_layer(layer);
  }
  if (!logits.empty()) compute_logits(rows, logits);
  return ok_status();
}

void Model::project(const LayerWeights& weights, uint32_t rows) {
  Scratch& s = *scratch_;
  const MatrixView in{s.normed.data(), rows, config_.hidden, config_.hidden};
  linear(in, weights.query, weights.query_bias, s.query.data());
  linear(in, weights.key, weights.key_bias, s.key.data());
  linear(in, weights.value, weights.value_bias, s.value.data());
}

/// Rotates queries in place and keys on their way into the blocks: stored keys are after RoPE.
void Model::store_kv(const Step& step, uint32_t layer, const Sequence& sequence) {
  Scratch& s = *scratch_;
  const size_t head = config_.head_dim;
  const size_t width = config_.kv_width();
  for (uint32_t row = 0; row < step.tokens.size(); ++row) {
    const uint32_t position = step.start + row;
    const float* cosines = s.cosines.data() + position * (head / 2);
    const float* sines = s.sines.data() + position * (head / 2);
    for (size_t h = 0; h < config_.heads; ++h) {
      rotate_halves({s.query.data() + row * config_.query_width() + h * head, head}, cosines,
                    sines);
    }
    float* key = s.key.data() + row * width;
    for (size_t h = 0; h < config_.kv_heads; ++h) {
      rotate_halves({key + h * head, head}, cosines, sines);
    }
    std::memcpy(sequence.row(layer, KvPlane::keys, position), key, width * sizeof(float));
    std::memcpy(sequence.row(layer, KvPlane::values, position), s.value.data() + row * width,
                width * sizeof(float));
  }
}

/// Head by head: scores against all tokens so far, causal softmax, mix of the values.
void Model::attend(const Step& step, uint32_t layer, const Sequence& sequence) {
  Scratch& s = *scratch_;
  const uint32_t head = config_.head_dim;
  const uint32_t rows = static_cast<uint32_t>(step.tokens.size());
  const uint32_t context = step.start + rows;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head));
  const MatrixView keys{s.head_keys.data(), context, head, head};
  const MatrixView values{s.head_values.data(), context, head, head};
  for (uint32_t kv_head = 0; kv_head < config_.kv_heads; ++kv_head) {
    for (uint32_t at = 0; at < context; ++at) {
      const size_t offset = size_t{kv_head} * head;
      std::memcpy(s.head_keys.data() + size_t{at} * head,
                  sequence.row(layer, KvPlane::keys, at) + offset, head * sizeof(float));
      std::memcpy(s.head_values.data() + size_t{at} * head,
                  sequence.row(layer, KvPlane::values, at) + offset, head * sizeof(float));
    }
    for (uint32_t member = 0; member < config_.group(); ++member) {
      const size_t column = (size_t{kv_head} * config_.group() + member) * head;
      multiply_transposed({s.query.data() + column, rows, head, config_.query_width()}, keys,
                          {s.scores.data(), context});
      for (uint32_t row = 0; row < rows; ++row) {
        float* scores = s.scores.data() + size_t{row} * context;
        const uint32_t visible = step.start + row + 1;
        softmax({scores, visible}, scale);
        std::fill(scores + visible, scores + context, 0.0f);
      }
      multiply({s.scores.data(), rows, context, context}, values,
               {s.mixed.data() + column, config_.query_width()});
    }
  }
}

void Model::feed_forward(const LayerWeights& weights, uint32_t rows) {
  Scratch& s = *scratch_;
  static const FloatArray kNoBias;
  const MatrixView in{s.normed.data(), rows, config_.hidden, config_.hidden};
  linear(in, weights.gate, kNoBias, s.gate.data());
  linear(in, weights.up, kNoBias, s.up.data());
  const size_t count = size_t{rows} * config_.ffn;
  swiglu(s.gate.span().first(count), s.up.span().first(count));
  linear({s.gate.data(), rows, config_.ffn, config_.ffn}, weights.down, kNoBias, s.branch.data());
}

void Model::compute_logits(uint32_t rows, std::span<float> logits) {
  Scratch& s = *scratch_;
  const float* last = s.residual.data() + size_t{rows - 1} * config_.hidden;
  norm_rows(last, weights_.final_norm, config_.norm_epsilon, 1, s.normed.data());
  const FloatArray& output = weights_.output.size() == 0 ? weights_.embedding : weights_.output;
  multiply_transposed({s.normed.data(), 1, config_.hidden, config_.hidden},
                      {output.data(), config_.vocab, config_.hidden, config_.hidden},
                      {logits.data(), config_.vocab});
}
}  // namespace terrace
