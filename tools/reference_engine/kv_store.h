// tools/reference_engine/kv_store.h - the engine's KV in a Terrace node, through the SDK: a chunk
// is tokens_per_chunk tokens, its sections are the K and V planes of each layer, and its bytes lie
// scattered over the blocks of the pool, which is registered once. Thread-confined; the client may
// serve others too.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/identity.h"
#include "base/status.h"
#include "client/terrace.h"
#include "tools/reference_engine/kv_pool.h"
#include "tools/reference_engine/prefix_store.h"

namespace terrace {

struct KvStoreOptions {
  std::string namespace_name = "reference";
  Durability durability = Durability::nvme;
  std::chrono::milliseconds lookup_deadline{1'000};
  std::chrono::milliseconds load_deadline{5'000};
  std::chrono::milliseconds save_deadline{60'000};  // of one chunk, its computation included
};

class KvStore final : public PrefixStore {
 public:
  /// `client` and `pool` must outlive the store. Errors of open_namespace (kFailedPrecondition:
  /// another model's namespace) and register_memory; kInvalidArgument when the pool is not of the
  /// fingerprint's geometry.
  static StatusOr<std::unique_ptr<KvStore>> open(Client* client, KvPool* pool,
                                                 const Fingerprint& fingerprint,
                                                 const KvStoreOptions& options);
  /// Cancels what is in flight and waits for its end.
  ~KvStore() override;
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;

  uint32_t begin_load(std::span<const uint32_t> tokens, uint32_t chunks_max,
                      const Sequence& sequence) override;
  Status wait_layer(uint32_t layer) override;
  LoadReport finish_load() override;

  void begin_save(std::span<const uint32_t> tokens, const Sequence& sequence) override;
  void begin_chunk(uint32_t chunk) override;
  void layer_computed(uint32_t chunk, uint32_t layer) override;
  SaveReport finish_save() override;

  /// All full chunks of `tokens`, whose KV lies in `sequence`, at once.
  SaveReport save(std::span<const uint32_t> tokens, const Sequence& sequence);

  NamespaceId namespace_id() const { return namespace_; }

 private:
  struct Load {  // a fetch of the chunks [first, first + count)
    OpId op{};
    uint32_t first = 0;
    uint32_t count = 0;
  };
  struct Save {
    OpId op{};
    uint32_t chunk = 0;
    uint32_t layers_ready = 0;
  };

  KvStore(Client* client, KvPool* pool, const Fingerprint& fingerprint, KvStoreOptions options);
  std::vector<PoolSegment> segments() const;
  uint32_t blocks_per_chunk() const;
  std::span<const uint32_t> block_ids(uint32_t chunk, const Sequence& sequence) const;
  StatusOr<uint32_t> match(std::span<const ChunkKey> keys);
  void fetch(std::span<const ChunkKey> keys, const Sequence& sequence);
  StatusOr<Completion> end(OpId op, std::chrono::milliseconds deadline);
  void submit_save(uint32_t chunk);
  void end_oldest_save();

  Client* const client_;
  KvPool* const pool_;
  const Geometry geometry_;
  const KvStoreOptions options_;
  NamespaceId namespace_{};
  RegionId region_{};
  bool registered_ = false;
  std::vector<PoolSegment> segments_;  // of the registered pool

  std::vector<Load> loads_;
  LeaseId lease_ = kNoLease;
  LoadReport load_report_;

  std::vector<ChunkKey> save_keys_;
  const Sequence* save_sequence_ = nullptr;
  std::deque<Save> saves_;  // in flight, oldest first; at most kSavesInFlightMax
  SaveReport save_report_;
};
}  // namespace terrace
