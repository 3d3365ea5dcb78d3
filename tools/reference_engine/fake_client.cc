#include "tools/reference_engine/fake_client.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace terrace {

FakeStore& fake_store() {
  static FakeStore store;
  return store;
}

namespace {
struct Item {
  ChunkKey key;
  std::vector<PoolSegment> pool;  // in section order
  std::vector<uint32_t> blocks;
};
struct Operation {
  Completion completion;
  std::vector<Item> items;
  bool is_fetch = false;
  uint64_t bytes_ready = 0;  // of a put
  std::string staged;
};
}  // namespace

class Client::Core {
 public:
  Fingerprint fingerprint;
  std::map<RegionId, std::span<std::byte>> regions;
  std::map<OpId, Operation> operations;
  uint64_t next_id = 1;

  /// Object bytes [begin, end) between `object` and the item's memory.
  void move(const Item& item, uint64_t begin, uint64_t end, char* object, bool to_memory) {
    uint64_t plane_begin = 0;
    for (const PoolSegment& plane : item.pool) {
      for (size_t i = 0; i < item.blocks.size(); ++i) {
        const uint64_t block_begin = plane_begin + i * plane.block_bytes;
        if (block_begin < begin || block_begin >= end) continue;  // planes are cut whole
        const std::span<std::byte> memory = regions.at(plane.region);
        const uint64_t at = plane.offset + item.blocks[i] * plane.block_stride;
        TERRACE_CHECK(at + plane.block_bytes <= memory.size());
        void* const here = memory.data() + at;
        if (to_memory) std::memcpy(here, object + block_begin, plane.block_bytes);
        if (!to_memory) std::memcpy(object + block_begin, here, plane.block_bytes);
      }
      plane_begin += item.blocks.size() * plane.block_bytes;
    }
  }
  /// The object bytes of layers [0, count).
  uint64_t bytes_of_layers(uint64_t count) const {
    uint64_t bytes = 0;
    for (const SectionSpec& s : sections_of(fingerprint.geometry, chunk_tokens())) {
      if (s.layer < count) bytes += s.bytes;
    }
    return bytes;
  }
  uint32_t chunk_tokens() const { return fingerprint.geometry.tokens_per_chunk; }
  StatusOr<OpId> submit(Operation operation) {
    const OpId op{next_id++};
    operation.completion.op = op;
    if (fake_store().down) {
      operation.completion.status = StatusCode::kUnavailable;
      operation.completion.key_codes.assign(operation.items.size(), StatusCode::kUnavailable);
    }
    operations.emplace(op, std::move(operation));
    return op;
  }
  void deliver(Operation* op, uint32_t layer) {
    for (size_t i = 0; i < op->items.size(); ++i) {
      if (op->completion.key_codes[i] != StatusCode::kOk) continue;
      const uint64_t begin = bytes_of_layers(layer), end = bytes_of_layers(layer + 1);
      move(op->items[i], begin, end, fake_store().objects.at(op->items[i].key).data(), true);
      op->completion.bytes += end - begin;
      op->completion.tier_bytes[static_cast<size_t>(Tier::dram)] += end - begin;
    }
  }
};

Client::Client(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Client::~Client() = default;
StatusOr<std::unique_ptr<Client>> Client::open(const ClientConfig&) {
  return std::unique_ptr<Client>(new Client(std::make_unique<Core>()));
}

StatusOr<NamespaceId> Client::open_namespace(const std::string&, const Fingerprint& fingerprint) {
  core_->fingerprint = fingerprint;
  return NamespaceId{1};
}
StatusOr<RegionId> Client::register_memory(std::span<std::byte> memory) {
  const RegionId id{core_->next_id++};
  core_->regions[id] = memory;
  ++fake_store().regions_open;
  return id;
}
Status Client::unregister_memory(RegionId region) {
  if (core_->regions.erase(region) == 0) return StatusCode::kNotFound;
  --fake_store().regions_open;
  return ok_status();
}
StatusOr<std::vector<ChunkKey>> Client::prefix_keys(NamespaceId, std::span<const uint32_t> tokens,
                                                    uint32_t, std::string_view) const {
  KeyParts parts;
  parts.fingerprint = digest_of(core_->fingerprint);
  parts.tokens_per_chunk = core_->chunk_tokens();
  parts.tokens = tokens;
  return chain_keys(parts);
}

StatusOr<OpId> Client::match_prefix(NamespaceId, std::span<const GroupKeys> groups,
                                    const LookupOptions& options) {
  Operation operation;
  if (!fake_store().down) {
    uint32_t& longest = operation.completion.longest;
    const auto keys = groups[0].keys;
    while (longest < keys.size() && fake_store().objects.contains(keys[longest])) ++longest;
    if (options.lease.count() > 0) {
      operation.completion.lease = LeaseId{core_->next_id++};
      ++fake_store().leases_open;
    }
  }
  return core_->submit(std::move(operation));
}
void Client::release(LeaseId lease) {
  if (lease != kNoLease) --fake_store().leases_open;
}

StatusOr<OpId> Client::fetch(NamespaceId, std::span<const FetchItem> items,
                             const FetchOptions& options) {
  TERRACE_CHECK(options.lease != kNoLease);
  ++fake_store().fetches;
  Operation operation;
  operation.is_fetch = true;
  size_t blocks = 0;
  for (const FetchItem& item : items) {
    operation.items.push_back({item.key,
                               {options.pool.begin(), options.pool.end()},
                               {item.block_ids.begin(), item.block_ids.end()}});
    const bool damaged = fake_store().damaged.contains(item.key);
    operation.completion.key_codes.push_back(damaged ? StatusCode::kDataLoss : StatusCode::kOk);
    if (damaged) operation.completion.status.update(StatusCode::kDataLoss);
    blocks += item.block_ids.size();
  }
  TERRACE_CHECK(blocks <= kBlockIdsPerRequestMax && items.size() <= kKeysPerRequestMax);
  return core_->submit(std::move(operation));
}

Status Client::wait_layer(OpId fetch, uint32_t layer, std::chrono::milliseconds) {
  const auto at = core_->operations.find(fetch);
  if (at == core_->operations.end()) return StatusCode::kNotFound;
  if (fake_store().down) return StatusCode::kUnavailable;
  if (layer == fake_store().failing_layer) {
    at->second.completion.status = StatusCode::kUnavailable;
    auto& codes = at->second.completion.key_codes;
    std::fill(codes.begin(), codes.end(), StatusCode::kUnavailable);
    return StatusCode::kUnavailable;
  }
  core_->deliver(&at->second, layer);
  return ok_status();
}

StatusOr<OpId> Client::put(NamespaceId, std::span<const PutItem> items, const PutOptions& options) {
  TERRACE_CHECK(!options.sources_ready && items.size() == 1);
  ++fake_store().puts;
  Operation operation;
  operation.items.push_back({items[0].key,
                             {options.pool.begin(), options.pool.end()},
                             {items[0].block_ids.begin(), items[0].block_ids.end()}});
  StatusCode code = fake_store().put_code;
  if (fake_store().objects.contains(items[0].key)) code = StatusCode::kAlreadyExists;
  operation.completion.key_codes = {code};
  operation.staged.resize(core_->bytes_of_layers(kLayersMax));
  return core_->submit(std::move(operation));
}

Status Client::source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count) {
  const auto at = core_->operations.find(put);
  TERRACE_CHECK(at != core_->operations.end() && item == 0 && count == 2 && first % 2 == 0);
  Operation& op = at->second;
  if (op.completion.key_codes[0] != StatusCode::kOk) return StatusCode::kNotFound;
  const uint64_t begin = core_->bytes_of_layers(first / 2);
  const uint64_t end = core_->bytes_of_layers(first / 2 + 1);
  TERRACE_CHECK(begin == op.bytes_ready);
  core_->move(op.items[0], begin, end, op.staged.data(), false);
  op.bytes_ready = end;
  ++fake_store().layers_readied;
  if (end < op.staged.size()) return ok_status();
  op.completion.bytes = end;
  fake_store().objects[op.items[0].key] = op.staged;
  return ok_status();
}

void Client::touch(NamespaceId, std::span<const ChunkKey>) {}

void Client::cancel(OpId op) {
  const auto at = core_->operations.find(op);
  if (at == core_->operations.end()) return;
  at->second.completion.status = StatusCode::kCancelled;
  auto& codes = at->second.completion.key_codes;
  std::fill(codes.begin(), codes.end(), StatusCode::kCancelled);
}

StatusOr<Completion> Client::wait(OpId op, std::chrono::milliseconds) {
  const auto at = core_->operations.find(op);
  if (at == core_->operations.end()) return StatusCode::kNotFound;
  Completion done = std::move(at->second.completion);
  core_->operations.erase(at);
  return done;
}
}  // namespace terrace
