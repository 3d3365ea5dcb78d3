#include "storage/puts.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "storage/core.h"
#include "storage/object_io.h"
#include "storage/shared_tier.h"

namespace terrace {
namespace {

Status invalid(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "put: " + what);
}
}  // namespace

/// What this node said it keeps, on a device that does not answer, gives way only to what is as
/// safe.
Durability Puts::durability_of(const PutSpec& spec) const {
  const uint32_t old = core_.find(spec.ns, spec.key);
  if (spec.durability != Durability::memory || old == kNoEntry || core_.reachable(old)) {
    return spec.durability;
  }
  const IndexEntry& entry = core_.index[old];
  return entry.has(IndexEntry::durable) || entry.kept_here ? Durability::nvme : Durability::memory;
}

StatusOr<std::shared_ptr<Put>> Puts::open(PutSpec spec, Op* op) {
  StoreMetrics& metrics = core_.metrics;
  spec.durability = durability_of(spec);
  if (const Status valid = validate(spec); !valid.ok()) {
    metrics.puts_refused_invalid.add();
    return valid;
  }
  if (const Status possible = check_durability(spec); !possible.ok()) {
    metrics.puts_refused_device.add();
    return possible;
  }
  if (in_flight_ >= core_.config.puts_in_flight_max) {
    metrics.puts_refused_in_flight.add();
    return error(StatusCode::kResourceExhausted,
                 "put: " + std::to_string(in_flight_) + " puts in flight, the limit");
  }
  auto put = std::make_shared<Put>();
  put->spec = std::move(spec);
  put->op = op;
  put->header.key = put->spec.key;
  put->header.ns = put->spec.ns;
  put->header.raw_key = put->spec.raw_key;
  put->header.user_meta = put->spec.user_meta;
  put->header.sections = put->spec.sections;
  set_hints(&put->header, kept_of(put->spec.retention, 0),  // their size is what counts here
            pack_worth(put->spec.worth));
  put->logical_bytes = total_bytes(put->spec.sections);
  uint32_t units = 0;
  for (const SectionSpec& section : put->spec.sections) units += units_of(section.bytes);
  put->header.unit_crcs.resize(units);
  put->landed.resize(units);
  put->missing = units;
  const StoredSizes sizes = stored_sizes(put->header);
  put->header_bytes = sizes.header_bytes;
  put->stored_bytes = sizes.stored_bytes;

  if (const uint32_t id = readable(put->spec); id != kNoEntry) {
    answer_duplicate(put, id);
    return put;
  }
  const ObjectName name{put->spec.ns, put->spec.key};
  if (const auto it = lines_.find(name); it != lines_.end()) {
    metrics.puts_waited.add();
    put->counted = true;
    ++in_flight_;
    it->second.waiting.push_back(put);
    return put;
  }
  TERRACE_RETURN_IF_ERROR(take_space(*put));
  put->counted = true;
  ++in_flight_;
  lines_[name].first = put;
  core_.defer(std::exchange(put->op, nullptr), ok_status());
  return put;
}

/// What makes a put of it a duplicate. A copy on a device that does not answer is none: the new one
/// takes its place, but not before it is safe.
uint32_t Puts::readable(const PutSpec& spec) const {
  const uint32_t id = core_.find(spec.ns, spec.key);
  return core_.reachable(id) ? id : kNoEntry;
}

Status Puts::take_space(Put& put) {
  if (Status quota = check_quota(put); !quota.ok()) {
    core_.metrics.puts_refused_quota.add();
    return quota;
  }
  if (core_.index.count() + in_flight_ >= core_.config.objects_max) {
    core_.metrics.puts_refused_space.add();
    core_.evictor.kick();
    return error(StatusCode::kResourceExhausted,
                 "put: objects_max=" + std::to_string(core_.config.objects_max) + " reached");
  }
  const uint64_t capacity = core_.arena->capacity_bytes();
  if (put.stored_bytes <= capacity) {
    put.space = core_.evictor.dram_space(core_.domain_of(put.spec.ns), put.stored_bytes, true);
  }
  if (put.space == nullptr) {
    core_.metrics.puts_refused_space.add();
    return no_room(put);
  }
  core_.putting[static_cast<uint32_t>(put.spec.ns)] += put.stored_bytes;
  if (put.spec.retention.pin) core_.retainer.reserve(put.spec.ns, put.logical_bytes);
  if (put.spec.durability == Durability::nvme) put.early = core_.persister->begin_early(put.space);
  return ok_status();
}

/// What lies between the sections goes to the device too: not the bytes of another tenant.
void Puts::pad(const Put& put, const ObjectLayout& layout, uint32_t section) {
  const uint64_t end = layout.section_offset(section) + put.header.sections[section].bytes;
  std::vector<iovec> memory;
  put.space->memory(end, (kSectorBytes - end % kSectorBytes) % kSectorBytes, &memory);
  for (const iovec& run : memory) std::memset(run.iov_base, 0, run.iov_len);
}

void Puts::answer_duplicate(const std::shared_ptr<Put>& put, uint32_t id) {
  core_.touch(id);
  const std::shared_ptr<ArenaSpace>& space = core_.dram_of(id);
  if (space != nullptr && !space->verified() && !core_.index[id].has(IndexEntry::on_nvme)) {
    // The only copy, of an earlier run: who has the bytes in hand must not be told that they are
    // here before that is sure.
    core_.verifier.verify(id, true, [this, put](const Status& good) {
      const uint32_t now = core_.find(put->spec.ns, put->spec.key);
      if (good.ok() && now != kNoEntry) return answer_duplicate(put, now);
      finish(put, error(StatusCode::kAborted, "put: the copy that was there is gone: again"));
    });
    return;
  }
  const Durability asked = put->spec.durability;
  const IndexEntry& entry = core_.index[id];
  const bool durable =
      entry.has(IndexEntry::durable) && core_.nvme->serves({&entry.first_extent, 1});
  if (asked == Durability::memory || (asked == Durability::nvme && durable)) {
    core_.metrics.puts_deduplicated.add();
    core_.later([this, put] { finish(put, StatusCode::kAlreadyExists); });
    return;
  }
  const auto done = [this, put](const Status& result) {
    if (result.ok()) {
      core_.metrics.puts_deduplicated.add();
    } else if (result.code() != StatusCode::kAborted) {  // that is an erase's doing
      core_.metrics.puts_failed_device.add();
    }
    const bool evicted = result.code() == StatusCode::kNotFound;  // while it was being written
    if (result.ok()) return finish(put, StatusCode::kAlreadyExists);
    finish(put, evicted ? error(StatusCode::kAborted, "put: the copy was evicted: again") : result);
  };
  if (asked == Durability::nvme) return core_.mover.make_durable(id, done);
  core_.shared->share(id, SharedLane::foreground, done);
}

Status Puts::landed(Put& put, uint32_t section, uint32_t first_unit,
                    std::span<const uint32_t> crcs) {
  if (put.space == nullptr || section >= put.header.sections.size()) {
    return invalid("landed in section " + std::to_string(section) + ", which is not open");
  }
  const uint64_t bytes = put.header.sections[section].bytes;
  if (uint64_t{first_unit} + crcs.size() > units_of(bytes)) {
    return invalid("landed units " + std::to_string(first_unit) + " + " +
                   std::to_string(crcs.size()) + " of " + std::to_string(units_of(bytes)));
  }
  const ObjectLayout layout(put.header_bytes, put.header.sections);
  std::vector<iovec> memory;
  for (uint32_t i = 0; i < crcs.size(); ++i) {
    const uint32_t unit = first_unit + i;
    memory.clear();
    const uint64_t length = unit_bytes(bytes, unit);
    put.space->memory(layout.section_offset(section) + uint64_t{unit} * kCrcUnitBytes, length,
                      &memory);
    core_.metrics.bytes_verified.add(length);
    if (unit_crc_of(put.spec.key, section, unit, memory) != crcs[i]) {
      core_.metrics.puts_failed_crc.add();
      return error(StatusCode::kDataLoss, "put: section " + std::to_string(section) + " unit " +
                                              std::to_string(unit) + " has another checksum");
    }
    const uint32_t index = layout.first_unit(section) + unit;
    put.header.unit_crcs[index] = crcs[i];
    if (put.landed[index]) return invalid("unit " + std::to_string(unit) + " landed twice");
    --put.missing;
    put.landed[index] = true;
  }
  const uint64_t first = uint64_t{first_unit} * kCrcUnitBytes;
  const uint64_t end = std::min<uint64_t>(first + crcs.size() * uint64_t{kCrcUnitBytes}, bytes);
  if (end == bytes) pad(put, layout, section);
  if (put.early != nullptr && end > first) {
    const uint64_t padded = (end + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
    core_.persister->write_early(put.early, layout.section_offset(section) + first, padded - first);
  }
  return ok_status();
}

Status Puts::commit(const std::shared_ptr<Put>& put, Op* op) {
  if (put->space == nullptr || put->committing) return invalid("commit of a put that is not open");
  if (put->missing > 0) return invalid(std::to_string(put->missing) + " units did not land");
  put->op = op;
  put->committing = true;
  put->header.generation = core_.next_generation();
  Kept kept = kept_of(put->spec.retention, unix_seconds());
  const uint32_t old = core_.find(put->spec.ns, put->spec.key);
  kept.pinned |= old != kNoEntry && core_.retainer.pinned(old);
  set_hints(&put->header, kept, pack_worth(put->spec.worth));
  if (put->spec.durability == Durability::memory) {
    publish(put, nullptr);
    core_.later([this, put] { finish(put, ok_status()); });
    return ok_status();
  }
  if (put->spec.durability == Durability::shared) {
    commit_shared(put);
    return ok_status();
  }
  PersistSpec spec;
  spec.header = put->header;
  spec.header_bytes = put->header_bytes;
  spec.logical_bytes = put->logical_bytes;
  spec.source = put->space;
  spec.early = std::move(put->early);
  spec.durable = true;
  spec.priority = IoPriority::foreground;
  spec.done = [this, put](StatusOr<NvmeCopy> result) {
    if (result.ok()) {
      publish(put, &*result);
      finish(put, ok_status());
      return;
    }
    core_.metrics.puts_failed_device.add();
    finish(put, result.status());
    over(put);
  };
  core_.persister->start(std::move(spec));
  return ok_status();
}

/// Visible here once it is in the shared tier.
void Puts::commit_shared(const std::shared_ptr<Put>& put) {
  SharedSource source;
  source.ns = put->spec.ns;
  source.header = put->header;
  put->space->memory(put->header_bytes, put->stored_bytes - put->header_bytes, &source.data);
  source.holds = {put->space};
  const auto done = [this, put](const Status& result) {
    if (result.ok()) {
      publish(put, nullptr);
      finish(put, ok_status());
      return;
    }
    if (result.code() != StatusCode::kAborted) core_.metrics.puts_failed_device.add();
    finish(put, result);
    over(put);
  };
  const Status started = core_.shared->publish(std::move(source), SharedLane::foreground, done);
  if (!started.ok()) core_.later([done, started] { done(started); });
}

void Puts::publish(const std::shared_ptr<Put>& put, const NvmeCopy* copy) {
  put->header.extents.clear();  // they are of nvme only
  const uint32_t id = core_.publish_in_dram(put->header, put->header_bytes, put->space);
  if (copy != nullptr) core_.attach_nvme(id, *copy);
  constexpr auto kDram = static_cast<size_t>(Tier::dram);
  core_.metrics.writes[kDram].add();
  core_.metrics.write_bytes[kDram].add(put->logical_bytes);
  core_.metrics.puts_committed.add();
  core_.update_gauges();
  if (copy == nullptr && core_.config.write_through) core_.mover.write_through(id);
  over(put);
}

void Puts::over(const std::shared_ptr<Put>& put) {
  forget(*put);
  const auto it = lines_.find({put->spec.ns, put->spec.key});
  if (it == lines_.end() || it->second.first != put) return;
  std::deque<std::shared_ptr<Put>> waiting = std::move(it->second.waiting);
  lines_.erase(it);
  while (!waiting.empty()) {
    const std::shared_ptr<Put> next = waiting.front();
    waiting.pop_front();
    if (const uint32_t id = readable(next->spec); id != kNoEntry) {
      answer_duplicate(next, id);
      continue;
    }
    if (const Status space = take_space(*next); !space.ok()) {
      core_.later([this, next, space] { finish(next, space); });
      continue;
    }
    Line& line = lines_[{next->spec.ns, next->spec.key}];
    line.first = next;
    line.waiting = std::move(waiting);
    if (next->op != nullptr) core_.defer(std::exchange(next->op, nullptr), ok_status());
    return;
  }
}

/// Ends a put that has no more to do here, and tells its caller, if there still is one.
void Puts::finish(const std::shared_ptr<Put>& put, Status result) {
  forget(*put);
  if (Op* const op = std::exchange(put->op, nullptr); op != nullptr) op->done(std::move(result));
}

void Puts::forget(Put& put) {
  if (put.counted) --in_flight_;
  put.counted = false;
  if (put.space != nullptr) {
    const auto it = core_.putting.find(static_cast<uint32_t>(put.spec.ns));
    if ((it->second -= put.stored_bytes) == 0) core_.putting.erase(it);
    if (put.spec.retention.pin) core_.retainer.release(put.spec.ns, put.logical_bytes);
  }
  put.space.reset();
  put.early.reset();
}

void Puts::cancel_wait(const std::shared_ptr<Put>& put) {
  const auto it = lines_.find({put->spec.ns, put->spec.key});
  if (it == lines_.end() || std::erase(it->second.waiting, put) == 0) return;
  forget(*put);
  core_.defer(std::exchange(put->op, nullptr), StatusCode::kCancelled);
}

void Puts::abandon(const std::shared_ptr<Put>& put) {
  put->op = nullptr;
  if (put->committing) return;  // it ends by itself
  const auto it = lines_.find({put->spec.ns, put->spec.key});
  if (it != lines_.end() && it->second.first == put) {
    core_.metrics.puts_abandoned.add();
    over(put);
    return;
  }
  if (it != lines_.end()) std::erase(it->second.waiting, put);
  forget(*put);
}
}  // namespace terrace
