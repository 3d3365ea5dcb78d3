#include "storage/shared_demoter.h"

#include <algorithm>

#include "storage/core.h"

namespace terrace {

SharedDemoter::SharedDemoter(ChunkStore::Core& core) : core_(core), timer_([this] { step(); }) {}

SharedDemoter::~SharedDemoter() {
  core_.loop->disarm(&timer_);
}

void SharedDemoter::start() {
  stopped_ = false;
  core_.loop->arm(&timer_, core_.loop->now() + kPeriod);
}

void SharedDemoter::stop() {
  stopped_ = true;
  core_.loop->disarm(&timer_);
}

void SharedDemoter::kick() {
  if (!stopped_) core_.loop->arm(&timer_, core_.loop->now());
}

bool SharedDemoter::may_start() const {
  const bool room = running_ == 0 || (running_ < kRunningMax && running_bytes_ < kBytesMax);
  return !stopped_ && room && core_.shared->has_room(SharedLane::background) &&
         core_.loop->now() >= rests_until_;
}

/// What would leave its last local tier: of dram, what nvme has not got.
void SharedDemoter::step() {
  if (stopped_) return;
  core_.loop->arm(&timer_, core_.loop->now() + kPeriod);
  if (!may_start()) return;
  const bool nvme_scarce =
      core_.nvme != nullptr && core_.nvme->free_bytes() < core_.nvme->capacity_bytes() / kRoom;
  if (nvme_scarce) {
    for (const auto& [value, list] : core_.nvme_lists()) step_list(Tier::nvme, list);
  }
  std::vector<uint32_t> domains;
  for (const auto& [domain, holding] : core_.arena->holdings()) {
    const uint64_t free = holding.free + core_.arena->unowned_bytes();
    if (free < std::max<uint64_t>(1, holding.capacity / kRoom)) domains.push_back(domain);
  }
  for (const uint32_t domain : domains) step_list(Tier::dram, domain);
}

void SharedDemoter::step_list(Tier tier, uint32_t list) {
  std::vector<uint32_t> ids;
  core_.policy->walk(tier, list, core_.loop->now(), [&ids](uint32_t id) {
    ids.push_back(id);
    return ids.size() < kScanMax ? PlacementPolicy::Visit::taken : PlacementPolicy::Visit::stop;
  });
  for (const uint32_t id : ids) {
    if (!may_start()) return;
    const IndexEntry& entry = core_.index[id];
    if (tier == Tier::dram && entry.has(IndexEntry::on_nvme)) continue;
    if (!core_.reachable(id)) continue;
    // Fresh: it is there although a set that is full does not know it.
    if (!core_.shared->knows(entry.ns) || core_.shared->find(entry.ns, entry.key) ||
        core_.shared->publishing(entry.ns, entry.key) || core_.shared->fresh(entry.ns, entry.key)) {
      continue;
    }
    copy(id);
  }
}

void SharedDemoter::copy(uint32_t id) {
  const uint64_t bytes = core_.index[id].stored_bytes();
  ++running_;
  running_bytes_ += bytes;
  core_.shared->share(id, SharedLane::background, [this, bytes](const Status& result) {
    --running_;
    running_bytes_ -= bytes;
    if (result.ok()) {
      core_.metrics.shared.demotions.add();
      kick();
    } else {
      rests_until_ = core_.loop->now() + kRest;
    }
  });
}
}  // namespace terrace
