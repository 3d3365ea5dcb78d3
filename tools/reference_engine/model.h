// tools/reference_engine/model.h - a decoder of the Llama family: RMSNorm, RoPE, grouped-query
// attention over paged KV, SwiGLU, in float32.
//
// Determinism: a step's result depends only on its tokens, its start and the KV before it, never on
// which blocks hold that KV or on what ran before. It does depend on the number of tokens in the
// step, because the matrix product rounds differently for another number of rows: prefill always
// cuts a prompt at the same places (engine.h). Thread-confined.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "tools/reference_engine/config.h"
#include "tools/reference_engine/kv_pool.h"
#include "tools/reference_engine/weights.h"

namespace terrace {

/// What happens around the layers of a step; the default is nothing.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// The step is about to read the KV of all earlier tokens in `layer`: wait for it here. An error
  /// ends the step with it.
  virtual Status before_attention(uint32_t) { return ok_status(); }
  /// The KV of the step's tokens in `layer` is in place.
  virtual void after_layer(uint32_t) {}
};

struct Step {
  std::span<const uint32_t> tokens;
  uint32_t start = 0;  // the position of tokens[0]
  StepObserver* observer = nullptr;
};

class Model {
 public:
  struct Limits {
    uint32_t step_tokens = 256;  // at most, in one step
    uint32_t context = 8192;     // at most, of a sequence; never over the model's own
  };
  /// kInvalidArgument: the configuration or the limits.
  static StatusOr<std::unique_ptr<Model>> create(const ModelConfig& config, Weights weights,
                                                 const Limits& limits);
  ~Model();

  /// Computes the KV of step.tokens into `sequence` and, unless `logits` is empty, the logits after
  /// the last of them (config().vocab floats). kInvalidArgument: a token outside the vocabulary, a
  /// step or a context over its limit, a sequence that is too short; or the observer's error, with
  /// the KV of the step's tokens undefined.
  Status run(const Step& step, const Sequence& sequence, std::span<float> logits);

  const ModelConfig& config() const { return config_; }
  const Limits& limits() const { return limits_; }

 private:
  struct Scratch;
  Model(const ModelConfig& config, Weights weights, const Limits& limits);
  Status check(const Step& step, const Sequence& sequence, std::span<float> logits) const;
  void project(const LayerWeights& weights, uint32_t rows);
  void store_kv(const Step& step, uint32_t layer, const Sequence& sequence);
  void attend(const Step& step, uint32_t layer, const Sequence& sequence);
  void feed_forward(const LayerWeights& weights, uint32_t rows);
  void compute_logits(uint32_t rows, std::span<float> logits);

  const ModelConfig config_;
  const Limits limits_;
  const Weights weights_;
  const std::unique_ptr<Scratch> scratch_;
};
}  // namespace terrace
