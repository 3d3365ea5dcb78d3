// The thin front of the SDK: client/terrace.h onto client/core.h.
#include <system_error>

#include "client/core.h"
#include "client/grpc_control.h"
#include "client/terrace.h"

namespace terrace {

StatusOr<std::unique_ptr<Client>> Client::open(const ClientConfig& config) {
  TERRACE_RETURN_IF_ERROR(config.validate());
  std::vector<std::unique_ptr<ControlChannel>> controls;
  for (const std::string& endpoint : config.endpoints) {
    controls.push_back(grpc_control(endpoint, config.token));
  }
  return open(config, std::move(controls));
}

StatusOr<std::unique_ptr<Client>> Client::open(
    const ClientConfig& config, std::vector<std::unique_ptr<ControlChannel>> controls) {
  TERRACE_RETURN_IF_ERROR(config.validate());
  if (controls.size() != config.endpoints.size()) {
    return error(StatusCode::kInvalidArgument,
                 std::to_string(controls.size()) + " control planes for " +
                     std::to_string(config.endpoints.size()) + " endpoints");
  }
  try {
    auto client =
        std::unique_ptr<Client>(new Client(std::make_unique<Core>(config, std::move(controls))));
    TERRACE_RETURN_IF_ERROR(client->core_->open());
    return client;
  } catch (const std::system_error& failed) {  // a thread that the machine refuses
    return error(StatusCode::kResourceExhausted,
                 "client of " + std::to_string(config.endpoints.size()) +
                     " nodes, a thread for each and one more: " + failed.what());
  }
}

Client::Client(std::unique_ptr<Core> core) : core_(std::move(core)) {}

Client::~Client() {
  if (core_->in_this_process()) {
    core_->close();
  } else {
    // The threads and the rings belong to the parent: touching them here would be its harm.
    [[maybe_unused]] Core* const parents = core_.release();
  }
}

void Client::close() {
  if (core_->in_this_process()) core_->close();
}

StatusOr<NamespaceId> Client::open_namespace(const std::string& name,
                                             const Fingerprint& fingerprint) {
  return core_->open_namespace(name, fingerprint);
}
StatusOr<RegionId> Client::register_memory(std::span<std::byte> memory) {
  return core_->register_memory(memory);
}
Status Client::unregister_memory(RegionId region) {
  return core_->unregister_memory(region);
}

StatusOr<std::vector<ChunkKey>> Client::prefix_keys(NamespaceId ns,
                                                    std::span<const uint32_t> tokens,
                                                    uint32_t shard, std::string_view extra) const {
  return core_->prefix_keys(ns, tokens, shard, extra);
}
StatusOr<ChunkKey> Client::raw_key(NamespaceId ns, std::string_view key) const {
  return core_->raw_key(ns, key);
}

StatusOr<OpId> Client::lookup(NamespaceId ns, std::span<const ChunkKey> keys,
                              const LookupOptions& options) {
  return core_->lookup(ns, keys, options);
}
StatusOr<OpId> Client::match_prefix(NamespaceId ns, std::span<const GroupKeys> groups,
                                    const LookupOptions& options) {
  return core_->match_prefix(ns, groups, options);
}
StatusOr<OpId> Client::fetch(NamespaceId ns, std::span<const FetchItem> items,
                             const FetchOptions& options) {
  return core_->fetch(ns, items, options);
}
StatusOr<OpId> Client::put(NamespaceId ns, std::span<const PutItem> items,
                           const PutOptions& options) {
  return core_->put(ns, items, options);
}
Status Client::source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count) {
  return core_->source_ready(put, item, first, count);
}
StatusOr<OpId> Client::generate_or_wait(NamespaceId ns, const ChunkKey& key,
                                        const GenerateOptions& options) {
  return core_->generate_or_wait(ns, key, options);
}
void Client::release_right(const ComputeRight& right) {
  core_->release_right(right);
}
StatusOr<OpId> Client::erase(NamespaceId ns, std::span<const ChunkKey> keys,
                             const OpOptions& options) {
  return core_->erase(ns, keys, options);
}
StatusOr<OpId> Client::list(NamespaceId ns, const std::string& cursor, uint32_t limit,
                            const OpOptions& options) {
  return core_->list(ns, cursor, limit, options);
}
StatusOr<OpId> Client::view(NamespaceId ns, std::span<const ChunkKey> keys,
                            const OpOptions& options) {
  return core_->view(ns, keys, options, false);
}
StatusOr<OpId> Client::device_view(NamespaceId ns, std::span<const ChunkKey> keys,
                                   const OpOptions& options) {
  return core_->view(ns, keys, options, true);
}
bool Client::view_valid(ViewId view) const {
  return core_->in_this_process() && core_->views().valid(view);
}
Status Client::verify(ViewId view) const {
  TERRACE_RETURN_IF_ERROR(core_->check_process());
  return core_->views().verify(view);
}
std::vector<ViewMemory> Client::view_memory() const {
  if (!core_->in_this_process()) return {};
  return core_->views().memory();
}
uint64_t Client::view_memory_version() const {
  return core_->in_this_process() ? core_->views().memory_version() : 0;
}
void Client::release_view(ViewId view) {
  core_->release_view(view);
}
void Client::cancel(OpId op) {
  core_->cancel(op);
}
void Client::release(LeaseId lease) {
  core_->release(lease);
}
void Client::touch(NamespaceId ns, std::span<const ChunkKey> keys) {
  core_->touch(ns, keys);
}

uint32_t Client::layers_ready(OpId fetch) const {
  return core_->completions().layers(fetch);
}
StatusOr<std::vector<uint32_t>> Client::keys_lost(OpId fetch) const {
  TERRACE_RETURN_IF_ERROR(core_->check_process());
  return core_->completions().keys_lost(fetch);
}
Status Client::wait_layer(OpId fetch, uint32_t layer, std::chrono::milliseconds timeout) {
  TERRACE_RETURN_IF_ERROR(core_->check_process());
  return core_->completions().wait_layer(fetch, layer, timeout);
}
int Client::event_fd() const {
  return core_->completions().event_fd();
}
size_t Client::drain(std::span<Completion> out) {
  // The eventfd is one with the parent's: a child that drained would silence it there.
  return core_->in_this_process() ? core_->completions().drain(out) : 0;
}
StatusOr<Completion> Client::wait(OpId op, std::chrono::milliseconds timeout) {
  TERRACE_RETURN_IF_ERROR(core_->check_process());
  return core_->completions().wait(op, timeout);
}

ClientStatistics Client::statistics() const {
  return core_->statistics();
}
std::vector<NodeInfo> Client::nodes() const {
  return core_->nodes();
}
}  // namespace terrace
