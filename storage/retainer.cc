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

void Retainer::set_pin(uint32_t id, bool pin, uint64_t quota, std::function<void(Status)> then) {
  std::deque<Change>& changes = changes_[id];
  changes.push_back({core_.index[id].generation, pin, quota, std::move(then)});
  if (changes.size() == 1) begin_change(id);
}

void Retainer::set_kept(uint32_t id, bool pin) {
  IndexEntry& entry = core_.index[id];
  entry.kept_here = pin;
  entry.kept_hints = true;
  kept_[id].pinned = pin;
  core_.relist(id);
  if (pin) {
    reserve(entry.ns, entry.logical_bytes);
  } else {
    release(entry.ns, entry.logical_bytes);
  }
}

void Retainer::begin_change(uint32_t id) {
  const uint64_t generation = changes_.at(id).front().generation;
  const bool pin = changes_.at(id).front().pin;
  const uint64_t quota = changes_.at(id).front().quota;
  const auto end = [this, id](const Status& result) { end_change(id, result); };
  const auto end_later = [this, end](const Status& result) {
    core_.later([end, result] { end(result); });
  };
  const IndexEntry* const entry = core_.index.same(id, generation);
  if (entry == nullptr || entry->has(IndexEntry::doomed)) return end_later(StatusCode::kNotFound);
  if (entry->kept_here == pin) return end_later(ok_status());
  // Here, not when it was asked for: changes of others came first.
  const Status fits = pin ? check_quota(entry->ns, entry->logical_bytes, quota) : ok_status();
  if (!fits.ok()) return end_later(fits);
  set_kept(id, pin);
  if (entry->has(IndexEntry::on_nvme)) return write_row(id, end);
  // A write that runs may have read the pin before it was taken away.
  const bool may_get_row = pin ? core_.nvme_works() : entry->has(IndexEntry::persisting);
  if (!may_get_row) return end_later(ok_status());
  // What is to stay had better survive a restart, too.
  core_.mover.make_durable(id, [this, id, generation, pin, end](const Status& result) {
    const bool no_row = !pin && !result.ok() && result.code() != StatusCode::kNotFound;
    core_.later([this, id, generation, end, result = no_row ? ok_status() : result] {
      if (!result.ok()) return end(result);
      const IndexEntry* const now = core_.index.same(id, generation);
      if (now == nullptr || now->has(IndexEntry::doomed)) return end(StatusCode::kNotFound);
      write_row(id, end);
    });
  });
}

void Retainer::end_change(uint32_t id, Status result) {
  std::deque<Change>& changes = changes_.at(id);
  const Change done = std::move(changes.front());
  changes.pop_front();
  const IndexEntry* const entry = core_.index.same(id, done.generation);
  const bool here = entry != nullptr && !entry->has(IndexEntry::doomed);
  if (!result.ok() && here && entry->kept_here == done.pin) set_kept(id, !done.pin);
  if (changes.empty()) {
    changes_.erase(id);
  } else {
    begin_change(id);
  }
  done.then(std::move(result));
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

/// The copies of this node. What the shared tier has of the key may be another node's, put without
/// a ttl: each copy there has its own header, and goes when that says so (shared_loads.cc).
void Retainer::expire(uint32_t id) {
  const IndexEntry& entry = core_.index[id];
  if (core_.shared != nullptr) core_.shared->expired_here(entry.ns, entry.key);
  const Tier from = entry.resident != kNoEntry ? Tier::dram : Tier::nvme;
  core_.departs(id, from, DepartReason::expired, true);
  core_.doom(id, false, nullptr);
}
}  // namespace terrace
