#include "tools/reference_engine/loaded_model.h"

#include <filesystem>

namespace terrace {

StatusOr<LoadedModel> load_model(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(const ModelConfig config, load_config(directory));
  TERRACE_ASSIGN_OR_RETURN(const ByteTokenizer tokenizer, ByteTokenizer::create(config.vocab));
  TERRACE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(directory));
  TERRACE_ASSIGN_OR_RETURN(Weights weights, load_weights(checkpoint, config));
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::weakly_canonical(directory, ignored);
  ModelIdentity identity;
  identity.name = path.filename().empty() ? "model" : path.filename().string();
  identity.weights_digest = checkpoint.digest();
  identity.tokenizer_digest = tokenizer.digest();
  LoadedModel model{config, std::move(weights), identity, tokenizer, {}};
  if (std::filesystem::exists(path / "tokenizer.json", ignored)) {
    model.notes.push_back(
        "tokenizer.json is not read: every byte of a text is a token, so the answers mean nothing "
        "as language; speed, KV and logits are real");
  }
  return model;
}

LoadedModel builtin_model(uint64_t seed) {
  const ModelConfig config = builtin_config();
  StatusOr<ByteTokenizer> tokenizer = ByteTokenizer::create(config.vocab);
  ModelIdentity identity;
  identity.name = "terrace-builtin";
  identity.revision = "1";
  identity.weights_digest = "seed " + std::to_string(seed);
  identity.tokenizer_digest = tokenizer->digest();
  return {config, random_weights(config, seed), identity, *tokenizer, {}};
}
}  // namespace terrace
