// What an administrator does about objects: pins, moves between tiers, clears.
#include <algorithm>
#include <string>
#include <utility>

#include "storage/clear_scan.h"
#include "storage/core.h"

namespace terrace {
namespace {

Status in_use(const IndexEntry& entry) {
  return error(StatusCode::kFailedPrecondition, "object " + entry.key.hex() + " is in use by " +
                                                    std::to_string(entry.pins) +
                                                    " operations, leases or views: try again");
}
}  // namespace

void ChunkStore::set_pin(NamespaceId ns, const ChunkKey& key, bool pin, uint64_t quota, Then then) {
  Core& core = *core_;
  const uint32_t id = core.find(ns, key);
  Status refused;
  if (core.closing()) {
    refused = error(StatusCode::kUnavailable, "the store is closing");
  } else if (id == kNoEntry) {
    refused = error(StatusCode::kNotFound,
                    "not on this node (what only the shared tier has: "
                    "fetch or move it here first)");
  }
  if (refused.ok()) return core.retainer.set_pin(id, pin, quota, std::move(then));
  core.later([then = std::move(then), refused] { then(refused); });
}

uint64_t ChunkStore::pinned_bytes(NamespaceId ns) const {
  return core_->retainer.pinned_bytes(ns);
}

void ChunkStore::move(NamespaceId ns, const ChunkKey& key, Tier to, Then then) {
  Core& core = *core_;
  const auto refuse = [&core](Then say, Status why) {
    core.later([say = std::move(say), why = std::move(why)] { say(why); });
  };
  if (core.closing()) {
    return refuse(std::move(then), error(StatusCode::kUnavailable, "the store is closing"));
  }
  if (to == Tier::nvme && !core.nvme_works()) {
    return refuse(std::move(then),
                  error(StatusCode::kUnavailable, "no nvme tier here that answers"));
  }
  if (to == Tier::shared && (core.shared == nullptr || !core.shared->works(ns))) {
    return refuse(std::move(then),
                  error(StatusCode::kUnavailable, "no shared tier here that answers"));
  }
  const uint32_t id = core.find(ns, key);
  if (id != kNoEntry) return core.rehome(id, to, std::move(then));
  if (core.shared == nullptr || !core.shared->find(ns, key)) {
    return refuse(std::move(then), StatusCode::kNotFound);
  }
  if (to == Tier::shared) return refuse(std::move(then), ok_status());
  const auto loaded = [this, ns, key, to, then](const Status& result) {
    const uint32_t now = core_->find(ns, key);
    if (!result.ok() || now == kNoEntry) {
      return then(result.ok() ? Status(StatusCode::kNotFound) : result);
    }
    core_->rehome(now, to, then);
  };
  const auto started = core.shared->load(ns, key, loaded);
  if (!started.ok()) refuse(std::move(then), started.status());
}

void ChunkStore::Core::rehome(uint32_t id, Tier to, Then then) {
  const uint64_t generation = index[id].generation;
  if (to == Tier::dram) return mover.promote(id, std::move(then));
  // A copy there first; what is faster goes when nobody uses it.
  const auto copied = [this, id, generation, to, then](const Status& result) {
    if (!result.ok()) return then(result);
    later([this, id, generation, to, then] {
      if (index.same(id, generation) == nullptr) return then(StatusCode::kNotFound);
      leave_faster(id, to, then);
    });
  };
  if (to == Tier::nvme) return mover.make_durable(id, copied);
  shared->share(id, SharedLane::foreground, copied);
}

/// There is a copy in `to`: those in faster tiers go.
void ChunkStore::Core::leave_faster(uint32_t id, Tier to, const Then& then) {
  const IndexEntry& entry = index[id];
  if (entry.pins > 0) return then(in_use(entry));
  if (hbm != nullptr) hbm->drop(id);
  if (to == Tier::nvme) {
    if (entry.resident != kNoEntry) {
      departs(id, Tier::dram, DepartReason::moved, false);
      drop_dram(id);
      update_gauges();
    }
    return then(ok_status());
  }
  if (entry.kept_here) {
    return then(error(StatusCode::kFailedPrecondition,
                      "object " + entry.key.hex() + " is pinned to this node: unpin it first"));
  }
  departs(id, entry.resident != kNoEntry ? Tier::dram : Tier::nvme, DepartReason::moved, true);
  doom(id, false, then);
}

void ChunkStore::clear(NamespaceId ns, const ChunkKey& key, std::optional<Tier> tier, Then then) {
  Core& core = *core_;
  const uint32_t id = core.find(ns, key);
  Status refused;
  if (core.closing()) refused = error(StatusCode::kUnavailable, "the store is closing");
  if (id != kNoEntry && core.index[id].kept_here && tier != Tier::shared) {
    refused = error(StatusCode::kFailedPrecondition,
                    "object " + key.hex() + " is pinned: unpin it first");
  }
  if (!refused.ok()) {
    core.later([then = std::move(then), refused] { then(refused); });
    return;
  }
  if (!tier) return core.remove(ns, key, DepartReason::cleared, std::move(then));
  if (*tier == Tier::shared) {
    if (core.shared != nullptr && core.shared->knows(ns)) {
      if (const auto there = core.shared->find(ns, key)) {
        core.departs_shared(ns, key, there->logical_bytes(), DepartReason::cleared);
      }
      return core.shared->erase(ns, key, SharedLane::background, std::move(then));
    }
  } else if (id != kNoEntry) {
    return core.clear_copy(id, *tier, std::move(then));
  }
  core.later([then = std::move(then)] { then(StatusCode::kNotFound); });
}

void ChunkStore::Core::clear_copy(uint32_t id, Tier tier, Then then) {
  const IndexEntry& entry = index[id];
  const bool in_dram = entry.resident != kNoEntry;
  const bool on_nvme = entry.has(IndexEntry::on_nvme);
  const bool there = tier == Tier::dram ? in_dram : on_nvme;
  const bool other = tier == Tier::dram ? on_nvme : in_dram;
  if (!there) return later([then = std::move(then)] { then(StatusCode::kNotFound); });
  if (other && entry.pins > 0) {
    return later([then = std::move(then), why = in_use(entry)] { then(why); });
  }
  departs(id, tier, DepartReason::cleared, !other);
  if (!other) return doom(id, false, std::move(then));
  if (tier == Tier::nvme) return leave_nvme(id, std::move(then));
  drop_dram(id);
  update_gauges();
  later([then = std::move(then)] { then(ok_status()); });
}

/// The nvme copy goes, its extents are free once the row is gone for good; nobody reads it.
void ChunkStore::Core::leave_nvme(uint32_t id, Then then) {
  const std::span<const Extent> held = index.extents(id);
  const std::vector<Extent> extents(held.begin(), held.end());
  const uint64_t bytes = index[id].stored_bytes();
  take_off_nvme(id, [this, id, extents, bytes, then = std::move(then)](const Status& result) {
    if (result.ok()) {
      nvme->free(extents, bytes);
    } else {
      nvme->withhold(extents);  // the row may come back after a restart
    }
    mover.may_write(id);
    update_gauges();
    then(result);
  });
}

bool ChunkStore::clear_step(ClearScan* scan) {
  constexpr uint32_t kLookMax = 8192;
  constexpr uint32_t kStartMax = 64;
  if (!scan->only.empty() && !scan->listed) {
    scan->names = std::exchange(scan->only, {});
    scan->listed = true;
    scan->whole = false;
    scan->next = ~uint32_t{0};
  }
  const uint32_t end = core_->index.ids_end();
  const bool shared_too = core_->shared != nullptr && core_->shared->knows(scan->ns) &&
                          (!scan->tier || *scan->tier == Tier::shared);
  // Each is a call of the shared tier's.
  const uint32_t running_max =
      shared_too ? std::clamp(core_->config.shared_threads, 1u, ClearScan::kSharedRunningMax)
                 : ClearScan::kRunningMax;
  uint32_t started = 0;
  for (uint32_t looked = 0; scan->next < end && looked < kLookMax; ++looked, ++scan->next) {
    if (started == kStartMax || scan->running >= running_max) return false;
    const IndexEntry& entry = core_->index[scan->next];
    const bool visible = entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed);
    if (!visible || entry.ns != scan->ns) continue;
    ++started;
    clear_one(scan, entry.key, entry.logical_bytes);
  }
  if (scan->next < end) return false;
  // What only the shared tier has; the names that this node knows.
  if (shared_too && !scan->listed) {
    scan->listed = true;
    scan->names = core_->shared->keys_of(scan->ns, ClearScan::kNamesMax);
    scan->cut = scan->names.size() == ClearScan::kNamesMax;
    scan->gone_before = scan->gone;
  }
  while (!scan->names.empty()) {
    if (started++ == kStartMax || scan->running >= running_max) return false;
    const ChunkKey key = scan->names.back();
    scan->names.pop_back();
    const std::optional<ObjectInfo> there = find(scan->ns, key);
    // It went with its local copy, or was kept with it.
    const bool done = !there || core_->find(scan->ns, key) != kNoEntry;
    if (scan->whole && done) continue;
    clear_one(scan, key, there ? there->logical_bytes : 0);
  }
  if (scan->running > 0) return false;
  // There were more names: on with those, unless none of the last ones went.
  if (scan->cut && scan->gone > scan->gone_before) scan->listed = false;
  return !scan->cut || scan->listed;
}

void ChunkStore::clear_one(ClearScan* scan, const ChunkKey& key, uint64_t bytes) {
  ++scan->running;
  clear(scan->ns, key, scan->tier, [state = scan->shared_from_this(), bytes](const Status& result) {
    --state->running;
    if (result.ok() || result.code() == StatusCode::kNotFound) ++state->gone;
    if (result.ok()) {
      ++state->cleared;
      state->bytes += bytes;
    } else if (result.code() == StatusCode::kFailedPrecondition) {
      ++state->kept;
    } else if (result.code() != StatusCode::kNotFound) {
      ++state->failed;
    }
  });
}
}  // namespace terrace
