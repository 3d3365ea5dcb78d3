// tools/reference_engine/loaded_model.h - a model with its name, out of a directory or built in.
// Values.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/reference_engine/config.h"
#include "tools/reference_engine/tokenizer.h"
#include "tools/reference_engine/weights.h"

namespace terrace {

struct LoadedModel {
  ModelConfig config;
  Weights weights;
  ModelIdentity identity;
  ByteTokenizer tokenizer;
  std::vector<std::string> notes;  // sentences that a person should see once
};

/// `directory` holds config.json and model.safetensors, or an index and its shards. Reads every
/// byte of the weights for their digest. Errors of load_config, Checkpoint and load_weights;
/// kInvalidArgument when the vocabulary has no room for byte tokens.
StatusOr<LoadedModel> load_model(const std::string& directory);
/// builtin_config with random_weights: equal on every machine.
LoadedModel builtin_model(uint64_t seed);
}  // namespace terrace
