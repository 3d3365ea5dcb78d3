#include "tools/reference_engine/kv_store.h"

#include <algorithm>

#include "base/limits.h"

namespace terrace {
namespace {
using std::chrono::milliseconds;

constexpr size_t kSavesInFlightMax = 16;
constexpr milliseconds kLease{20'000};
/// An operation ends by its deadline; this much later something is broken.
constexpr milliseconds kGrace{2'000};

bool stored(StatusCode code) {
  return code == StatusCode::kOk || code == StatusCode::kAlreadyExists;
}

Status check_pool(const Geometry& geometry, const KvPool& pool) {
  const uint64_t token_bytes = uint64_t{pool.row_floats()} * sizeof(float);
  bool fits = geometry.layers.size() == pool.layers() &&
              geometry.tokens_per_chunk % KvPool::kBlockTokens == 0;
  for (size_t layer = 0; fits && layer < geometry.layers.size(); ++layer) {
    fits = geometry.plane_bytes(static_cast<uint16_t>(layer), 1) == token_bytes;
  }
  if (fits) return ok_status();
  return error(StatusCode::kInvalidArgument, "the KV pool has " + std::to_string(pool.layers()) +
                                                 " layers of " + std::to_string(token_bytes) +
                                                 " bytes per token and plane: not the geometry's");
}
}  // namespace

StatusOr<std::unique_ptr<KvStore>> KvStore::open(Client* client, KvPool* pool,
                                                 const Fingerprint& fingerprint,
                                                 const KvStoreOptions& options) {
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  TERRACE_RETURN_IF_ERROR(check_pool(fingerprint.geometry, *pool));
  std::unique_ptr<KvStore> store(new KvStore(client, pool, fingerprint, options));
  TERRACE_ASSIGN_OR_RETURN(store->namespace_,
                           client->open_namespace(options.namespace_name, fingerprint));
  TERRACE_ASSIGN_OR_RETURN(store->region_, client->register_memory(pool->memory()));
  store->registered_ = true;
  store->segments_ = store->segments();
  return store;
}

KvStore::KvStore(Client* client, KvPool* pool, const Fingerprint& fingerprint,
                 KvStoreOptions options)
    : client_(client), pool_(pool), geometry_(fingerprint.geometry), options_(std::move(options)) {}

KvStore::~KvStore() {
  for (const Load& load : loads_) client_->cancel(load.op);
  for (const Save& save : saves_) client_->cancel(save.op);
  finish_load();
  finish_save();
  // A refusal leaves the region to the client's close.
  if (registered_) static_cast<void>(client_->unregister_memory(region_));
}

std::vector<PoolSegment> KvStore::segments() const {
  std::vector<PoolSegment> segments;
  for (uint32_t layer = 0; layer < pool_->layers(); ++layer) {
    for (const auto& [kind, plane] : {std::pair{SectionKind::k_plane, KvPlane::keys},
                                      std::pair{SectionKind::v_plane, KvPlane::values}}) {
      segments.push_back({static_cast<uint16_t>(layer), kind, region_,
                          pool_->plane_offset(layer, plane), pool_->block_bytes(),
                          pool_->block_bytes()});
    }
  }
  return segments;
}

uint32_t KvStore::blocks_per_chunk() const {
  return geometry_.tokens_per_chunk / KvPool::kBlockTokens;
}

std::span<const uint32_t> KvStore::block_ids(uint32_t chunk, const Sequence& sequence) const {
  const uint32_t blocks = blocks_per_chunk();
  TERRACE_CHECK(uint64_t{chunk + 1} * blocks <= sequence.blocks().size());
  return sequence.blocks().subspan(uint64_t{chunk} * blocks, blocks);
}

/// The operation ends by its deadline; cancelling is for a clock that went wrong.
StatusOr<Completion> KvStore::end(OpId op, milliseconds deadline) {
  StatusOr<Completion> done = client_->wait(op, deadline + kGrace);
  if (done.ok() || done.status().code() != StatusCode::kDeadlineExceeded) return done;
  client_->cancel(op);
  return client_->wait(op, kGrace);
}

StatusOr<uint32_t> KvStore::match(std::span<const ChunkKey> keys) {
  LookupOptions options;
  options.deadline = options_.lookup_deadline;
  options.lease = kLease;
  const GroupKeys group{keys, 0};
  TERRACE_ASSIGN_OR_RETURN(const OpId op, client_->match_prefix(namespace_, {&group, 1}, options));
  TERRACE_ASSIGN_OR_RETURN(const Completion done, end(op, options_.lookup_deadline));
  load_report_.lookup_elapsed = done.elapsed;
  lease_ = done.lease;
  TERRACE_RETURN_IF_ERROR(done.status);
  return std::min(done.longest, static_cast<uint32_t>(keys.size()));
}

/// In as few requests as their bound on block ids allows, first chunks first; up to the first that
/// is refused.
void KvStore::fetch(std::span<const ChunkKey> keys, const Sequence& sequence) {
  FetchOptions options;
  options.deadline = options_.load_deadline;
  options.lease = lease_;
  options.pool = segments_;
  const uint32_t per_request = std::max(1u, kBlockIdsPerRequestMax / blocks_per_chunk());
  const uint32_t count = static_cast<uint32_t>(keys.size());
  uint32_t next = 0;
  while (next < count) {
    std::vector<FetchItem> items;
    for (uint32_t chunk = next; chunk < count && items.size() < per_request; ++chunk) {
      items.push_back({keys[chunk], {}, block_ids(chunk, sequence)});
    }
    StatusOr<OpId> op = client_->fetch(namespace_, items, options);
    if (!op.ok()) {
      load_report_.status.update(op.status());
      return;
    }
    loads_.push_back({*op, next, static_cast<uint32_t>(items.size())});
    next += static_cast<uint32_t>(items.size());
  }
}

uint32_t KvStore::begin_load(std::span<const uint32_t> tokens, uint32_t chunks_max,
                             const Sequence& sequence) {
  TERRACE_CHECK(loads_.empty());
  load_report_ = {};
  StatusOr<std::vector<ChunkKey>> all = client_->prefix_keys(namespace_, tokens);
  load_report_.status.update(all.status());
  if (!all.ok()) return 0;
  const size_t count = std::min({all->size(), size_t{chunks_max}, size_t{kKeysPerRequestMax}});
  if (count == 0) return 0;
  const std::span<const ChunkKey> keys = std::span(*all).first(count);
  StatusOr<uint32_t> longest = match(keys);
  load_report_.status.update(longest.status());
  if (!longest.ok() || *longest == 0) return 0;
  fetch(keys.first(*longest), sequence);
  if (!loads_.empty()) load_report_.expected_chunks = loads_.back().first + loads_.back().count;
  return load_report_.expected_chunks;
}

Status KvStore::wait_layer(uint32_t layer) {
  for (const Load& load : loads_) {
    TERRACE_RETURN_IF_ERROR(client_->wait_layer(load.op, layer, options_.load_deadline + kGrace));
  }
  return ok_status();
}

LoadReport KvStore::finish_load() {
  bool leading = true;
  for (const Load& load : loads_) {
    StatusOr<Completion> done = end(load.op, options_.load_deadline);
    load_report_.status.update(done.ok() ? done->status : done.status());
    if (done.ok()) {
      load_report_.bytes += done->bytes;
      for (size_t t = 0; t < kTierCount; ++t) load_report_.tier_bytes[t] += done->tier_bytes[t];
      load_report_.fetch_elapsed = std::max(load_report_.fetch_elapsed, done->elapsed);
    }
    for (uint32_t i = 0; i < load.count; ++i) {
      leading = leading && done.ok() && i < done->key_codes.size() &&
                done->key_codes[i] == StatusCode::kOk;
      if (leading) ++load_report_.chunks;
    }
  }
  loads_.clear();
  if (lease_ != kNoLease) client_->release(std::exchange(lease_, kNoLease));
  return std::exchange(load_report_, {});
}

void KvStore::begin_save(std::span<const uint32_t> tokens, const Sequence& sequence) {
  TERRACE_CHECK(saves_.empty());
  save_report_ = {};
  save_keys_.clear();
  save_sequence_ = &sequence;
  StatusOr<std::vector<ChunkKey>> keys = client_->prefix_keys(namespace_, tokens);
  save_report_.status.update(keys.status());
  if (keys.ok()) save_keys_ = *std::move(keys);
}

void KvStore::begin_chunk(uint32_t chunk) {
  if (chunk >= save_keys_.size()) {
    ++save_report_.failed;
    return;
  }
  if (saves_.size() == kSavesInFlightMax) end_oldest_save();
  submit_save(chunk);
}

void KvStore::submit_save(uint32_t chunk) {
  PutOptions options;
  options.deadline = options_.save_deadline;
  options.priority = Priority::store;
  options.durability = options_.durability;
  options.sources_ready = false;
  options.pool = segments_;
  PutItem item;
  item.key = save_keys_[chunk];
  item.block_ids = block_ids(chunk, *save_sequence_);
  StatusOr<OpId> op = client_->put(namespace_, {&item, 1}, options);
  save_report_.status.update(op.status());
  if (op.ok()) return saves_.push_back({*op, chunk, 0});
  ++save_report_.failed;
}

/// A put that ended early (a duplicate) has no sections to wait for: kNotFound is no trouble.
void KvStore::layer_computed(uint32_t chunk, uint32_t layer) {
  if (saves_.empty() || saves_.back().chunk != chunk) return;
  constexpr uint32_t kPlanes = 2;
  saves_.back().layers_ready = layer + 1;
  const Status ready = client_->source_ready(saves_.back().op, 0, layer * kPlanes, kPlanes);
  if (!ready.ok() && ready.code() != StatusCode::kNotFound) save_report_.status.update(ready);
}

/// A chunk whose computation broke off will never be whole: it need not wait for its deadline.
void KvStore::end_oldest_save() {
  const Save save = saves_.front();
  saves_.pop_front();
  if (save.layers_ready < pool_->layers()) client_->cancel(save.op);
  StatusOr<Completion> done = end(save.op, options_.save_deadline);
  const StatusCode code = !done.ok()                ? done.status().code()
                          : done->key_codes.empty() ? done->status.code()
                                                    : done->key_codes[0];
  if (!stored(code)) {
    save_report_.status.update(done.ok() && !done->status.ok() ? done->status : Status(code));
    ++save_report_.failed;
    return;
  }
  ++save_report_.chunks;
  save_report_.bytes += code == StatusCode::kOk ? done->bytes : 0;
  save_report_.duplicates += code == StatusCode::kAlreadyExists ? 1 : 0;
}

SaveReport KvStore::finish_save() {
  while (!saves_.empty()) end_oldest_save();
  // The prompt's chunks were used together: its head is to outlive its tail.
  if (save_sequence_ != nullptr) client_->touch(namespace_, save_keys_);
  save_sequence_ = nullptr;
  return std::exchange(save_report_, {});
}

SaveReport KvStore::save(std::span<const uint32_t> tokens, const Sequence& sequence) {
  begin_save(tokens, sequence);
  for (uint32_t chunk = 0; chunk < tokens.size() / geometry_.tokens_per_chunk; ++chunk) {
    begin_chunk(chunk);
    for (uint32_t layer = 0; layer < pool_->layers(); ++layer) layer_computed(chunk, layer);
  }
  return finish_save();
}
}  // namespace terrace
