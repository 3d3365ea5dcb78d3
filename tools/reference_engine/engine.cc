#include "tools/reference_engine/engine.h"

#include <algorithm>

#include "tools/reference_engine/ops.h"

namespace terrace {

/// Ties the steps of one answer to its store: waits for loaded layers, hands out computed ones.
class Engine::StoreObserver final : public StepObserver {
 public:
  StoreObserver(const AnswerOptions& options, uint32_t layers)
      : options_(options), layers_(layers) {}

  uint32_t begin_load(std::span<const uint32_t> prompt, uint32_t chunks_max,
                      const Sequence& sequence) {
    if (options_.store == nullptr || !options_.load || chunks_max == 0) return 0;
    loading_ = true;
    return options_.store->begin_load(prompt, chunks_max, sequence);
  }
  /// Idempotent. After it nothing writes into the sequence.
  void finish_load() {
    if (!loading_) return;
    loading_ = false;
    load_ = options_.store->finish_load();
  }
  void begin_save(std::span<const uint32_t> prompt, const Sequence& sequence) {
    if (saving()) options_.store->begin_save(prompt, sequence);
  }
  SaveReport finish_save() { return saving() ? options_.store->finish_save() : SaveReport{}; }

  /// `whole`: the step is a chunk, and not the tail.
  void begin_step(uint32_t chunk, bool whole) {
    chunk_ = chunk;
    whole_ = whole;
    marked_ = 0;
  }
  /// With the last layer everything has arrived or failed, and what failed becomes known: until
  /// then this step may have read bytes that never came.
  Status before_attention(uint32_t layer) override {
    if (!loading_) return ok_status();
    Status status = options_.store->wait_layer(layer);
    if (status.ok() && layer + 1 < layers_) return status;
    finish_load();
    if (status.ok() && load_.chunks < load_.expected_chunks) status = StatusCode::kNotFound;
    broken_ = !status.ok();
    return status;
  }
  /// The store, and nothing else, ended the step.
  bool broken() const { return broken_; }
  /// So nothing is offered to the store while the load goes on.
  void after_layer(uint32_t layer) override {
    if (!saving() || !whole_ || loading_) return;
    if (marked_ == 0) options_.store->begin_chunk(chunk_);
    for (; marked_ <= layer; ++marked_) options_.store->layer_computed(chunk_, marked_);
  }
  const LoadReport& load() const { return load_; }

 private:
  bool saving() const { return options_.store != nullptr && options_.save; }

  const AnswerOptions options_;
  const uint32_t layers_;
  LoadReport load_;
  bool loading_ = false;
  bool broken_ = false;
  bool whole_ = false;
  uint32_t chunk_ = 0;
  uint32_t marked_ = 0;  // layers of chunk_ that the store knows to be final
};

Engine::Engine(Parts parts, const EngineOptions& options, const Clock* clock,
               Fingerprint fingerprint, ByteTokenizer tokenizer)
    : options_(options),
      clock_(clock),
      model_(std::move(parts.model)),
      pool_(std::move(parts.pool)),
      fingerprint_(std::move(fingerprint)),
      tokenizer_(tokenizer) {}

StatusOr<std::unique_ptr<Engine>> Engine::create(LoadedModel model, const EngineOptions& options,
                                                 const Clock* clock) {
  if (options.tokens_per_chunk == 0 || options.tokens_per_chunk % KvPool::kBlockTokens != 0) {
    return error(StatusCode::kInvalidArgument,
                 "tokens_per_chunk=" + std::to_string(options.tokens_per_chunk) +
                     " is no multiple of " + std::to_string(KvPool::kBlockTokens));
  }
  Fingerprint fingerprint = fingerprint_of(model.config, model.identity, options.tokens_per_chunk);
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  Parts parts;
  TERRACE_ASSIGN_OR_RETURN(parts.model, Model::create(model.config, std::move(model.weights),
                                                      {options.tokens_per_chunk, options.context}));
  const uint32_t blocks =
      (parts.model->limits().context + KvPool::kBlockTokens - 1) / KvPool::kBlockTokens;
  TERRACE_ASSIGN_OR_RETURN(parts.pool, KvPool::create(model.config, blocks));
  std::unique_ptr<Engine> engine(
      new Engine(std::move(parts), options, clock, std::move(fingerprint), model.tokenizer));
  engine->notes_ = std::move(model.notes);
  return engine;
}

StatusOr<Answer> Engine::answer(std::span<const uint32_t> prompt, const AnswerOptions& options) {
  const uint64_t tokens = uint64_t{prompt.size()} + options.new_tokens_max;
  if (prompt.empty() || tokens > context()) {
    return error(StatusCode::kInvalidArgument,
                 "a prompt of " + std::to_string(prompt.size()) + " tokens and " +
                     std::to_string(options.new_tokens_max) + " new ones; 1 to " +
                     std::to_string(context()) + " together");
  }
  const Nanos began = clock_->now();
  TERRACE_ASSIGN_OR_RETURN(const Sequence sequence,
                           Sequence::allocate(pool_.get(), static_cast<uint32_t>(tokens)));
  StoreObserver observer(options, config().layers);
  Answer answer;
  answer.logits.resize(config().vocab);
  observer.begin_save(prompt, sequence);
  Status status = prefill(prompt, sequence, &observer, answer.logits);
  observer.finish_load();  // when the prefill ended before its last layer
  if (status.ok()) {
    answer.prompt_tokens = static_cast<uint32_t>(prompt.size());
    answer.load = observer.load();
    answer.hit_tokens = answer.load.chunks * options_.tokens_per_chunk;
    status = generate(options.new_tokens_max, sequence, began, &answer);
  }
  answer.save = observer.finish_save();  // whatever happened: it borrows the sequence
  TERRACE_RETURN_IF_ERROR(status);
  return answer;
}

/// Loads what there is and computes the rest; once more, from the first chunk that failed, when
/// less arrived than was promised.
Status Engine::prefill(std::span<const uint32_t> prompt, const Sequence& sequence,
                       StoreObserver* observer, std::span<float> logits) {
  const uint32_t last_step = static_cast<uint32_t>((prompt.size() - 1) / options_.tokens_per_chunk);
  const uint32_t expected = observer->begin_load(prompt, last_step, sequence);
  TERRACE_CHECK(expected <= last_step);
  if (expected == 0) {
    observer->finish_load();
    return compute_from(0, prompt, sequence, observer, logits);
  }
  const Status status = compute_from(expected, prompt, sequence, observer, logits);
  if (!observer->broken()) return status;
  return compute_from(observer->load().chunks, prompt, sequence, observer, logits);
}

Status Engine::compute_from(uint32_t first_chunk, std::span<const uint32_t> prompt,
                            const Sequence& sequence, StoreObserver* observer,
                            std::span<float> logits) {
  const uint32_t size = options_.tokens_per_chunk;
  const uint32_t count = static_cast<uint32_t>(prompt.size());
  for (uint32_t start = first_chunk * size; start < count; start += size) {
    const uint32_t tokens = std::min(size, count - start);
    observer->begin_step(start / size, tokens == size);
    const bool last = start + tokens == count;
    TERRACE_RETURN_IF_ERROR(model_->run({prompt.subspan(start, tokens), start, observer}, sequence,
                                        last ? logits : std::span<float>()));
  }
  return ok_status();
}

Status Engine::generate(uint32_t new_tokens_max, const Sequence& sequence, Nanos began,
                        Answer* answer) {
  uint32_t next = argmax(answer->logits);
  answer->time_to_first_token = clock_->now() - began;
  std::vector<float> logits(config().vocab);
  while (answer->tokens.size() < new_tokens_max) {
    const uint32_t position = answer->prompt_tokens + static_cast<uint32_t>(answer->tokens.size());
    answer->tokens.push_back(next);
    if (tokenizer_.ends(next) || answer->tokens.size() == new_tokens_max) break;
    TERRACE_RETURN_IF_ERROR(model_->run({{&next, 1}, position, nullptr}, sequence, logits));
    next = argmax(logits);
  }
  answer->elapsed = clock_->now() - began;
  return ok_status();
}
}  // namespace terrace
