// tools/reference_engine/config.h - the shape of a decoder of the Llama family, as its config.json
// states it. Values only; pure functions except load_config.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/geometry.h"
#include "base/identity.h"
#include "base/status.h"

namespace terrace {

enum class ModelFamily : uint8_t { llama, qwen2 };
enum class RopeScaling : uint8_t { none, linear, llama3 };

/// Defaults are those of the model cards for fields that config.json may leave out.
struct ModelConfig {
  ModelFamily family = ModelFamily::llama;
  uint32_t hidden = 0;  // width of the residual stream
  uint32_t ffn = 0;     // width of the SwiGLU
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;  // divides heads
  uint32_t head_dim = 0;  // even
  uint32_t vocab = 0;
  uint32_t context_max = 2048;  // positions the model was made for
  float norm_epsilon = 1e-6f;
  double rope_theta = 10'000.0;
  RopeScaling rope_scaling = RopeScaling::none;
  double rope_factor = 1.0;
  double rope_low_frequency_factor = 1.0;   // llama3 only, as the two below
  double rope_high_frequency_factor = 4.0;  // greater than the low one
  double rope_original_context = 8192.0;    // tokens
  bool tied_embeddings = false;             // the output matrix is the embedding
  bool qkv_bias = false;
  bool output_bias = false;  // of the attention's output projection

  uint32_t group() const { return heads / kv_heads; }
  uint32_t query_width() const { return heads * head_dim; }
  uint32_t kv_width() const { return kv_heads * head_dim; }
  /// kInvalidArgument names the field, its value and its bounds.
  Status validate() const;
};

/// Reads the text of a config.json. kInvalidArgument: no JSON, a field that is missing or out of
/// bounds; kUnimplemented: a family, activation, RoPE scaling or quantization that this engine
/// does not compute; the message says which it does.
StatusOr<ModelConfig> parse_config(std::string_view text);
/// parse_config of `directory`/config.json, at most 1 MiB. kNotFound when there is none.
StatusOr<ModelConfig> load_config(const std::string& directory);

/// The model that needs no files: large enough that computing 1,000 tokens takes a good part of a
/// second on one core, with 8 KiB of KV per token.
ModelConfig builtin_config();

/// The whole of `path`. kNotFound, kInvalidArgument over `bytes_max`.
StatusOr<std::string> read_text_file(const std::string& path, uint64_t bytes_max);

/// Inverse frequencies after scaling, halves pairing.
Rope rope_of(const ModelConfig& config);
/// What one chunk's KV looks like: float32, K after RoPE, the same in every layer.
Geometry geometry_of(const ModelConfig& config, uint32_t tokens_per_chunk);

/// What the fingerprint says beyond the configuration.
struct ModelIdentity {
  std::string name;
  std::string revision;
  std::string weights_digest;
  std::string tokenizer_digest;
};
/// The layout names the matrix kernels and the step size too: they decide the last bits of KV, and
/// stored KV must give the very bits that computing would.
Fingerprint fingerprint_of(const ModelConfig& config, const ModelIdentity& identity,
                           uint32_t tokens_per_chunk);
}  // namespace terrace
