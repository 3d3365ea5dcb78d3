// tools/reference_engine/testing.h - what the engine's tests share: small models, an independent
// decoder in plain double loops, and checkpoints on disk. For tests only.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/reference_engine/config.h"
#include "tools/reference_engine/loaded_model.h"
#include "tools/reference_engine/weights.h"

namespace terrace::testing {

/// Small, with grouped heads, biases and an output matrix of its own.
ModelConfig tiny_config();
/// Weights that F16 and BF16 hold exactly: multiples of 1/128 under one.
Weights coarse_weights(const ModelConfig& config, uint64_t seed);
/// A tiny model as the engine takes it.
LoadedModel tiny_model(uint64_t seed);
std::vector<uint32_t> random_tokens(const ModelConfig& config, uint32_t count, uint64_t seed);

/// The logits after each of `tokens`, computed without any KV cache, one position at a time.
std::vector<std::vector<double>> naive_logits(const ModelConfig& config, const Weights& weights,
                                              std::span<const uint32_t> tokens);

/// A directory that is empty when made and gone when it ends.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

/// The bytes of a safetensors file with `header` and `data`.
std::string safetensors_bytes(const std::string& header, const std::string& data);
std::string config_json(const ModelConfig& config);
/// Some of a model's tensors as a safetensors file; `type` is F32, F16 or BF16, which must hold
/// the weights exactly.
std::string checkpoint_bytes(std::span<const TensorSlot> slots, const std::string& type);
}  // namespace terrace::testing
