#include "tools/cli/demo_rig.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "base/limits.h"
#include "storage/metadata_store.h"
#include "storage/object_format.h"
#include "storage/store_config.h"
#include "tools/cli/connection.h"

namespace terrace {
namespace {

constexpr const char* kNamespace = "demo";
constexpr uint64_t kDramBytes = 512 * kMiB;
constexpr uint64_t kNvmeBytes = 512 * kMiB;
constexpr uint32_t kQuestionTokens = 256;  // more than any question takes
constexpr milliseconds kProbe{200};

ClientConfig config_for(const std::string& endpoint) {
  ClientConfig config;
  config.endpoints = {endpoint};
  return config;
}
}  // namespace

StatusOr<std::unique_ptr<DemoRig>> DemoRig::start(const DemoOptions& options) {
  TERRACE_ASSIGN_OR_RETURN(TemporaryDirectory directory,
                           TemporaryDirectory::create("demo", options.directory));
  std::unique_ptr<DemoRig> rig(new DemoRig(std::move(directory)));
  rig->node_options_.data_directory = rig->directory_.path() + "/data";
  rig->node_options_.log_file = rig->directory_.path() + "/node.log";
  rig->node_options_.dram_bytes = kDramBytes;
  rig->node_options_.nvme_bytes = kNvmeBytes;
  TERRACE_RETURN_IF_ERROR(rig->launch());
  rig->endpoint_ = rig->node_.endpoint();
  TERRACE_RETURN_IF_ERROR(rig->open_engine(options));
  return rig;
}

Status DemoRig::launch() {
  TERRACE_ASSIGN_OR_RETURN(node_, LocalNode::start(node_options_));
  return ok_status();
}

Status DemoRig::open_engine(const DemoOptions& options) {
  StatusOr<LoadedModel> model =
      options.model.empty() ? builtin_model(1) : load_model(options.model);
  if (!model.ok()) return model.status();
  EngineOptions engine;
  engine.tokens_per_chunk = options.tokens_per_chunk;
  engine.context = options.document_tokens + 2 * kQuestionTokens;
  TERRACE_ASSIGN_OR_RETURN(engine_, Engine::create(*std::move(model), engine, &clock_));
  TERRACE_ASSIGN_OR_RETURN(client_, Client::open(config_for(endpoint_)));
  KvStoreOptions store;
  store.namespace_name = kNamespace;
  TERRACE_ASSIGN_OR_RETURN(
      store_, KvStore::open(client_.get(), engine_->pool(), engine_->fingerprint(), store));
  return ok_status();
}

Status DemoRig::restart_node() {
  node_options_.flags = {"--control-port", std::to_string(node_.control_port()), "--promote-hits",
                         "0"};
  return launch();
}

Status DemoRig::wait_for_nvme(std::span<const uint32_t> prompt, milliseconds timeout) {
  const Nanos deadline = clock_.now() + timeout;
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                           Client::open(config_for(endpoint_)));
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId ns,
                           client->open_namespace(kNamespace, engine_->fingerprint()));
  TERRACE_ASSIGN_OR_RETURN(const std::vector<ChunkKey> keys, client->prefix_keys(ns, prompt));
  const Geometry& geometry = engine_->fingerprint().geometry;
  const uint64_t bytes = total_bytes(sections_of(geometry, geometry.tokens_per_chunk));
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::allocate(bytes));
  TERRACE_ASSIGN_OR_RETURN(const RegionId region, client->register_memory(memory.span()));
  const Fragment whole{0, region, 0, bytes};
  const FetchItem item{keys.at(0), {&whole, 1}};
  Status last;
  while (clock_.now() < deadline) {
    const StatusOr<OpId> op = client->fetch(ns, {&item, 1}, {});
    if (op.ok()) {
      const StatusOr<Completion> done = client->wait(*op, timeout);
      const bool ok = done.ok() && done->status.ok();
      if (ok && done->tier_bytes[static_cast<size_t>(Tier::nvme)] == bytes) {
        client->close();  // before the memory goes
        return ok_status();
      }
      last = done.ok() ? done->status : done.status();
    }
  }
  client->close();
  return error(StatusCode::kDeadlineExceeded,
               "the node did not serve from nvme in time: " + last.to_string());
}

Status DemoRig::wait_for_session(std::span<const uint32_t> prompt, milliseconds timeout) {
  const Nanos deadline = clock_.now() + timeout;
  TERRACE_ASSIGN_OR_RETURN(const std::vector<ChunkKey> keys,
                           client_->prefix_keys(store_->namespace_id(), prompt));
  LookupOptions options;
  options.deadline = kProbe;
  while (clock_.now() < deadline) {
    const StatusOr<OpId> op =
        client_->lookup(store_->namespace_id(), std::span(keys).first(1), options);
    if (!op.ok()) continue;
    const StatusOr<Completion> done = client_->wait(*op, 2 * kProbe);
    if (done.ok() && done->status.ok()) return ok_status();
  }
  return error(StatusCode::kDeadlineExceeded, "the engine's client did not reconnect in time");
}

Status DemoRig::flip_bit(std::span<const uint32_t> prompt, uint32_t chunk) {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<ChunkKey> keys,
                           client_->prefix_keys(store_->namespace_id(), prompt));
  StoreConfig config;
  config.data_directory = node_options_.data_directory;
  MetadataStore::Options metadata;
  metadata.path = config.metadata_path();
  std::optional<MetadataRow> found;
  {
    TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<MetadataStore> rows,
                             MetadataStore::open(metadata, nullptr));
    TERRACE_RETURN_IF_ERROR(rows->recover(
        [&](const MetadataRow& row) {
          if (row.key == keys.at(chunk)) found = row;
        },
        [](std::string_view, const Status&) {}));
  }
  if (!found) return error(StatusCode::kNotFound, "the index has no row for the chunk");
  const uint64_t middle = (found->header_bytes + found->stored_bytes) / 2 / kSectorBytes;
  const std::vector<Extent> at = slice(found->extents, middle * kSectorBytes, kSectorBytes);
  if (at.empty()) return error(StatusCode::kNotFound, "the row names no place for the chunk");
  const Fd file(::open(config.data_paths().front().c_str(), O_RDWR | O_CLOEXEC));
  const auto offset = static_cast<off_t>(at[0].offset() + 100);
  uint8_t byte = 0;
  if (!file || ::pread(file.get(), &byte, 1, offset) != 1) {
    return errno_status(errno, "read " + config.data_paths().front());
  }
  byte ^= 1;
  if (::pwrite(file.get(), &byte, 1, offset) != 1 || ::fsync(file.get()) != 0) {
    return errno_status(errno, "write " + config.data_paths().front());
  }
  return ok_status();
}

StatusOr<uint64_t> DemoRig::counter(const std::string& name) const {
  Globals globals;
  globals.node = endpoint_;
  TERRACE_ASSIGN_OR_RETURN(const proto::NodeStatusReply status, node_status(globals));
  const auto found = status.counters().find(name);
  if (found == status.counters().end()) {
    return error(StatusCode::kNotFound, "the node counts no " + name);
  }
  return found->second;
}
}  // namespace terrace
