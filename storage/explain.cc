// What a store says of one key, and the record of what left it.
#include "storage/explanation.h"

#include <algorithm>

#include "storage/core.h"

namespace terrace {

void ChunkStore::Core::departs(uint32_t id, Tier tier, DepartReason reason, bool last,
                               double price) {
  const IndexEntry& entry = index[id];
  const PolicyFacts facts = policy->facts(id, loop->now());
  Departure gone;
  gone.key = entry.key;
  gone.ns = entry.ns;
  gone.tier = tier;
  gone.reason = reason;
  gone.last = last;
  gone.at = loop->now();
  gone.bytes = entry.stored_bytes();
  const double value = policy->value(id, loop->now());
  gone.value = static_cast<float>(value);
  gone.price = static_cast<float>(price);
  departures.add(gone);
  const auto t = static_cast<size_t>(tier);
  metrics.departures[t][static_cast<size_t>(reason)].add();
  if (reason != DepartReason::evicted) return;
  const auto idle = std::chrono::duration_cast<milliseconds>(loop->now() - facts.last_use);
  metrics.eviction_idle_ms[t].record_us(static_cast<uint64_t>(std::max<int64_t>(0, idle.count())));
  constexpr double kScale = 1e9;
  metrics.evicted_value_e9[t].add(
      static_cast<uint64_t>(value * static_cast<double>(gone.bytes) * kScale));
}

void ChunkStore::Core::departs_shared(NamespaceId ns, const ChunkKey& key, uint64_t bytes,
                                      DepartReason reason) {
  Departure gone;
  gone.key = key;
  gone.ns = ns;
  gone.tier = Tier::shared;
  gone.reason = reason;
  gone.last = find(ns, key) == kNoEntry;
  gone.at = loop->now();
  gone.bytes = bytes;
  departures.add(gone);
  metrics.departures[static_cast<size_t>(Tier::shared)][static_cast<size_t>(reason)].add();
}

void ChunkStore::count_miss(NamespaceId ns, const ChunkKey& key) {
  Departure* const gone = core_->departures.newest(ns, key);
  if (gone == nullptr) return core_->metrics.misses[kMissUnknown].add();
  ++gone->misses;
  gone->last_miss = core_->loop->now();
  core_->metrics.misses[static_cast<size_t>(gone->reason)].add();
}

namespace {
std::vector<Departure> as_ages(std::vector<Departure> departures, Nanos now) {
  for (Departure& each : departures) {
    each.at = now - each.at;
    if (each.misses > 0) each.last_miss = now - each.last_miss;
  }
  return departures;
}
}  // namespace

void ChunkStore::Core::explain_local(uint32_t id, Explanation* out) const {
  const IndexEntry& entry = index[id];
  const Nanos now = loop->now();
  out->policy = policy->facts(id, now);
  out->value = policy->value(id, now);
  out->since_use = now - out->policy.last_use;
  out->recompute_s = out->policy.density * static_cast<double>(entry.stored_bytes());
  out->worth = unpack_worth(entry.worth).value_or(WorthHint());
  out->uses_now = entry.pins;
  if (const Kept* const kept = retainer.find(id); kept != nullptr) out->kept = *kept;
  if (out->policy.parent) out->parent = index[*out->policy.parent].key;
  const auto add = [&](Tier tier, uint64_t bytes, std::optional<Nanos> age, uint32_t list) {
    Explanation::Copy copy;
    copy.tier = tier;
    copy.bytes = bytes;
    copy.age = age;
    copy.price = price(tier, list);
    copy.needed = out->policy.children[static_cast<size_t>(tier)] > 0;
    copy.load_us = load_us(mask_of(tier));
    out->copies.push_back(copy);
  };
  if (hbm != nullptr && hbm->has(id)) {
    add(Tier::hbm, hbm->bytes_of(id), std::nullopt, HbmTier::kList);
  }
  if (const std::shared_ptr<ArenaSpace>& space = dram_of(id); space != nullptr) {
    add(Tier::dram, space->allocated_bytes(), now - space->since(),
        static_cast<uint32_t>(space->domain()));
  }
  if (entry.has(IndexEntry::on_nvme)) {
    add(Tier::nvme, NvmeMap::bytes_of(index.extents(id)), std::nullopt, kNvmeList);
  }
}

Explanation ChunkStore::explain(NamespaceId ns, const ChunkKey& key) const {
  const Core& core = *core_;
  Explanation out;
  if (const std::optional<ObjectInfo> found = find(ns, key)) {
    out.here = true;
    out.info = *found;
  }
  if (const uint32_t id = core.find(ns, key); id != kNoEntry) core.explain_local(id, &out);
  if (core.shared != nullptr) {
    if (const auto there = core.shared->find(ns, key)) {
      Explanation::Copy copy;
      copy.tier = Tier::shared;
      copy.bytes = there->logical_bytes();
      const int64_t age_s = unix_seconds() - there->published_s();
      copy.age = seconds(std::max<int64_t>(0, age_s));
      copy.load_us = core.load_us(mask_of(Tier::shared));
      out.copies.push_back(copy);
    }
    out.prices[static_cast<size_t>(Tier::shared)] = 0;
  }
  out.pinned_bytes = core.retainer.pinned_bytes(ns);
  const auto domain = static_cast<uint32_t>(core.domain_of(ns));
  out.prices[static_cast<size_t>(Tier::dram)] = core.price(Tier::dram, domain);
  if (core.hbm != nullptr) {
    out.prices[static_cast<size_t>(Tier::hbm)] = core.price(Tier::hbm, HbmTier::kList);
  }
  if (core.nvme != nullptr) {
    out.prices[static_cast<size_t>(Tier::nvme)] = core.price(Tier::nvme, Core::kNvmeList);
  }
  out.departures =
      as_ages(core.departures.of(ns, key, Explanation::kDeparturesMax), core.loop->now());
  return out;
}
}  // namespace terrace
