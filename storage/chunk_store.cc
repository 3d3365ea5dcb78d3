#include "storage/chunk_store.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/handles.h"

namespace terrace {
namespace {
constexpr uint32_t kListStepEntries = 8192;
}

Pin::Pin(Pin&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), entry_(other.entry_) {}
Pin& Pin::operator=(Pin&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(entry_, other.entry_);
  return *this;
}
Pin::~Pin() {
  if (store_ != nullptr) store_->core_->unpin(entry_);
}

ChunkWriter::ChunkWriter() = default;
ChunkWriter::~ChunkWriter() {
  if (state_ != nullptr) state_->core->puts.abandon(state_->put);
}

StatusOr<std::unique_ptr<ChunkStore>> ChunkStore::open(const StoreConfig& config, Loop* loop,
                                                       std::vector<NvmeDevice> devices,
                                                       MetadataStore* metadata,
                                                       std::shared_ptr<SharedMedium> shared,
                                                       SlabKeeping keeping,
                                                       std::shared_ptr<Accelerator> accelerator) {
  TERRACE_RETURN_IF_ERROR(config.validate());
  if (devices.empty() != (metadata == nullptr)) {
    return error(StatusCode::kInvalidArgument, "an nvme tier needs a device and a metadata store");
  }
  if ((accelerator == nullptr) != (config.hbm_bytes == 0)) {
    return error(StatusCode::kInvalidArgument, "hbm_bytes=" + std::to_string(config.hbm_bytes) +
                                                   (accelerator == nullptr ? " without" : " with") +
                                                   " a device");
  }
  if (keeping.keeper != nullptr && metadata == nullptr) {
    return error(StatusCode::kInvalidArgument,
                 "dram that outlives the store needs an nvme tier: the index there says what is "
                 "younger");
  }
  auto core = std::make_unique<Core>(config, loop, std::move(devices), metadata);
  for (const auto& [ns, domain] : keeping.namespaces) core->assign_domain(ns, domain);
  if (accelerator != nullptr) {
    core->hbm = std::make_unique<HbmTier>(*core, std::move(accelerator));
  }
  if (shared != nullptr) {
    core->shared = std::make_unique<SharedTier>(*core, std::move(shared));
    core->demoter = std::make_unique<SharedDemoter>(*core);
    core->sweeper = std::make_unique<SharedSweeper>(*core);
    core->generations = std::make_unique<SharedGenerations>(*core);
    core->verifying_shared = std::make_unique<SharedVerifier>(*core);
  }
  TERRACE_RETURN_IF_ERROR(core->open(std::move(keeping)));
  return std::unique_ptr<ChunkStore>(new ChunkStore(std::move(core)));
}

ChunkStore::ChunkStore(std::unique_ptr<Core> core) : core_(std::move(core)) {}
ChunkStore::~ChunkStore() = default;

void ChunkStore::close(Op* op) {
  core_->close(op);
}

void ChunkStore::assign_domain(NamespaceId ns, DomainId domain) {
  core_->assign_domain(ns, domain);
}

void ChunkStore::name_namespace(NamespaceId ns, const NamespaceDigest& digest) {
  if (core_->shared != nullptr) core_->shared->know(ns, digest);
}

std::optional<SlabPlace> ChunkStore::place_of(const std::byte* address) const {
  return core_->arena->place_of(address);
}

StatusOr<SlabDescriptor> ChunkStore::export_slab(uint32_t slab) {
  return core_->arena->export_slab(slab);
}

void ChunkStore::on_slab_memory(SlabListener listener) {
  core_->registry.listen(std::move(listener));
}

std::span<std::byte> ChunkStore::staging_memory() {
  return core_->staging == nullptr ? std::span<std::byte>() : core_->staging->whole();
}

std::optional<ObjectInfo> ChunkStore::find(NamespaceId ns, const ChunkKey& key) const {
  const uint32_t id = core_->find(ns, key);
  if (id != kNoEntry) {
    const ObjectInfo info = core_->info_of(id);
    if (info.tiers != 0 || !core_->index[id].has(IndexEntry::on_nvme)) return info;
    core_->metrics.device_misses.add();  // its only copy is on a device that does not answer
    return std::nullopt;
  }
  if (core_->shared == nullptr || !core_->shared->works(ns)) return std::nullopt;
  const std::optional<SharedGeneration> there = core_->shared->find(ns, key);
  if (!there) return std::nullopt;
  ObjectInfo info;
  info.tiers = mask_of(Tier::shared);
  info.logical_bytes = there->logical_bytes();
  info.generation = there->number;
  info.durability = Durability::shared;
  return info;
}

void ChunkStore::touch(NamespaceId ns, std::span<const ChunkKey> keys) {
  core_->balancer.used(core_->domain_of(ns));
  uint32_t behind = kNoEntry;
  for (size_t i = keys.size(); i > 0; --i) {
    const uint32_t id = core_->find(ns, keys[i - 1]);
    if (id != kNoEntry) core_->touch(id);
    if (id != kNoEntry && behind != kNoEntry && id != behind) core_->policy->follows(behind, id);
    behind = id;
  }
}

StatusOr<Pin> ChunkStore::pin(NamespaceId ns, const ChunkKey& key) {
  const uint32_t id = core_->find(ns, key);
  if (id == kNoEntry) return StatusCode::kNotFound;
  core_->pin(id);
  return Pin(this, id);
}

bool ChunkStore::list_step(ListScan* scan) const {
  const auto by_key = [](const Listed& a, const Listed& b) { return a.key < b.key; };
  const Index& index = core_->index;
  const uint32_t end = std::min(index.ids_end(), scan->next + kListStepEntries);
  std::vector<Listed>& found = scan->found;  // a heap with the largest key on top
  for (; scan->next < end && scan->limit > 0; ++scan->next) {
    const IndexEntry& entry = index[scan->next];
    const bool visible = entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed);
    if (!visible || entry.ns != scan->ns) continue;
    if (scan->after && !(*scan->after < entry.key)) continue;
    if (found.size() == scan->limit) {
      if (!(entry.key < found.front().key)) continue;
      std::pop_heap(found.begin(), found.end(), by_key);
      found.pop_back();
    }
    found.push_back({entry.key, core_->info_of(scan->next)});
    std::push_heap(found.begin(), found.end(), by_key);
  }
  if (scan->next < index.ids_end() && scan->limit > 0) return false;
  std::sort_heap(found.begin(), found.end(), by_key);
  return true;
}

ChunkStore::Usage ChunkStore::usage(NamespaceId ns) const {
  const auto it = core_->usage.find(static_cast<uint32_t>(ns));
  return it == core_->usage.end() ? Usage() : it->second;
}

uint32_t ChunkStore::highest_namespace() const {
  return core_->highest_namespace;
}

Status ChunkStore::open_writer(PutSpec spec, ChunkWriter* writer, Op* op) {
  if (core_->closing()) return error(StatusCode::kUnavailable, "the store is closing");
  TERRACE_CHECK(writer->state_ == nullptr);
  TERRACE_ASSIGN_OR_RETURN(std::shared_ptr<Put> put, core_->puts.open(std::move(spec), op));
  writer->layout_.emplace(put->header_bytes, put->header.sections);
  writer->state_ = std::make_unique<ChunkWriter::State>();
  writer->state_->core = core_.get();
  writer->state_->put = std::move(put);
  return ok_status();
}

void ChunkStore::cancel_open(ChunkWriter* writer) {
  if (writer->state_ != nullptr) core_->puts.cancel_wait(writer->state_->put);
}

std::vector<iovec> ChunkStore::memory(ChunkWriter* writer, uint32_t section, uint64_t offset,
                                      uint64_t bytes) {
  const Put& put = *writer->state_->put;
  std::vector<iovec> memory;
  TERRACE_CHECK(put.space != nullptr && section < put.header.sections.size());
  TERRACE_CHECK(offset + bytes <= put.header.sections[section].bytes);
  put.space->memory(writer->layout().section_offset(section) + offset, bytes, &memory);
  return memory;
}

Status ChunkStore::landed(ChunkWriter* writer, uint32_t section, uint32_t first_unit,
                          std::span<const uint32_t> crcs) {
  return core_->puts.landed(*writer->state_->put, section, first_unit, crcs);
}

Status ChunkStore::commit(ChunkWriter* writer, Op* op) {
  if (core_->closing()) return error(StatusCode::kUnavailable, "the store is closing");
  return core_->puts.commit(writer->state_->put, op);
}

Status ChunkStore::erase(NamespaceId ns, const ChunkKey& key, Op* op) {
  if (core_->closing()) return error(StatusCode::kUnavailable, "the store is closing");
  const bool nowhere =
      core_->find(ns, key) == kNoEntry && (core_->shared == nullptr || !core_->shared->knows(ns));
  if (nowhere) return StatusCode::kNotFound;
  core_->remove(ns, key, DepartReason::erased, [op](const Status& result) { op->done(result); });
  return ok_status();
}

void ChunkStore::Core::remove(NamespaceId ns, const ChunkKey& key, DepartReason reason, Then then) {
  const uint32_t id = find(ns, key);
  const bool here = id != kNoEntry;
  // Whether it has a copy only a look says: other nodes publish, and what this one knows is old.
  const bool ask_shared = shared != nullptr && shared->knows(ns);
  if (!here && !ask_shared) {
    return later([then = std::move(then)] { then(StatusCode::kNotFound); });
  }
  struct Both {
    int left = 0;
    Status status;
  };
  const auto both = std::make_shared<Both>();
  const auto gone = [this, then = std::move(then), both](const Status& result) {
    both->status.update(result);
    if (--both->left > 0) return;
    if (both->status.code() != StatusCode::kNotFound) metrics.erases.add();
    then(both->status);
  };
  both->left = (here ? 1 : 0) + (ask_shared ? 1 : 0);
  if (ask_shared) {
    // Clients go before an administrator who clears.
    const SharedLane lane =
        reason == DepartReason::cleared ? SharedLane::background : SharedLane::foreground;
    shared->erase(ns, key, lane, [gone, here](const Status& result) {
      const bool only_here = here && result.code() == StatusCode::kNotFound;
      gone(only_here ? ok_status() : result);
    });
  }
  if (here) {
    const bool in_dram = index[id].resident != kNoEntry;
    departs(id, in_dram ? Tier::dram : Tier::nvme, reason, true);
    doom(id, false, gone);
  }
}

Status ChunkStore::generate_or_wait(NamespaceId ns, const ChunkKey& key, Nanos patience,
                                    Nanos hold_max, GenerationRight* right, Op* op) {
  if (core_->closing()) return error(StatusCode::kUnavailable, "the store is closing");
  if (core_->shared == nullptr) {
    return error(StatusCode::kUnavailable, "no shared tier: compute it");
  }
  return core_->generations->wait(ns, key, patience, hold_max, right, op);
}

void ChunkStore::cancel_wait(const GenerationRight* right, StatusCode why) {
  if (core_->shared != nullptr) core_->generations->cancel(right, why);
}

std::vector<DeviceStatus> ChunkStore::devices() const {
  return core_->nvme == nullptr ? std::vector<DeviceStatus>() : core_->nvme->status();
}

Status ChunkStore::drain_device(uint16_t place) {
  if (core_->nvme == nullptr) return error(StatusCode::kNotFound, "the node has no nvme tier");
  return core_->nvme->set_draining(place, true);
}

Status ChunkStore::undrain(uint16_t place) {
  if (core_->nvme == nullptr) return error(StatusCode::kNotFound, "the node has no nvme tier");
  return core_->nvme->set_draining(place, false);
}

const StoreMetrics& ChunkStore::metrics() const {
  return core_->metrics;
}

ChunkStore::TierUse ChunkStore::tier_use(Tier tier) const {
  const auto i = static_cast<size_t>(tier);
  core_->update_gauges();
  return {core_->metrics.capacity_bytes[i].get(), core_->metrics.used_bytes[i].get(),
          core_->metrics.objects[i].get()};
}

bool ChunkStore::hbm_works() const {
  return core_->hbm != nullptr && core_->hbm->works();
}

bool ChunkStore::nvme_works() const {
  return core_->nvme_works();
}

uint32_t ChunkStore::load_us(TierMask tiers) const {
  return core_->load_us(tiers);
}
}  // namespace terrace
