// tools/reference_engine/weights.h - the matrices of a decoder, in float32: read from a checkpoint,
// or made from a seed. Immutable once made.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/reference_engine/config.h"
#include "tools/reference_engine/ops.h"
#include "tools/reference_engine/safetensors.h"

namespace terrace {

/// Matrices are [outputs][inputs]; a bias that the model has not is empty.
struct LayerWeights {
  FloatArray attention_norm, ffn_norm;
  FloatArray query, key, value, output;
  FloatArray query_bias, key_bias, value_bias, output_bias;
  FloatArray gate, up, down;
};

struct Weights {
  FloatArray embedding;  // [vocab][hidden]
  std::vector<LayerWeights> layers;
  FloatArray final_norm;
  FloatArray output;  // [vocab][hidden]; empty: the embedding
};

/// One tensor of a model: its name in checkpoints, its shape, and where it goes.
struct TensorSlot {
  std::string name;
  std::vector<uint64_t> shape;
  FloatArray* into;
};
/// Every tensor that `config` asks for, in a fixed order; `weights` gets its layers.
std::vector<TensorSlot> slots_of(const ModelConfig& config, Weights* weights);

/// kNotFound or kInvalidArgument names the tensor.
StatusOr<Weights> load_weights(const Checkpoint& checkpoint, const ModelConfig& config);
/// The same weights on every machine for the same seed and configuration.
Weights random_weights(const ModelConfig& config, uint64_t seed);
}  // namespace terrace
