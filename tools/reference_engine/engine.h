// tools/reference_engine/engine.h - answers prompts: loads the KV that a store has, computes the
// rest, and generates greedily. Thread-confined.
//
// A prompt is always computed in steps of tokens_per_chunk tokens cut at multiples of it, and a
// tail. A chunk that is loaded takes the place of exactly one such step, so the logits of a warm
// answer have the very bits of a cold one. The last step is always computed: it gives the logits.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/identity.h"
#include "base/status.h"
#include "tools/reference_engine/kv_pool.h"
#include "tools/reference_engine/loaded_model.h"
#include "tools/reference_engine/model.h"
#include "tools/reference_engine/prefix_store.h"

namespace terrace {

struct EngineOptions {
  uint32_t tokens_per_chunk = 256;  // a multiple of KvPool::kBlockTokens
  uint32_t context = 8192;          // tokens of a prompt and its answer; also the KV pool's size
};

struct AnswerOptions {
  uint32_t new_tokens_max = 0;   // 0: only the logits
  PrefixStore* store = nullptr;  // null: cold
  bool load = true;              // use what the store has
  bool save = false;             // give the store what it has not
};

struct Answer {
  std::vector<float> logits;     // after the last token of the prompt
  std::vector<uint32_t> tokens;  // generated
  uint32_t prompt_tokens = 0;
  uint32_t hit_tokens = 0;  // of the prompt, loaded and not computed
  Nanos time_to_first_token{0};
  Nanos elapsed{0};  // generation included, saving not
  LoadReport load;
  SaveReport save;
};

class Engine {
 public:
  /// `clock` must outlive the engine. kInvalidArgument: options; kResourceExhausted: no memory for
  /// the KV of a context.
  static StatusOr<std::unique_ptr<Engine>> create(LoadedModel model, const EngineOptions& options,
                                                  const Clock* clock);

  /// kInvalidArgument: an empty prompt, a token outside the vocabulary, more tokens than the
  /// context. Trouble with the store only makes it slower.
  StatusOr<Answer> answer(std::span<const uint32_t> prompt, const AnswerOptions& options);

  const Fingerprint& fingerprint() const { return fingerprint_; }
  const ByteTokenizer& tokenizer() const { return tokenizer_; }
  const ModelConfig& config() const { return model_->config(); }
  const std::vector<std::string>& notes() const { return notes_; }
  uint32_t tokens_per_chunk() const { return options_.tokens_per_chunk; }
  uint32_t context() const { return model_->limits().context; }
  KvPool* pool() { return pool_.get(); }

 private:
  class StoreObserver;
  struct Parts {
    std::unique_ptr<Model> model;
    std::unique_ptr<KvPool> pool;
  };
  Engine(Parts parts, const EngineOptions& options, const Clock* clock, Fingerprint fingerprint,
         ByteTokenizer tokenizer);
  Status prefill(std::span<const uint32_t> prompt, const Sequence& sequence,
                 StoreObserver* observer, std::span<float> logits);
  Status compute_from(uint32_t first_chunk, std::span<const uint32_t> prompt,
                      const Sequence& sequence, StoreObserver* observer, std::span<float> logits);
  Status generate(uint32_t new_tokens_max, const Sequence& sequence, Nanos began, Answer* answer);

  const EngineOptions options_;
  const Clock* const clock_;
  const std::unique_ptr<Model> model_;
  const std::unique_ptr<KvPool> pool_;
  const Fingerprint fingerprint_;
  const ByteTokenizer tokenizer_;
  std::vector<std::string> notes_;
};
}  // namespace terrace
