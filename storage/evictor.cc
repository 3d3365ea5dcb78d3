#include "storage/evictor.h"

#include <algorithm>
#include <utility>

#include "storage/core.h"

namespace terrace {

uint64_t Evictor::watermark(uint64_t capacity) const {
  return capacity / 1000 * core_.config.watermark_permille;
}

void Evictor::kick() {
  if (kicked_) return;
  kicked_ = true;
  core_.later([this] { step(); });
}

void Evictor::step() {
  kicked_ = false;
  const bool more_dram = step_dram();
  const bool more_nvme = core_.nvme != nullptr && step_nvme();
  core_.update_gauges();
  tell_prices();
  if (more_dram || more_nvme) kick();
}

void Evictor::tell_prices() {
  const auto tell = [this](Tier tier, double price) {
    constexpr double kScale = 1e18;  // what a value can be is bounded (value_policy.cc)
    core_.metrics.price_e18[static_cast<size_t>(tier)].set(static_cast<uint64_t>(price * kScale));
  };
  double dram = 0;
  for (const auto& [domain, holding] : core_.arena->holdings()) {
    dram = std::max(dram, core_.price(Tier::dram, domain));
  }
  tell(Tier::dram, dram);
  if (core_.hbm != nullptr) tell(Tier::hbm, core_.price(Tier::hbm, HbmTier::kList));
  if (core_.nvme == nullptr) return;
  tell(Tier::nvme, core_.price(Tier::nvme, ChunkStore::Core::kNvmeList));
}

double Evictor::demotion_price(bool may_demote) const {
  if (!may_demote || !core_.nvme_works()) return -1;
  return core_.price(Tier::nvme, ChunkStore::Core::kNvmeList);
}

EvictCandidate Evictor::dram_candidate(uint32_t id, double nvme_price) const {
  const IndexEntry& entry = core_.index[id];
  EvictCandidate candidate;
  candidate.id = id;
  candidate.pinned = entry.pins > 0;
  candidate.bytes = core_.dram_of(id)->allocated_bytes();
  // One in a shared tier that hangs is as good as none.
  const bool shared = core_.in_shared(entry) && core_.shared->works(entry.ns);
  // The same holds for one on a device that does not answer.
  const bool slower =
      entry.has(IndexEntry::on_nvme) && core_.nvme->serves({&entry.first_extent, 1});
  candidate.has_slower_copy = slower || shared;
  candidate.may_demote = nvme_price >= 0 && !entry.has(IndexEntry::on_nvme) &&
                         !entry.has(IndexEntry::write_failed) &&
                         core_.admission.admits(id, nvme_price);
  if (entry.kept_here && !entry.has(IndexEntry::on_nvme)) {
    // It stays on this node: written to nvme whatever it is worth, or not at all.
    candidate.has_slower_copy = false;
    candidate.may_demote = nvme_price >= 0 && !entry.has(IndexEntry::write_failed);
    candidate.pinned |= !candidate.may_demote;
  }
  return candidate;
}

EvictCandidate Evictor::nvme_candidate(uint32_t id) const {
  EvictCandidate candidate;
  candidate.id = id;
  candidate.pinned = core_.index[id].pins > 0;
  candidate.bytes = NvmeMap::bytes_of(core_.index.extents(id));
  return candidate;
}

EvictPlan Evictor::plan(Tier tier, uint32_t list, uint64_t need, uint64_t victims_max,
                        bool may_demote) const {
  const double nvme_price = tier == Tier::dram ? demotion_price(may_demote) : -1;
  std::vector<EvictCandidate> candidates;
  uint64_t found = 0;
  uint64_t free = 0;  // not pinned
  if (need > 0 && victims_max > 0) {
    core_.policy->walk(tier, list, core_.loop->now(), [&](uint32_t id) {
      using Visit = PlacementPolicy::Visit;
      candidates.push_back(tier == Tier::dram ? dram_candidate(id, nvme_price)
                                              : nvme_candidate(id));
      const bool pinned = candidates.back().pinned;
      if (!pinned) {
        found += candidates.back().bytes;
        ++free;
      }
      const bool enough = found >= need || free >= std::min<uint64_t>(victims_max, kScanMax);
      if (enough || candidates.size() - free >= kPinnedMax) return Visit::stop;
      return pinned ? Visit::passed : Visit::taken;
    });
  }
  return plan_eviction(candidates, need);
}

/// What a place costs when these have to leave for it.
double Evictor::price_of(const std::vector<uint32_t>& ids) const {
  double most = 0;
  for (uint32_t id : ids) most = std::max(most, core_.policy->value(id, core_.loop->now()));
  return most;
}

uint64_t Evictor::surplus_objects() const {
  const uint64_t limit = core_.config.objects_max;
  const uint64_t spare = std::max<uint64_t>(1, limit * core_.config.watermark_permille / 1000);
  const uint64_t objects = core_.index.count();
  return objects + spare > limit ? objects + spare - limit : 0;
}

void Evictor::carry_out_in_dram(const EvictPlan& victims, uint64_t victims_max) {
  constexpr auto kDram = static_cast<size_t>(Tier::dram);
  const double price = price_of(victims.drop);
  for (uint32_t id : victims.drop) {
    if (victims_max-- == 0) break;
    core_.departs(id, Tier::dram, DepartReason::evicted, !core_.index[id].has(IndexEntry::on_nvme),
                  price);
    core_.metrics.evictions[kDram].add();
    core_.metrics.evicted_bytes[kDram].add(core_.dram_of(id)->allocated_bytes());
    if (core_.index[id].has(IndexEntry::on_nvme)) {
      core_.drop_dram(id);
    } else {
      if (core_.has_nvme() && !core_.in_shared(core_.index[id])) {
        core_.metrics.evictions_undemoted.add();
      }
      core_.leaves(id);
      core_.doom(id, false, nullptr);
    }
  }
  for (uint32_t id : victims.demote) core_.mover.write_back(id, true);
}

uint64_t Evictor::evict_dram(DomainId domain, uint64_t need, bool may_demote,
                             uint64_t victims_max) {
  if (victims_max == 0) return 0;
  const EvictPlan victims =
      plan(Tier::dram, static_cast<uint32_t>(domain), need, victims_max, may_demote);
  carry_out_in_dram(victims, victims_max);
  return victims.dropped_bytes;
}

void Evictor::evict_from_dram(std::span<const uint32_t> ids) {
  const double nvme_price = demotion_price(!core_.mover.behind());
  std::vector<EvictCandidate> candidates;
  for (uint32_t id : ids) {
    // What is doomed goes when nobody uses it any more.
    if (!core_.index[id].has(IndexEntry::doomed)) {
      candidates.push_back(dram_candidate(id, nvme_price));
    }
  }
  carry_out_in_dram(plan_eviction(candidates, ~uint64_t{0}), ~uint64_t{0});
}

void Evictor::evict_surplus_from_dram(uint64_t objects) {
  if (objects == 0) return;
  std::vector<std::pair<uint64_t, uint32_t>> domains;  // with their objects
  for (const auto& [domain, holding] : core_.arena->holdings()) {
    domains.emplace_back(core_.policy->size(Tier::dram, domain), domain);
  }
  std::sort(domains.rbegin(), domains.rend());
  for (const auto& [size, domain] : domains) {
    const uint64_t before = core_.index.count();
    evict_dram(DomainId{domain}, ~uint64_t{0}, false, objects);
    objects -= std::min(objects, before - core_.index.count());
    if (objects == 0) return;
  }
}

uint64_t Evictor::evict_nvme(uint64_t need, uint64_t whole, uint64_t victims_max) {
  EvictPlan victims;
  for (const auto& [value, list] : core_.nvme_lists(whole)) {
    victims = plan(Tier::nvme, list, need, victims_max, false);
    if (!victims.drop.empty()) break;
  }
  const double price = price_of(victims.drop);
  uint64_t won = 0;
  for (uint32_t id : victims.drop) {
    if (victims_max-- == 0) break;
    won += drop_from_nvme(id, price, nullptr);
  }
  return won;
}

uint64_t Evictor::drop_from_nvme(uint32_t id, double price, std::function<void(Status)> gone) {
  constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
  core_.departs(id, Tier::nvme, DepartReason::evicted, true, price);
  const uint64_t bytes = NvmeMap::bytes_of(core_.index.extents(id));
  core_.leaves(id);
  core_.metrics.evictions[kNvme].add();
  core_.metrics.evicted_bytes[kNvme].add(bytes);
  nvme_pending_ += bytes;
  ++rows_pending_;
  core_.doom(id, false, [this, bytes, gone = std::move(gone)](const Status& result) {
    nvme_pending_ -= bytes;
    --rows_pending_;
    kick();
    if (gone) gone(result);
  });
  return bytes;
}

void Evictor::evict_from_nvme(uint32_t id, std::function<void(Status)> then) {
  const IndexEntry& entry = core_.index[id];
  if (entry.pins == 0 && !entry.kept_here) {
    drop_from_nvme(id, core_.policy->value(id, core_.loop->now()), std::move(then));
    return;
  }
  core_.later([then = std::move(then), key = entry.key] {
    then(error(StatusCode::kFailedPrecondition, "object " + key.hex() + " is in use or pinned"));
  });
}

uint64_t Evictor::lacking(DomainId domain) const {
  const Arena::Holding& held = core_.arena->holding(domain);
  const uint64_t free = held.free + core_.arena->unowned_bytes();
  const uint64_t mark = watermark(held.capacity);
  return free < mark ? mark - free : 0;
}

uint64_t Evictor::reach(DomainId domain) const {
  return core_.arena->holding(domain).capacity + core_.arena->unowned_bytes();
}

std::shared_ptr<ArenaSpace> Evictor::dram_space(DomainId domain, uint64_t bytes, bool put) {
  core_.balancer.used(domain);
  std::shared_ptr<ArenaSpace> space = core_.arena->allocate(domain, bytes);
  if (space == nullptr) core_.balancer.want(domain);
  for (const bool may_demote : {true, false}) {
    if (bytes > reach(domain)) break;  // all of its own would go for nothing
    if (!may_demote && !(put && core_.mover.behind())) break;
    // Space is in regions of one size class, so what was freed may not fit yet: ask for more.
    uint64_t goal = bytes;
    for (uint64_t won = 0; space == nullptr && won < core_.arena->capacity_bytes(); goal *= 2) {
      const uint64_t now = evict_dram(domain, goal, may_demote);
      if (now == 0) break;
      won += now;
      space = core_.arena->allocate(domain, bytes);
      if (now < goal && space == nullptr) break;  // the scan's bound: the rest on later turns
    }
  }
  if (space == nullptr) {
    Wanted& wanted = dram_wanted_[static_cast<uint32_t>(domain)];
    if (wanted.bytes == 0) wanted.since = core_.loop->now();
    wanted.bytes = std::max(wanted.bytes, bytes);
  }
  if (space == nullptr || lacking(domain) > 0) kick();
  return space;
}

bool Evictor::step_dram() {
  std::vector<uint32_t> domains;
  for (const auto& [domain, holding] : core_.arena->holdings()) domains.push_back(domain);
  for (const auto& [domain, wanted] : dram_wanted_) {
    if (core_.arena->holding(DomainId{domain}).slabs.empty()) domains.push_back(domain);
  }
  bool more = false;
  for (uint32_t domain : domains) more |= step_domain(DomainId{domain});
  if (core_.nvme == nullptr) evict_surplus_from_dram(surplus_objects());
  return more;
}

bool Evictor::step_domain(DomainId domain) {
  const auto it = dram_wanted_.find(static_cast<uint32_t>(domain));
  uint64_t wanted = it == dram_wanted_.end() ? 0 : it->second.bytes;
  if (wanted > 0 && core_.arena->allocate(domain, wanted) != nullptr) {
    freed_after(Tier::dram, it->second.since);
    dram_wanted_.erase(it);
    wanted = 0;
  }
  uint64_t need = lacking(domain);
  if (need == 0 && wanted == 0) return false;
  const bool coming = core_.balancer.want(domain);
  if (coming && wanted == 0) return false;  // that is room enough
  if (wanted <= reach(domain)) need = std::max(need, wanted);
  const uint64_t won = need > 0 ? evict_dram(domain, need, true) : 0;
  // Only a write-back can help; its end looks here again, as the arrival of a slab does.
  if (won == 0 && wanted > 0 && !coming) dram_wanted_.erase(it);
  return won > 0 && wanted > 0;
}

void Evictor::freed_after(Tier tier, Nanos since) const {
  const auto us = std::chrono::duration_cast<microseconds>(core_.loop->now() - since).count();
  core_.metrics.time_to_free[static_cast<size_t>(tier)].record_us(static_cast<uint64_t>(us));
}

bool Evictor::step_nvme() {
  core_.persister->retry();
  const uint64_t wanted = core_.persister->wanted_bytes();
  const uint64_t free = core_.nvme->free_bytes() + nvme_pending_;
  const uint64_t mark = watermark(core_.nvme->capacity_bytes());
  uint64_t need = free < mark ? mark - free : 0;
  if (wanted == 0) {
    nvme_goal_ = 0;
  } else if (nvme_pending_ == 0) {
    nvme_goal_ = std::max(wanted, 2 * nvme_goal_);
    need = std::max(need, nvme_goal_);
  }
  if (rows_pending_ >= kRowsMax) return false;
  const uint64_t whole = wanted > 0 ? ExtentMap::allocated_bytes(wanted) : 0;
  uint64_t won = need > 0 ? evict_nvme(need, whole, kRowsMax) : 0;
  if (const uint64_t surplus = surplus_objects(); surplus > 0) {
    const uint64_t gone = evict_nvme(~uint64_t{0}, 0, surplus);
    won += gone;
    // All of them only in dram: nobody has written them back, or nobody could.
    if (gone == 0 && rows_pending_ == 0) evict_surplus_from_dram(surplus);
  }
  if (wanted == 0 || won > 0 || nvme_pending_ > 0) return false;
  core_.persister->give_up_first();
  nvme_goal_ = 0;
  return core_.persister->wanted_bytes() > 0;
}
}  // namespace terrace
