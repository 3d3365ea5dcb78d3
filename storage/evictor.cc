#include "storage/evictor.h"

#include <algorithm>

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
  if (more_dram || more_nvme) kick();
}

EvictPlan Evictor::plan(Tier tier, uint64_t need, uint64_t victims_max, bool may_demote) const {
  const EvictionPolicy& policy = tier == Tier::dram ? *core_.dram_policy : *core_.nvme_policy;
  std::vector<uint32_t> ids;
  std::vector<EvictCandidate> candidates;
  uint64_t found = 0;
  uint64_t free = 0;  // not pinned
  uint32_t after = kNoEntry;
  while (candidates.size() < kScanMax && found < need && free < victims_max) {
    ids.clear();
    policy.candidates(after, 64, &ids);
    if (ids.empty()) break;
    after = ids.back();
    for (uint32_t id : ids) {
      const IndexEntry& entry = core_.index[id];
      EvictCandidate candidate;
      candidate.id = id;
      candidate.pinned = entry.pins > 0;
      if (tier == Tier::dram) {
        candidate.bytes = core_.dram_of(id)->allocated_bytes();
        candidate.has_slower_copy = entry.has(IndexEntry::on_nvme);
        candidate.may_demote = may_demote && !entry.has(IndexEntry::write_failed);
      } else {
        candidate.bytes = NvmeMap::bytes_of(core_.index.extents(id));
      }
      if (!candidate.pinned) {
        found += candidate.bytes;
        ++free;
      }
      candidates.push_back(candidate);
    }
  }
  return plan_eviction(candidates, need);
}

uint64_t Evictor::surplus_objects() const {
  const uint64_t limit = core_.config.objects_max;
  const uint64_t spare = std::max<uint64_t>(1, limit * core_.config.watermark_permille / 1000);
  const uint64_t objects = core_.index.count();
  return objects + spare > limit ? objects + spare - limit : 0;
}

uint64_t Evictor::evict_dram(uint64_t need, bool may_demote, uint64_t victims_max) {
  constexpr auto kDram = static_cast<size_t>(Tier::dram);
  if (victims_max == 0) return 0;
  const EvictPlan victims = plan(Tier::dram, need, victims_max, may_demote && core_.nvme_works());
  for (uint32_t id : victims.drop) {
    if (victims_max-- == 0) break;
    core_.metrics.evictions[kDram].add();
    core_.metrics.evicted_bytes[kDram].add(core_.dram_of(id)->allocated_bytes());
    if (core_.index[id].has(IndexEntry::on_nvme)) {
      core_.drop_dram(id);
    } else {
      if (core_.has_nvme()) core_.metrics.evictions_undemoted.add();
      core_.doom(id, false, nullptr);
    }
  }
  for (uint32_t id : victims.demote) core_.mover.write_back(id, true);
  return victims.dropped_bytes;
}

uint64_t Evictor::evict_nvme(uint64_t need, uint64_t victims_max) {
  constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
  const EvictPlan victims = plan(Tier::nvme, need, victims_max, false);
  uint64_t won = 0;
  for (uint32_t id : victims.drop) {
    if (victims_max-- == 0) break;
    const uint64_t bytes = NvmeMap::bytes_of(core_.index.extents(id));
    core_.metrics.evictions[kNvme].add();
    core_.metrics.evicted_bytes[kNvme].add(bytes);
    won += bytes;
    nvme_pending_ += bytes;
    ++rows_pending_;
    core_.doom(id, false, [this, bytes](const Status&) {
      nvme_pending_ -= bytes;
      --rows_pending_;
      kick();
    });
  }
  return won;
}

std::shared_ptr<ArenaSpace> Evictor::dram_space(uint64_t bytes, bool put) {
  std::shared_ptr<ArenaSpace> space = core_.arena->allocate(bytes);
  for (const bool may_demote : {true, false}) {
    if (!may_demote && !(put && core_.mover.behind())) break;
    // Space is in regions of one size class, so what was freed may not fit yet: ask for more.
    uint64_t goal = bytes;
    for (uint64_t won = 0; space == nullptr && won < core_.arena->capacity_bytes(); goal *= 2) {
      const uint64_t now = evict_dram(goal, may_demote);
      if (now == 0) break;
      won += now;
      space = core_.arena->allocate(bytes);
      if (now < goal && space == nullptr) break;  // the scan's bound: the rest on later turns
    }
  }
  if (space == nullptr) dram_wanted_ = std::max(dram_wanted_, bytes);
  const bool low = core_.arena->free_bytes() < watermark(core_.arena->ready_bytes());
  if (space == nullptr || low) kick();
  return space;
}

bool Evictor::step_dram() {
  const uint64_t free = core_.arena->free_bytes();
  const uint64_t mark = watermark(core_.arena->ready_bytes());
  uint64_t need = free < mark ? mark - free : 0;
  if (dram_wanted_ > 0) {
    if (core_.arena->allocate(dram_wanted_) != nullptr) {
      dram_wanted_ = 0;
    } else {
      need = std::max(need, dram_wanted_);
    }
  }
  if (core_.nvme == nullptr) evict_dram(~uint64_t{0}, false, surplus_objects());
  if (need == 0) return false;
  const uint64_t won = evict_dram(need, true);
  if (won == 0) dram_wanted_ = 0;  // only a write-back can help; its end looks here again
  return won > 0 && dram_wanted_ > 0;
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
  uint64_t won = need > 0 ? evict_nvme(need, kRowsMax) : 0;
  if (const uint64_t surplus = surplus_objects(); surplus > 0) {
    const uint64_t gone = evict_nvme(~uint64_t{0}, surplus);
    won += gone;
    // All of them only in dram: nobody has written them back, or nobody could.
    if (gone == 0 && rows_pending_ == 0) evict_dram(~uint64_t{0}, false, surplus);
  }
  if (wanted == 0 || won > 0 || nvme_pending_ > 0) return false;
  core_.persister->give_up_first();
  nvme_goal_ = 0;
  return core_.persister->wanted_bytes() > 0;
}
}  // namespace terrace
