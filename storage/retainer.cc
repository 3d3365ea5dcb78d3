#include "storage/retainer.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "storage/core.h"
#include "storage/object_io.h"

namespace terrace {

Retainer::Retainer(ChunkStore::Core& core) : core_(core), timer_([this] { tick(); }) {}

void Retainer::start() {
  stopped_ = false;
  arm();
}

void Retainer::stop() {
  stopped_ = true;
  core_.loop->disarm(&timer_);
}

void Retainer::arm() {
  if (stopped_ || deadlines_.empty()) return;
  core_.loop->arm(&timer_, std::max(deadlines_.begin()->first, core_.loop->now()));
}

void Retainer::known(uint32_t id, const Kept& kept) {
  IndexEntry& entry = core_.index[id];
  if (kept.plain()) return;
  kept_[id] = kept;
  entry.kept_hints = true;
  if (kept.pinned) {
    entry.kept_here = true;
    reserve(entry.ns, entry.logical_bytes);
  }
  if (kept.expires_s == 0) return;
  // The wall clock says how much is left, once; from here on the loop's clock counts.
  const int64_t left_s = std::max<int64_t>(0, int64_t{kept.expires_s} - unix_seconds());
  const Nanos deadline = core_.loop->now() + seconds(left_s);
  deadlines_.emplace(deadline, id);
  deadline_of_[id] = deadline;
  if (deadlines_.begin()->second == id) arm();
}

void Retainer::forgotten(uint32_t id) {
  IndexEntry& entry = core_.index[id];
  if (!entry.kept_hints) return;
  if (entry.kept_here) release(entry.ns, entry.logical_bytes);
  entry.kept_here = false;
  entry.kept_hints = false;
  kept_.erase(id);
  if (const auto it = deadline_of_.find(id); it != deadline_of_.end()) {
    deadlines_.erase({it->second, id});
    deadline_of_.erase(it);
  }
}

const Kept* Retainer::find(uint32_t id) const {
  const auto it = kept_.find(id);
  return it == kept_.end() ? nullptr : &it->second;
}

bool Retainer::pinned(uint32_t id) const {
  return core_.index[id].kept_here;
}

uint64_t Retainer::pinned_bytes(NamespaceId ns) const {
  const auto it = pinned_.find(static_cast<uint32_t>(ns));
  return it == pinned_.end() ? 0 : it->second;
}

Status Retainer::check_quota(NamespaceId ns, uint64_t bytes, uint64_t quota) const {
  const uint64_t after = pinned_bytes(ns) + bytes;
  if (after <= quota) return ok_status();
  return error(StatusCode::kResourceExhausted,
               "pin: quota of namespace " + std::to_string(static_cast<uint32_t>(ns)) + ": " +
                   std::to_string(after) + " pinned bytes with this object, the limit is " +
                   std::to_string(quota) + " (namespace_pinned_bytes_max): unpin some");
}

void Retainer::release(NamespaceId ns, uint64_t bytes) {
  const auto it = pinned_.find(static_cast<uint32_t>(ns));
  TERRACE_CHECK(it != pinned_.end() && it->second >= bytes);
  if ((it->second -= bytes) == 0) pinned_.erase(it);
}

void Retainer::set_pin(uint32_t id, bool pin, std::function<void(Status)> then) {
  IndexEntry& entry = core_.index[id];
  if (entry.kept_here == pin) {
    core_.later([then = std::move(then)] { then(ok_status()); });
    return;
  }
  entry.kept_here = pin;
  entry.kept_hints = true;
  kept_[id].pinned = pin;
  if (pin) {
    reserve(entry.ns, entry.logical_bytes);
  } else {
    release(entry.ns, entry.logical_bytes);
  }
  const uint64_t generation = entry.generation;
  if (entry.has(IndexEntry::on_nvme)) return write_row(id, std::move(then));
  if (!pin || !core_.nvme_works()) {
    core_.later([then = std::move(then)] { then(ok_status()); });
    return;
  }
  // What is to stay had better survive a restart, too.
  core_.mover.make_durable(id, [this, id, generation, then](const Status& result) {
    if (!result.ok()) return then(result);
    core_.later([this, id, generation, then] {
      if (core_.index.same(id, generation) == nullptr) return then(StatusCode::kNotFound);
      write_row(id, then);
    });
  });
}

/// The row says what holds now; the header, what was said when the object came.
void Retainer::write_row(uint32_t id, std::function<void(Status)> then) {
  const IndexEntry& entry = core_.index[id];
  if (!entry.has(IndexEntry::on_nvme)) {  // its copy failed meanwhile
    core_.later([then = std::move(then)] { then(ok_status()); });
    return;
  }
  core_.pin(id);
  core_.rows->put(row_of(entry, core_.index.extents(id), find(id)), true,
                  [this, id, then = std::move(then)](const Status& result) {
                    core_.unpin(id);
                    then(result);
                  });
}

void Retainer::tick() {
  const Nanos now = core_.loop->now();
  for (size_t ended = 0; ended < kBatch && !deadlines_.empty(); ++ended) {
    if (deadlines_.begin()->first > now) break;
    expire(deadlines_.begin()->second);
  }
  arm();
}

void Retainer::expire(uint32_t id) {
  const IndexEntry& entry = core_.index[id];
  const NamespaceId ns = entry.ns;
  const ChunkKey key = entry.key;
  const Tier from = entry.resident != kNoEntry ? Tier::dram : Tier::nvme;
  core_.departs(id, from, DepartReason::expired, true);
  core_.doom(id, false, nullptr);
  if (core_.shared != nullptr && core_.shared->find(ns, key)) {
    core_.shared->erase(ns, key, [](const Status&) {});  // if it fails, its header says the same
  }
}
}  // namespace terrace
