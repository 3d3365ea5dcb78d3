#include "tools/reference_engine/config.h"

#include <array>
#include <cmath>
#include <fstream>
#include <numbers>

#include "tools/reference_engine/bounded_json.h"
#include "tools/reference_engine/ops.h"

namespace terrace {
namespace {
using Json = nlohmann::json;

constexpr uint64_t kConfigBytesMax = kMiB;
constexpr uint32_t kWidthMax = 1u << 20;
constexpr uint32_t kHeadsMax = 1024;
constexpr uint32_t kHeadDimMax = 1024;
constexpr uint32_t kVocabMax = 1u << 22;
constexpr uint32_t kContextMax = 1u << 24;

Status wrong(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "config.json: " + what);
}
Status unsupported(const std::string& what) {
  return error(StatusCode::kUnimplemented, "config.json: " + what);
}

/// Typed access to one object's fields; the first thing wrong is kept. Never throws: every type is
/// looked at before it is read.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  /// Null counts as absent, as the model cards use it.
  const Json* find(const char* name) const {
    const auto at = object_.find(name);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  uint32_t integer(const char* name, const uint32_t* fallback) {
    const Json* field = find(name);
    if (field == nullptr && fallback != nullptr) return *fallback;
    if (field == nullptr || !field->is_number_unsigned() || field->get<uint64_t>() > UINT32_MAX) {
      status_.update(
          wrong(std::string(name) + (field ? ": want an unsigned 32-bit integer" : " is missing")));
      return 0;
    }
    return static_cast<uint32_t>(field->get<uint64_t>());
  }
  double real(const char* name, double fallback) {
    const Json* field = find(name);
    if (field == nullptr) return fallback;
    if (!field->is_number()) status_.update(wrong(std::string(name) + ": want a number"));
    return field->is_number() ? field->get<double>() : fallback;
  }
  bool flag(const char* name, bool fallback) {
    const Json* field = find(name);
    if (field == nullptr) return fallback;
    if (!field->is_boolean()) status_.update(wrong(std::string(name) + ": want true or false"));
    return field->is_boolean() ? field->get<bool>() : fallback;
  }
  std::string text(const char* name, const std::string& fallback) {
    const Json* field = find(name);
    if (field == nullptr) return fallback;
    if (!field->is_string()) status_.update(wrong(std::string(name) + ": want a string"));
    return field->is_string() ? field->get<std::string>() : fallback;
  }
  const Status& status() const { return status_; }

 private:
  const Json& object_;
  Status status_;
};

Status read_rope(Fields* top, ModelConfig* config) {
  config->rope_theta = top->real("rope_theta", config->rope_theta);
  const Json* scaling = top->find("rope_scaling");
  if (scaling == nullptr) scaling = top->find("rope_parameters");  // the newer spelling
  if (scaling == nullptr) return ok_status();
  if (!scaling->is_object()) return wrong("rope_scaling: want an object");
  Fields in(*scaling);
  config->rope_theta = in.real("rope_theta", config->rope_theta);
  const std::string type = in.text("rope_type", in.text("type", "default"));
  if (type == "linear") {
    config->rope_scaling = RopeScaling::linear;
  } else if (type == "llama3") {
    config->rope_scaling = RopeScaling::llama3;
  } else if (type != "default") {
    return unsupported("rope_scaling type \"" + type.substr(0, 64) +
                       "\": this engine has default, linear and llama3");
  }
  if (type == "default") return in.status();
  config->rope_factor = in.real("factor", 0.0);  // refused by validate() when missing
  config->rope_low_frequency_factor = in.real("low_freq_factor", config->rope_low_frequency_factor);
  config->rope_high_frequency_factor =
      in.real("high_freq_factor", config->rope_high_frequency_factor);
  config->rope_original_context =
      in.real("original_max_position_embeddings", config->rope_original_context);
  return in.status();
}

Status refuse_what_is_not_computed(Fields* top) {
  const std::string activation = top->text("hidden_act", "silu");
  if (activation != "silu") {
    return unsupported("hidden_act \"" + activation.substr(0, 64) + "\": this engine has silu");
  }
  if (top->flag("mlp_bias", false)) return unsupported("mlp_bias: this engine has none");
  if (top->flag("use_sliding_window", false)) {
    return unsupported("use_sliding_window: this engine attends to everything");
  }
  if (top->real("partial_rotary_factor", 1.0) != 1.0) {
    return unsupported("partial_rotary_factor: this engine rotates whole heads");
  }
  if (top->find("quantization_config") != nullptr) {
    return unsupported("quantization_config: this engine reads F32, F16 and BF16");
  }
  return top->status();
}

Status read_family(Fields* top, ModelConfig* config) {
  const std::string family = top->text("model_type", "");
  if (family != "llama" && family != "qwen2") {
    return unsupported("model_type \"" + family.substr(0, 64) +
                       "\": this engine has llama and qwen2");
  }
  config->family = family == "llama" ? ModelFamily::llama : ModelFamily::qwen2;
  const bool bias = top->flag("attention_bias", false);
  config->qkv_bias = config->family == ModelFamily::qwen2 || bias;
  config->output_bias = config->family == ModelFamily::llama && bias;
  return top->status();
}

struct Bound {
  const char* name;
  uint32_t value;
  uint32_t max;
};

std::string show(double value) {
  return Json(value).dump();
}

Status validate_rope(const ModelConfig& c) {
  if (!(c.rope_theta > 1.0 && c.rope_theta < 1e12)) {
    return wrong("rope_theta=" + show(c.rope_theta) + "; over 1, under 1e12");
  }
  if (c.rope_scaling == RopeScaling::none) return ok_status();
  if (!(c.rope_factor >= 1.0 && c.rope_factor < 1e6)) {
    return wrong("rope_scaling factor=" + show(c.rope_factor) + "; 1 to 1e6");
  }
  if (c.rope_scaling == RopeScaling::linear) return ok_status();
  if (!(c.rope_low_frequency_factor > 0 &&
        c.rope_high_frequency_factor > c.rope_low_frequency_factor &&
        c.rope_high_frequency_factor < 1e6)) {
    return wrong(
        "rope_scaling low_freq_factor=" + show(c.rope_low_frequency_factor) +
        " must be over 0 and under high_freq_factor=" + show(c.rope_high_frequency_factor));
  }
  if (!(c.rope_original_context >= 1 && c.rope_original_context <= kContextMax)) {
    return wrong("rope_scaling original_max_position_embeddings=" + show(c.rope_original_context));
  }
  return ok_status();
}

double scaled_frequency(const ModelConfig& c, double frequency) {
  if (c.rope_scaling == RopeScaling::none) return frequency;
  if (c.rope_scaling == RopeScaling::linear) return frequency / c.rope_factor;
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength > c.rope_original_context / c.rope_low_frequency_factor) {
    return frequency / c.rope_factor;
  }
  if (wavelength < c.rope_original_context / c.rope_high_frequency_factor) return frequency;
  const double smooth = (c.rope_original_context / wavelength - c.rope_low_frequency_factor) /
                        (c.rope_high_frequency_factor - c.rope_low_frequency_factor);
  return (1.0 - smooth) * frequency / c.rope_factor + smooth * frequency;
}
}  // namespace

Status ModelConfig::validate() const {
  const std::array<Bound, 8> bounds = {{{"hidden_size", hidden, kWidthMax},
                                        {"intermediate_size", ffn, kWidthMax},
                                        {"num_hidden_layers", layers, kLayersMax},
                                        {"num_attention_heads", heads, kHeadsMax},
                                        {"num_key_value_heads", kv_heads, kHeadsMax},
                                        {"head_dim", head_dim, kHeadDimMax},
                                        {"vocab_size", vocab, kVocabMax},
                                        {"max_position_embeddings", context_max, kContextMax}}};
  for (const Bound& bound : bounds) {
    if (bound.value == 0 || bound.value > bound.max) {
      return wrong(std::string(bound.name) + "=" + std::to_string(bound.value) + "; 1 to " +
                   std::to_string(bound.max));
    }
  }
  if (heads % kv_heads != 0) {
    return wrong("num_attention_heads=" + std::to_string(heads) +
                 " is no multiple of num_key_value_heads=" + std::to_string(kv_heads));
  }
  if (head_dim % 2 != 0) return wrong("head_dim=" + std::to_string(head_dim) + " is odd");
  if (!(norm_epsilon > 0.0f && norm_epsilon < 1.0f)) {
    return wrong("rms_norm_eps=" + show(static_cast<double>(norm_epsilon)) + "; over 0, under 1");
  }
  return validate_rope(*this);
}

StatusOr<ModelConfig> parse_config(std::string_view text) {
  const Json json = parse_bounded_json(text);
  if (!json.is_object()) return wrong("not a JSON object");
  Fields top(json);
  ModelConfig config;
  TERRACE_RETURN_IF_ERROR(read_family(&top, &config));
  TERRACE_RETURN_IF_ERROR(refuse_what_is_not_computed(&top));
  config.hidden = top.integer("hidden_size", nullptr);
  config.ffn = top.integer("intermediate_size", nullptr);
  config.layers = top.integer("num_hidden_layers", nullptr);
  config.heads = top.integer("num_attention_heads", nullptr);
  config.kv_heads = top.integer("num_key_value_heads", &config.heads);
  const uint32_t head_dim = config.heads == 0 ? 0 : config.hidden / config.heads;
  config.head_dim = top.integer("head_dim", &head_dim);
  config.vocab = top.integer("vocab_size", nullptr);
  config.context_max = top.integer("max_position_embeddings", &config.context_max);
  config.norm_epsilon = static_cast<float>(top.real("rms_norm_eps", 1e-6));
  config.tied_embeddings = top.flag("tie_word_embeddings", false);
  TERRACE_RETURN_IF_ERROR(read_rope(&top, &config));
  TERRACE_RETURN_IF_ERROR(top.status());
  TERRACE_RETURN_IF_ERROR(config.validate());
  return config;
}

StatusOr<std::string> read_text_file(const std::string& path, uint64_t bytes_max) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error(StatusCode::kNotFound, path + ": cannot be opened");
  std::string text(bytes_max + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return error(StatusCode::kDataLoss, path + ": cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > bytes_max) {
    return error(StatusCode::kInvalidArgument,
                 path + " is over " + std::to_string(bytes_max) + " bytes");
  }
  return text;
}

StatusOr<ModelConfig> load_config(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(const std::string text,
                           read_text_file(directory + "/config.json", kConfigBytesMax));
  return parse_config(text);
}

ModelConfig builtin_config() {
  ModelConfig config;
  config.hidden = 512;
  config.ffn = 1536;
  config.layers = 8;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.vocab = 259;  // the bytes and three specials
  config.context_max = 16'384;
  config.norm_epsilon = 1e-5f;
  config.tied_embeddings = true;
  return config;
}

Rope rope_of(const ModelConfig& config) {
  Rope rope;
  rope.pairing = RopePairing::halves;
  rope.rotary_dim = static_cast<uint16_t>(config.head_dim);
  for (uint32_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = 2.0 * i / config.head_dim;
    const double frequency = std::pow(config.rope_theta, -exponent);
    rope.frequencies.push_back(static_cast<float>(scaled_frequency(config, frequency)));
  }
  return rope;
}

Geometry geometry_of(const ModelConfig& config, uint32_t tokens_per_chunk) {
  LayerGeometry layer;
  layer.kv_heads = static_cast<uint16_t>(config.kv_heads);
  layer.head_dim = static_cast<uint16_t>(config.head_dim);
  layer.dtype = Dtype::f32;
  layer.attention = config.kv_heads == config.heads ? Attention::mha : Attention::gqa;
  Geometry geometry;
  geometry.tokens_per_chunk = tokens_per_chunk;
  geometry.layers.assign(config.layers, layer);
  geometry.ropes.push_back(rope_of(config));
  return geometry;
}

Fingerprint fingerprint_of(const ModelConfig& config, const ModelIdentity& identity,
                           uint32_t tokens_per_chunk) {
  Fingerprint fingerprint;
  fingerprint.model_id = identity.name;
  fingerprint.model_revision = identity.revision;
  fingerprint.weights_digest = identity.weights_digest;
  fingerprint.tokenizer_digest = identity.tokenizer_digest;
  fingerprint.engine_layout = "NHD, K after RoPE, " + matrix_kernels();
  fingerprint.geometry = geometry_of(config, tokens_per_chunk);
  return fingerprint;
}
}  // namespace terrace
