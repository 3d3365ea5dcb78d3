// Goal: no file that a person or a download brings (a node's configuration, a model's config.json,
// a safetensors header) crashes its reader or gets it to accept what lies outside its bounds.
// Method: byte 0 picks the reader, the rest is the file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "server/node/config.h"
#include "tools/reference_engine/config.h"
#include "tools/reference_engine/safetensors.h"

namespace terrace {
namespace {

constexpr uint8_t kReaders = 3;

void try_node_config(const std::string& text) {
  NodeConfig config;
  config.dev = true;
  if (!apply_toml(text, "fuzz.toml", &config).ok() || !config.validate().ok()) return;
  NodeConfig again;
  TERRACE_CHECK(apply_toml(to_toml(config), "again", &again).ok());
  TERRACE_CHECK(to_toml(again) == to_toml(config));
}

void try_model_config(const std::string& text) {
  const auto config = parse_config(text);
  if (config.ok()) TERRACE_CHECK(config->validate().ok());
}

void try_safetensors(const std::string& file) {
  const auto tensors = parse_safetensors(file);
  if (!tensors.ok()) return;
  for (const auto& [name, tensor] : *tensors) {
    TERRACE_CHECK(tensor.begin <= tensor.end && tensor.end <= file.size());
  }
}

std::string safetensors_seed() {
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"__metadata__":{"x":"y"}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  return file + header + std::string(22, 'z');
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  if (size == 0) return 0;
  const std::string input(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % kReaders) {
    case 0:
      try_node_config(input);
      break;
    case 1:
      try_model_config(input);
      break;
    default:
      try_safetensors(input);
  }
  return 0;
}

extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  const std::string seeds[] = {
      to_toml(NodeConfig()) + "\n[[token]]\ntenant = \"a\"\nsha256 = \"00\"\n",
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,)"
      R"("intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,)"
      R"("num_key_value_heads":2,"vocab_size":300,"max_position_embeddings":512,)"
      R"("rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu"})",
      safetensors_seed()};
  if (i >= kReaders) return 0;
  TERRACE_CHECK(seeds[i].size() + 1 <= out_max);
  out[0] = static_cast<uint8_t>(i);
  std::memcpy(out + 1, seeds[i].data(), seeds[i].size());
  return seeds[i].size() + 1;
}
