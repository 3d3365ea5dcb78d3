// Loading from the shared tier: the header first, which says how much room it takes; then the
// bytes, straight into the arena; then it is an object of dram like any other.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/object_io.h"
#include "storage/shared_load.h"

namespace terrace {
namespace {

constexpr auto kShared = static_cast<size_t>(Tier::shared);
/// The sweeper takes by age what is older than the grace: so exact it need know the last use.
constexpr int64_t kTouchesPerGrace = 8;
}  // namespace

void SharedTier::miss(const Status& why) {
  core_.metrics.shared.misses[static_cast<size_t>(failure_of(why))].add();
}

StatusOr<uint64_t> SharedTier::load(NamespaceId ns, const ChunkKey& key, Then then) {
  const std::optional<SharedGeneration> there = find(ns, key);
  if (!there) return StatusCode::kNotFound;
  SharedMetrics& metrics = core_.metrics.shared;
  const ObjectName name{ns, key};
  auto it = loads_.find(name);
  if (it == loads_.end()) {
    if (calls_.fenced()) {
      metrics.misses[static_cast<size_t>(SharedFailure::fenced)].add();
      return error(StatusCode::kUnavailable, "the shared tier does not answer");
    }
    const auto load = std::make_shared<Load>();
    load->name = name;
    load->copy = {*set_.digest_of(ns), key, *there};
    load->since = core_.loop->now();
    Status started = loads_.size() < kLoadsMax
                         ? read_header(load)
                         : error(StatusCode::kResourceExhausted,
                                 std::to_string(kLoadsMax) + " loads from the shared tier run");
    if (!started.ok()) {
      metrics.misses[static_cast<size_t>(SharedFailure::busy)].add();
      return started;
    }
    it = loads_.emplace(name, load).first;
  }
  it->second->waiters.push_back({next_waiter_, std::move(then)});
  return next_waiter_++;
}

void SharedTier::cancel(uint64_t waiter, StatusCode why) {
  for (auto& [name, load] : loads_) {
    for (auto it = load->waiters.begin(); it != load->waiters.end(); ++it) {
      if (it->number != waiter) continue;
      core_.later([then = std::move(it->then), why] { then(why); });
      load->waiters.erase(it);
      return;
    }
  }
}

Status SharedTier::read_header(const std::shared_ptr<Load>& load) {
  load->header = std::make_shared<SharedHeader>();
  SharedCall call;
  call.bytes = kHeaderBytesMax;
  call.work = [medium = medium_, copy = load->copy, into = load->header]() -> Status {
    TERRACE_ASSIGN_OR_RETURN(*into, read_shared_header(medium.get(), copy));
    return ok_status();
  };
  call.then = [this, load](const Status& result) {
    if (!result.ok()) return failed(load, result);
    header_read(load);
  };
  return calls_.start(std::move(call));
}

void SharedTier::header_read(const std::shared_ptr<Load>& load) {
  ObjectHeader& local = load->header->header;
  local.ns = load->name.ns;
  const ObjectHints hints = hints_of(local);
  Kept kept = hints.kept.value_or(Kept());
  if (kept.expires_s != 0 && int64_t{kept.expires_s} <= unix_seconds()) return expired(load);
  kept.pinned = false;                   // to the node that it was put into
  set_hints(&local, kept, hints.worth);  // instead of what made it a shared one
  const StoredSizes sizes = stored_sizes(local);
  load->header_bytes = sizes.header_bytes;
  const bool fits = core_.index.count() < core_.config.objects_max &&
                    sizes.stored_bytes <= core_.arena->capacity_bytes();
  if (fits) {
    load->space =
        core_.evictor.dram_space(core_.domain_of(load->name.ns), sizes.stored_bytes, true);
  }
  if (load->space == nullptr) {
    return failed(load, error(StatusCode::kResourceExhausted,
                              "no room in dram for " + std::to_string(sizes.stored_bytes) +
                                  " bytes from the shared tier"));
  }
  load->space->mark_filling();  // a thread that hangs may write there when this node is gone
  SharedCall call;
  call.bytes = sizes.stored_bytes;
  std::vector<iovec> data;
  load->space->memory(sizes.header_bytes, sizes.stored_bytes - sizes.header_bytes, &data);
  call.work = [medium = medium_, copy = load->copy, header = load->header, data] {
    return load_shared(medium.get(), copy, *header, data);
  };
  call.holds = {load->space};
  call.then = [this, load](const Status& result) {
    if (!result.ok()) return failed(load, result);
    bytes_read(load);
  };
  if (const Status started = calls_.start(std::move(call)); !started.ok()) failed(load, started);
}

/// Exactly this copy is nobody's any more, whichever node finds out first; another one of the key
/// has a header of its own.
void SharedTier::expired(const std::shared_ptr<Load>& load) {
  const Status why = error(StatusCode::kNotFound, "its ttl is over");
  miss(why);
  forget(load->copy, DepartReason::expired);
  SharedCall call;
  call.lane = SharedLane::background;
  call.bytes = moved_bytes(load->copy.generation.logical_bytes());
  call.work = [medium = medium_, copy = load->copy] {
    return medium->move(shared_path(copy), shared_aside_path(kSharedTrash, copy));
  };
  (void)calls_.start(std::move(call));  // else the next listing and load find it once more
  end(load, why);
}

/// So that the sweeper sees that it is used. Nobody waits for it; without it the copy may be swept
/// a little sooner.
void SharedTier::touch(const SharedName& copy, std::optional<Nanos> age) {
  const Nanos after = Nanos(core_.config.shared_grace) / kTouchesPerGrace;
  if (age && *age < after) return;
  SharedMetrics& metrics = core_.metrics.shared;
  SharedCall call;
  call.lane = SharedLane::background;
  call.bytes = moved_bytes(copy.generation.logical_bytes());
  call.work = [medium = medium_, path = shared_path(copy), known = age.has_value(),
               after]() -> Status {
    if (!known) {
      TERRACE_ASSIGN_OR_RETURN(const SharedMedium::Facts facts, medium->facts(path));
      if (facts.age < after) return ok_status();
    }
    return medium->touch(path);
  };
  call.then = [&metrics](const Status& result) {
    if (!result.ok() && result.code() != StatusCode::kNotFound) metrics.touch_failures.add();
  };
  if (!calls_.start(std::move(call)).ok()) metrics.touch_failures.add();
}

void SharedTier::bytes_read(const std::shared_ptr<Load>& load) {
  const NamespaceId ns = load->name.ns;
  const uint64_t bytes = load->copy.generation.logical_bytes();
  const auto us = static_cast<double>((core_.loop->now() - load->since).count()) / 1000;
  load_us_ += (us - load_us_) / 16;
  touch(load->copy, load->header->age);
  core_.metrics.bytes_verified.add(bytes);
  core_.metrics.shared.hits.add();
  core_.metrics.reads[kShared].add();
  core_.metrics.read_bytes[kShared].add(bytes);
  core_.metrics.read_latency[kShared].record_us(static_cast<uint64_t>(std::max(0.0, us)));
  // A put of the key may have been faster, an erase may have come in between.
  const bool there = core_.reachable(core_.find(ns, load->name.key));
  if (!there && !find(ns, load->name.key)) {
    return end(load, error(StatusCode::kNotFound, "it was erased meanwhile"));
  }
  if (!there && core_.puts.writing(load->name)) {
    // It will be here in a moment, and there must not be two of one name.
    return end(load, error(StatusCode::kNotFound, "a put of it is under way"));
  }
  if (!there) {
    ObjectHeader& header = load->header->header;
    header.generation = core_.next_generation();
    const uint32_t id = core_.publish_in_dram(header, load->header_bytes, load->space);
    if (core_.retainer.pinned(id)) {  // as the copy was that nobody can read now
      core_.mover.make_durable(id, [](const Status&) {});
    } else if (core_.config.write_through) {
      core_.mover.write_through(id);  // nearer for the next time
    }
    core_.metrics.promotions.add();
  }
  end(load, ok_status());
}

void SharedTier::failed(const std::shared_ptr<Load>& load, const Status& why) {
  miss(why);
  if (why.code() == StatusCode::kDataLoss) set_aside(load->copy, [](const Status&) {});
  if (why.code() == StatusCode::kNotFound) forget(load->copy, DepartReason::swept);
  end(load, why);
}

void SharedTier::end(const std::shared_ptr<Load>& load, const Status& result) {
  loads_.erase(load->name);
  load->space.reset();
  for (const Waiter& waiter : std::exchange(load->waiters, {})) waiter.then(result);
  update_gauges();
}

void SharedTier::expired_here(NamespaceId ns, const ChunkKey& key) {
  const auto it = fresh_.find({ns, key});
  if (it == fresh_.end() || it->second.expires_s == 0) return;
  if (int64_t{it->second.expires_s} > unix_seconds()) return;
  const NamespaceDigest* const digest = set_.digest_of(ns);
  if (digest != nullptr) forget({*digest, key, it->second.generation}, DepartReason::expired);
}

/// Exactly this copy; if the node knows a later one, that stays.
void SharedTier::forget(const SharedName& copy, DepartReason why) {
  for (const NamespaceId ns : set_.namespaces_of(copy.ns)) {
    const auto fresh = fresh_.find({ns, copy.key});
    if (fresh != fresh_.end() && fresh->second.generation == copy.generation) fresh_.erase(fresh);
    const bool known = set_.find(ns, copy.key) == copy.generation;
    if (known) core_.departs_shared(ns, copy.key, copy.generation.logical_bytes(), why);
    set_.remove(ns, copy.key, copy.generation);  // also from a listing that runs
  }
  update_gauges();
}

void SharedTier::set_aside(const SharedName& copy, Then then) {
  spdlog::warn("quarantine key={} generation={} tier=shared", copy.key.hex(),
               copy.generation.number);
  forget(copy, DepartReason::quarantined);
  SharedCall call;
  call.bytes = moved_bytes(copy.generation.logical_bytes());
  call.work = [medium = medium_, copy] {
    const std::string aside = shared_aside_path(kSharedQuarantine, copy);
    Status moved = medium->move(shared_path(copy), aside);
    // It is kept for a while from now on, however old it was. One that was copied is new.
    if (moved.ok() && !medium->copies()) (void)medium->touch(aside);
    return moved;
  };
  const auto over = [this, copy, then = std::move(then)](const Status& result) {
    SharedMetrics& metrics = core_.metrics.shared;
    const bool gone = result.ok() || result.code() == StatusCode::kNotFound;
    if (result.ok()) metrics.quarantined.add();
    if (!gone) metrics.quarantine_failures.add();
    // Once more: a listing may have seen it before it was moved.
    for (const NamespaceId ns : set_.namespaces_of(copy.ns)) {
      if (gone) set_.remove(ns, copy.key, copy.generation);
    }
    update_gauges();
    then(result);
  };
  call.then = over;
  if (const Status started = calls_.start(std::move(call)); !started.ok()) {
    core_.later([over, started] { over(started); });
  }
}
}  // namespace terrace
