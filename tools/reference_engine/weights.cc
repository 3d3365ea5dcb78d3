#include "tools/reference_engine/weights.h"

#include <cmath>
#include <utility>

#include "base/prng.h"

namespace terrace {
namespace {

class SlotList {
 public:
  void add(std::string name, std::vector<uint64_t> shape, FloatArray* into) {
    slots_.push_back({std::move(name), std::move(shape), into});
  }
  /// A matrix and, where the model has one, its bias.
  void add_linear(const std::string& name, std::pair<uint64_t, uint64_t> shape, FloatArray* matrix,
                  FloatArray* bias) {
    add(name + ".weight", {shape.first, shape.second}, matrix);
    if (bias != nullptr) add(name + ".bias", {shape.first}, bias);
  }
  std::vector<TensorSlot> take() { return std::move(slots_); }

 private:
  std::vector<TensorSlot> slots_;
};

void add_layer(const ModelConfig& c, const std::string& prefix, LayerWeights* w, SlotList* slots) {
  const auto bias_if = [](bool has, FloatArray* bias) { return has ? bias : nullptr; };
  const std::string attention = prefix + "self_attn.";
  slots->add(prefix + "input_layernorm.weight", {c.hidden}, &w->attention_norm);
  slots->add_linear(attention + "q_proj", {c.query_width(), c.hidden}, &w->query,
                    bias_if(c.qkv_bias, &w->query_bias));
  slots->add_linear(attention + "k_proj", {c.kv_width(), c.hidden}, &w->key,
                    bias_if(c.qkv_bias, &w->key_bias));
  slots->add_linear(attention + "v_proj", {c.kv_width(), c.hidden}, &w->value,
                    bias_if(c.qkv_bias, &w->value_bias));
  slots->add_linear(attention + "o_proj", {c.hidden, c.query_width()}, &w->output,
                    bias_if(c.output_bias, &w->output_bias));
  slots->add(prefix + "post_attention_layernorm.weight", {c.hidden}, &w->ffn_norm);
  slots->add_linear(prefix + "mlp.gate_proj", {c.ffn, c.hidden}, &w->gate, nullptr);
  slots->add_linear(prefix + "mlp.up_proj", {c.ffn, c.hidden}, &w->up, nullptr);
  slots->add_linear(prefix + "mlp.down_proj", {c.hidden, c.ffn}, &w->down, nullptr);
}

uint64_t elements(const std::vector<uint64_t>& shape) {
  uint64_t count = 1;
  for (const uint64_t extent : shape) count *= extent;
  return count;
}

/// Uniform, with the variance that keeps activations near one; norms near one.
FloatArray random_tensor(const TensorSlot& slot, Prng* prng) {
  FloatArray out(elements(slot.shape));
  const bool vector = slot.shape.size() == 1;
  const bool bias = slot.name.ends_with(".bias");
  const double reach = vector ? 0.1 : std::sqrt(3.0 / static_cast<double>(slot.shape[1]));
  const double middle = vector && !bias ? 1.0 : 0.0;
  for (float& value : out.span()) {
    value = static_cast<float>(middle + (2.0 * prng->unit() - 1.0) * reach);
  }
  return out;
}
}  // namespace

std::vector<TensorSlot> slots_of(const ModelConfig& config, Weights* weights) {
  weights->layers.resize(config.layers);
  SlotList slots;
  slots.add("model.embed_tokens.weight", {config.vocab, config.hidden}, &weights->embedding);
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    add_layer(config, "model.layers." + std::to_string(layer) + ".", &weights->layers[layer],
              &slots);
  }
  slots.add("model.norm.weight", {config.hidden}, &weights->final_norm);
  if (!config.tied_embeddings) {
    slots.add("lm_head.weight", {config.vocab, config.hidden}, &weights->output);
  }
  return slots.take();
}

StatusOr<Weights> load_weights(const Checkpoint& checkpoint, const ModelConfig& config) {
  Weights weights;
  for (const TensorSlot& slot : slots_of(config, &weights)) {
    TERRACE_ASSIGN_OR_RETURN(*slot.into, checkpoint.read(slot.name, slot.shape));
  }
  return weights;
}

Weights random_weights(const ModelConfig& config, uint64_t seed) {
  Weights weights;
  Prng prng(seed);
  for (const TensorSlot& slot : slots_of(config, &weights)) {
    *slot.into = random_tensor(slot, &prng);
  }
  return weights;
}
}  // namespace terrace
