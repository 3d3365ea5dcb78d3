// tools/cli/demo_rig.h - what a demo works with: a node of its own, the engine, and the engine's KV
// in the node; and what is done to the node. Blocking; single-threaded.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "client/terrace.h"
#include "tools/cli/command.h"
#include "tools/cli/local_node.h"
#include "tools/reference_engine/engine.h"
#include "tools/reference_engine/kv_store.h"

namespace terrace {

struct DemoOptions {
  std::string docs;   // empty: the checkout's own
  std::string model;  // empty: the built-in one
  uint32_t documents = 4;
  uint32_t document_tokens = 1536;  // of each, at most
  uint32_t rounds = 3;              // each question asked so often cold and warm; medians count
  uint32_t tokens_per_chunk = 256;
  std::string directory = "/var/tmp";  // where the node's files go
};

/// A store that lets something happen while a load is under way.
class InterruptedStore final : public PrefixStore {
 public:
  InterruptedStore(PrefixStore* inner, std::function<void()> interrupt)
      : inner_(inner), interrupt_(std::move(interrupt)) {}
  uint32_t begin_load(std::span<const uint32_t> tokens, uint32_t chunks_max,
                      const Sequence& sequence) override {
    const uint32_t chunks = inner_->begin_load(tokens, chunks_max, sequence);
    interrupt_();
    return chunks;
  }
  Status wait_layer(uint32_t layer) override { return inner_->wait_layer(layer); }
  LoadReport finish_load() override { return inner_->finish_load(); }
  void begin_save(std::span<const uint32_t> tokens, const Sequence& sequence) override {
    inner_->begin_save(tokens, sequence);
  }
  void begin_chunk(uint32_t chunk) override { inner_->begin_chunk(chunk); }
  void layer_computed(uint32_t chunk, uint32_t layer) override {
    inner_->layer_computed(chunk, layer);
  }
  SaveReport finish_save() override { return inner_->finish_save(); }

 private:
  PrefixStore* const inner_;
  const std::function<void()> interrupt_;
};

/// Members end last to first.
class DemoRig {
 public:
  static StatusOr<std::unique_ptr<DemoRig>> start(const DemoOptions& options);

  Engine& engine() { return *engine_; }
  PrefixStore& store() { return *store_; }
  const std::string& endpoint() const { return endpoint_; }
  std::vector<uint32_t> encode(const std::string& text) const {
    return engine_->tokenizer().encode(text);
  }

  /// SIGKILL; returns when the node is gone.
  void kill_node() { node_.kill(); }
  Status stop_node() { return node_.stop(); }
  /// Starts it again on the same data and the same port. Chunks are not promoted from then on, so
  /// that the tier that a hit names is the device.
  Status restart_node();
  /// Waits until the node serves the first chunk of `prompt` from nvme, as a client that comes new.
  /// kDeadlineExceeded after `timeout`.
  Status wait_for_nvme(std::span<const uint32_t> prompt, milliseconds timeout);
  /// Waits until the engine's own client is connected again. kDeadlineExceeded after `timeout`.
  Status wait_for_session(std::span<const uint32_t> prompt, milliseconds timeout);
  /// Flips one bit in the middle of chunk `chunk` of `prompt` in the data file. The node must not
  /// run. kNotFound: the durable index has no such chunk.
  Status flip_bit(std::span<const uint32_t> prompt, uint32_t chunk);
  /// What the node counts, by name.
  StatusOr<uint64_t> counter(const std::string& name) const;

 private:
  explicit DemoRig(TemporaryDirectory directory) : directory_(std::move(directory)) {}
  Status launch();
  Status open_engine(const DemoOptions& options);

  TemporaryDirectory directory_;
  LocalNodeOptions node_options_;
  LocalNode node_;
  std::string endpoint_;
  const SystemClock clock_;
  std::unique_ptr<Engine> engine_;  // outlives the client, which borrows its pool
  std::unique_ptr<Client> client_;
  std::unique_ptr<KvStore> store_;
};
}  // namespace terrace
