#include "storage/core.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace terrace {
namespace {
constexpr auto kHbm = static_cast<size_t>(Tier::hbm);
constexpr auto kDram = static_cast<size_t>(Tier::dram);
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
}  // namespace

ChunkStore::Core::Core(const StoreConfig& store_config, Loop* its_loop,
                       std::vector<NvmeDevice> its_devices, MetadataStore* its_metadata)
    : config(store_config),
      loop(its_loop),
      devices(std::move(its_devices)),
      metadata(its_metadata),
      departures(store_config.departures_bytes),
      shared_bytes_max(store_config.shared_bytes_max),
      policy(make_policy(store_config.policy)),
      admission(*this),
      evictor(*this),
      mover(*this),
      scrubber(*this),
      verifying(*this),
      verifier(*this),
      trimmer(*this),
      dram_resizer(*this),
      nvme_resizer(*this),
      puts(*this),
      retainer(*this),
      registry(*this),
      balancer(*this),
      use_recorder(*this) {}

ChunkStore::Core::~Core() {
  if (arena != nullptr) arena->leave_contents();  // the next run takes it back, when it is kept
  scrubber.stop();
  verifying.stop();
  trimmer.stop();
  dram_resizer.stop();
  nvme_resizer.stop();
  retainer.stop();
  balancer.stop();
  registry.stop();
  const bool hangs =
      (nvme != nullptr && nvme->hanging() > 0) || (hbm != nullptr && hbm->hanging() > 0);
  if (hangs) {
    arena->abandon();
    if (staging != nullptr) staging->abandon();
  }
  hbm.reset();
  generations.reset();
  verifying_shared.reset();
  sweeper.reset();
  demoter.reset();
  if (shared != nullptr && shared->hanging() > 0) arena->abandon();
  shared.reset();
  persister.reset();
  if (nvme != nullptr) nvme->close();
  for (std::shared_ptr<ArenaSpace>& space : residents_) space.reset();
}

void ChunkStore::Core::later(std::function<void()> task) {
  Op* const op = calls.make([run = std::move(task)](const Status&) { run(); });
  loop->defer(op, ok_status());
}

DomainId ChunkStore::Core::domain_of(NamespaceId ns) const {
  const auto it = domains_.find(static_cast<uint32_t>(ns));
  return it == domains_.end() ? own_domain_of(ns) : it->second;
}

void ChunkStore::Core::assign_domain(NamespaceId ns, DomainId domain) {
  TERRACE_CHECK(domain != kNobody && static_cast<uint32_t>(domain) < kOwnDomainBit);
  domains_[static_cast<uint32_t>(ns)] = domain;
}

uint32_t ChunkStore::Core::publish(const ObjectFacts& facts) {
  TERRACE_CHECK(find(facts.ns, facts.key) == kNoEntry);  // else an erase would reach one of two
  const uint32_t id = index.insert(facts.ns, facts.key);
  IndexEntry& entry = index[id];
  entry.generation = facts.generation;
  entry.logical_bytes = static_cast<uint32_t>(facts.logical_bytes);
  entry.stored_blocks = static_cast<uint32_t>(facts.stored_bytes / kSectorBytes);
  entry.header_blocks = static_cast<uint16_t>(facts.header_bytes / kSectorBytes);
  entry.sections = static_cast<uint16_t>(facts.sections);
  entry.worth = facts.worth;
  Usage& used = usage[static_cast<uint32_t>(facts.ns)];
  used.bytes += facts.stored_bytes;
  used.objects += 1;
  ObjectWorth worth;
  worth.name = ChunkKeyHash()(facts.key) ^ static_cast<uint64_t>(facts.ns);
  worth.bytes = facts.stored_bytes;
  const WorthHint said = unpack_worth(facts.worth).value_or(WorthHint());
  worth.recompute_s = static_cast<double>(said.recompute_us) * 1e-6;
  worth.importance = said.importance;
  if (facts.kept) worth.weight = weight_of(facts.kept->priority);
  if (facts.found_again) {
    policy->known_again(id, worth, loop->now());
  } else {
    policy->known(id, worth, loop->now());
  }
  if (facts.kept) retainer.known(id, *facts.kept);
  if (evictor.surplus_objects() > 0) evictor.kick();
  return id;
}

uint32_t ChunkStore::Core::publish_in_dram(const ObjectHeader& header, uint64_t header_bytes,
                                           const std::shared_ptr<ArenaSpace>& space) {
  const uint32_t old = find(header.ns, header.key);
  const bool pinned = old != kNoEntry && retainer.pinned(old);
  if (old != kNoEntry) doom(old, false, nullptr);
  std::vector<iovec> memory;
  space->memory(0, header_bytes, &memory);
  if (memory.size() == 1) {
    encode(header, {static_cast<std::byte*>(memory[0].iov_base), header_bytes});
  } else {
    std::vector<std::byte> encoded(header_bytes);
    encode(header, encoded);
    size_t at = 0;
    for (const iovec& run : memory) {
      std::memcpy(run.iov_base, encoded.data() + at, run.iov_len);
      at += run.iov_len;
    }
  }
  space->commit(header.generation);
  ObjectFacts facts;
  facts.key = header.key;
  facts.ns = header.ns;
  facts.generation = header.generation;
  facts.logical_bytes = total_bytes(header.sections);
  facts.stored_bytes = space->bytes();
  facts.header_bytes = header_bytes;
  facts.sections = static_cast<uint32_t>(header.sections.size());
  ObjectHints hints = hints_of(header);
  facts.worth = hints.worth;
  facts.kept = std::move(hints.kept);
  if (pinned) {
    if (!facts.kept) facts.kept.emplace();
    facts.kept->pinned = true;
  }
  const uint32_t id = publish(facts);
  attach_dram(id, space);
  return id;
}

void ChunkStore::Core::attach_dram(uint32_t id, std::shared_ptr<ArenaSpace> space) {
  if (residents_free_.empty()) {
    residents_free_.push_back(static_cast<uint32_t>(residents_.size()));
    residents_.emplace_back();
  }
  IndexEntry& entry = index[id];
  TERRACE_CHECK(entry.resident == kNoEntry);
  entry.resident = residents_free_.back();
  residents_free_.pop_back();
  space->set_entry(id);
  space->set_since(loop->now());
  const auto domain = static_cast<uint32_t>(space->domain());
  residents_[entry.resident] = std::move(space);
  entry.nvme_hits = 0;
  if (!entry.has(IndexEntry::doomed)) policy->entered(Tier::dram, domain, id);
  metrics.objects[kDram].add();
}

const std::shared_ptr<ArenaSpace>& ChunkStore::Core::dram_of(uint32_t id) const {
  static const std::shared_ptr<ArenaSpace> none;
  const uint32_t slot = index[id].resident;
  return slot == kNoEntry ? none : residents_[slot];
}

void ChunkStore::Core::drop_dram(uint32_t id) {
  IndexEntry& entry = index[id];
  if (entry.resident == kNoEntry) return;
  policy->left(Tier::dram, id);
  // A transfer may hold it longer, and after a restart the entry may be another object's.
  residents_[entry.resident]->uncommit();
  residents_[entry.resident]->set_entry(kNoEntry);
  residents_[entry.resident].reset();
  residents_free_.push_back(entry.resident);
  entry.resident = kNoEntry;
  metrics.objects[kDram].sub();
}

void ChunkStore::Core::attach_nvme(uint32_t id, const NvmeCopy& copy) {
  IndexEntry& entry = index[id];
  index.set_extents(id, copy.space->extents());
  copy.space->keep();
  entry.header_crc = copy.header_crc;
  entry.set(IndexEntry::on_nvme);
  if (copy.durable) entry.set(IndexEntry::durable);
  entry.clear(IndexEntry::write_failed);
  if (!entry.has(IndexEntry::doomed)) policy->entered(Tier::nvme, nvme_list_of(entry), id);
  metrics.objects[kNvme].add();
}

void ChunkStore::Core::detach_nvme(uint32_t id) {
  nvme->withhold(index.extents(id));
  take_off_nvme(id, [this, id](const Status&) {
    if (!index[id].has(IndexEntry::doomed)) mover.write_back(id, true);
  });
}

void ChunkStore::Core::take_off_nvme(uint32_t id, Then then) {
  IndexEntry& entry = index[id];
  index.clear_extents(id);
  policy->left(Tier::nvme, id);
  entry.clear(IndexEntry::on_nvme);
  entry.clear(IndexEntry::durable);
  entry.set(IndexEntry::persisting);  // no new row before the old one is gone
  metrics.objects[kNvme].sub();
  pin(id);
  rows->erase(entry.ns, entry.key, entry.generation,
              [this, id, then = std::move(then)](const Status& result) {
                index[id].clear(IndexEntry::persisting);
                settle(id);
                then(result);
                unpin(id);
              });
}

ObjectInfo ChunkStore::Core::info_of(uint32_t id) const {
  const IndexEntry& entry = index[id];
  ObjectInfo info;
  if (entry.resident != kNoEntry) info.tiers |= mask_of(Tier::dram);
  if (hbm != nullptr && hbm->has(id)) info.tiers |= mask_of(Tier::hbm);
  const bool served = entry.has(IndexEntry::on_nvme) && nvme->serves({&entry.first_extent, 1});
  if (served) info.tiers |= mask_of(Tier::nvme);
  if (in_shared(entry)) info.tiers |= mask_of(Tier::shared);
  info.sections = entry.sections;
  info.logical_bytes = entry.logical_bytes;
  info.generation = entry.generation;
  info.durability = entry.has(IndexEntry::durable) ? Durability::nvme : Durability::memory;
  return info;
}

bool ChunkStore::Core::reachable(uint32_t id) const {
  if (id == kNoEntry) return false;
  const IndexEntry& entry = index[id];
  if (entry.resident != kNoEntry || !entry.has(IndexEntry::on_nvme)) return true;
  if (hbm != nullptr && hbm->has_all(id)) return true;
  return nvme->serves(index.extents(id));
}

void ChunkStore::Core::unpin(uint32_t id) {
  IndexEntry& entry = index[id];
  TERRACE_CHECK(entry.pins > 0);
  if (--entry.pins > 0) return;
  free_moved(id);
  if (entry.has(IndexEntry::doomed)) try_release(id);
}

void ChunkStore::Core::doom(uint32_t id, bool withhold, Then gone) {
  IndexEntry& entry = index[id];
  // Before anybody hears of it, and although pins may hold the bytes for long: a restarted node
  // must not find it.
  if (entry.resident != kNoEntry) residents_[entry.resident]->uncommit();
  Usage& used = usage[static_cast<uint32_t>(entry.ns)];
  used.bytes -= entry.stored_bytes();
  used.objects -= 1;
  if (hbm != nullptr) hbm->drop(id);
  policy->left(Tier::dram, id);
  policy->left(Tier::nvme, id);
  policy->forgotten(id);
  retainer.forgotten(id);
  index.unlink(id);
  Fate& fate = fates_[id];
  fate.withhold = withhold;
  if (gone) fate.gone.push_back(std::move(gone));
  mover.gone(id);
  if (!entry.has(IndexEntry::persisting)) settle(id);
  try_release(id);  // its memory, when nobody uses it
}

void ChunkStore::Core::settle(uint32_t id) {
  IndexEntry& entry = index[id];
  if (!entry.has(IndexEntry::doomed) || entry.has(IndexEntry::row_pending)) return;
  entry.set(IndexEntry::row_pending);
  if (!entry.has(IndexEntry::on_nvme)) {
    later([this, id] { row_gone(id, ok_status()); });
    return;
  }
  metrics.objects[kNvme].sub();
  rows->erase(entry.ns, entry.key, entry.generation,
              [this, id](const Status& result) { row_gone(id, result); });
}

void ChunkStore::Core::row_gone(uint32_t id, const Status& result) {
  IndexEntry& entry = index[id];
  entry.clear(IndexEntry::row_pending);
  entry.clear(IndexEntry::on_nvme);
  Fate& fate = fates_[id];
  if (!result.ok()) fate.withhold = true;  // the row may come back after a restart
  const std::vector<Then> gone = std::exchange(fate.gone, {});
  try_release(id);
  for (const Then& each : gone) each(result);
}

void ChunkStore::Core::try_release(uint32_t id) {
  IndexEntry& entry = index[id];
  if (entry.pins > 0) return;
  drop_dram(id);
  if (entry.has(IndexEntry::row_pending)) return;
  const bool withhold = fates_[id].withhold;
  fates_.erase(id);
  if (nvme != nullptr && entry.first_extent.blocks > 0) {
    const std::span<const Extent> held = index.extents(id);
    const std::vector<Extent> extents(held.begin(), held.end());
    const uint64_t bytes = entry.stored_bytes();
    index.release(id);
    if (withhold) {
      nvme->withhold(extents);
    } else {
      nvme->free(extents, bytes);
    }
  } else {
    index.release(id);
  }
  update_gauges();
}

void ChunkStore::Core::quarantine(uint32_t id, Tier tier) {
  IndexEntry& entry = index[id];
  if (entry.has(IndexEntry::doomed)) return;
  metrics.quarantined_objects.add();
  const bool shown = tier == Tier::dram || (hbm != nullptr && hbm->has(id));
  if (on_quarantine && shown) on_quarantine(entry.key);
  spdlog::warn("quarantine key={} ns={} generation={} tier={}", entry.key.hex(),
               static_cast<uint32_t>(entry.ns), entry.generation, name_of(tier));
  if (hbm != nullptr) hbm->drop(id);  // made from what may have been bad by then
  const bool in_dram = entry.resident != kNoEntry;
  const bool other = tier == Tier::dram ? entry.has(IndexEntry::on_nvme) : in_dram;
  departs(id, tier, DepartReason::quarantined, !other);
  if (tier == Tier::dram) {
    if (in_dram) residents_[entry.resident]->withhold();
    if (entry.has(IndexEntry::on_nvme)) {
      drop_dram(id);
    } else {
      doom(id, true, nullptr);
    }
  } else if (in_dram && !entry.has(IndexEntry::persisting)) {
    detach_nvme(id);
  } else {
    doom(id, true, nullptr);
  }
  update_gauges();
}

void ChunkStore::Core::touch(uint32_t id) {
  policy->used(id, loop->now());
  if (hbm != nullptr) hbm->used(id);
}

void ChunkStore::Core::leaves(uint32_t id) {
  if (shared == nullptr || in_shared(index[id])) return;
  metrics.shared.evictions_unshared.add();
  demoter->kick();
}

void ChunkStore::Core::update_gauges() {
  metrics.capacity_bytes[kDram].set(arena->capacity_bytes());
  metrics.used_bytes[kDram].set(arena->ready_bytes() - arena->free_bytes());
  const uint64_t unowned = arena->unowned_bytes() / arena->slab_bytes();
  metrics.slabs_unowned.set(unowned);
  metrics.slabs_owned.set(arena->slab_count() - unowned);
  metrics.slab_domains.set(arena->holdings().size());
  metrics.slab_replace_failures.set(arena->replace_failures());
  metrics.slab_keep_failures.set(arena->keep_failures());
  if (shared != nullptr) shared->update_gauges();
  if (hbm != nullptr) {
    metrics.capacity_bytes[kHbm].set(hbm->capacity_bytes());
    metrics.used_bytes[kHbm].set(hbm->capacity_bytes() - hbm->free_bytes());
    metrics.objects[kHbm].set(hbm->objects());
  }
  if (nvme == nullptr) return;
  nvme->update_gauges();
  admission.update();
  metrics.capacity_bytes[kNvme].set(nvme->total_bytes());
  metrics.used_bytes[kNvme].set(nvme->used_bytes());
}

uint32_t ChunkStore::Core::load_us(TierMask tiers) const {
  if ((tiers & (mask_of(Tier::dram) | mask_of(Tier::hbm))) != 0) return 1;
  if ((tiers & mask_of(Tier::nvme)) != 0 && nvme != nullptr) return nvme->read_us();
  if ((tiers & mask_of(Tier::shared)) != 0 && shared != nullptr) return shared->load_us();
  return ~uint32_t{0};
}
}  // namespace terrace
