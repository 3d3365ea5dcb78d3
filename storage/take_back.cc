#include "storage/take_back.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.h"
#include "storage/object_io.h"

namespace terrace {

TakeBack::TakeBack(ChunkStore::Core& core, const SlabKeeping& keeping) : core_(core) {
  for (const auto& [ns, domain] : keeping.namespaces) domains_[static_cast<uint32_t>(ns)] = domain;
}

void TakeBack::refuse(NotTaken why, uint64_t objects) {
  core_.metrics.warm_objects_refused[static_cast<size_t>(why)].add(objects);
}

Status TakeBack::run() {
  const Nanos begin = core_.loop->now();
  TERRACE_ASSIGN_OR_RETURN(after_, core_.metadata->kept_after());
  const SlabDirectories directories = core_.arena->kept_directories();
  slab_blocks_ = directories.slab_blocks;
  mixed_.assign(directories.slabs.size(), false);
  const uint64_t bad =
      walk_directories(directories, [this](WalkedObject object) { look(std::move(object)); });
  refuse(NotTaken::extents, bad);
  vote();
  // Oldest first, so that eviction meets them in this order.
  std::sort(found_.begin(), found_.end(),
            [](const Found& a, const Found& b) { return a.facts.generation < b.facts.generation; });
  for (const Found& found : found_) take(found);
  TERRACE_RETURN_IF_ERROR(settle());
  const auto us = std::chrono::duration_cast<microseconds>(core_.loop->now() - begin).count();
  StoreMetrics& metrics = core_.metrics;
  metrics.warm_us.set(static_cast<uint64_t>(us));
  uint64_t slabs_refused = 0;
  uint64_t objects_refused = 0;
  for (size_t why = 0; why < kNotTakenReasons; ++why) {
    slabs_refused += metrics.warm_slabs_refused[why].get();
    objects_refused += metrics.warm_objects_refused[why].get();
  }
  spdlog::info(
      "event=dram_taken_back slabs={} objects={} bytes={} slabs_refused={} objects_refused={} "
      "us={}",
      metrics.warm_slabs.get(), metrics.warm_objects.get(), metrics.warm_bytes.get(), slabs_refused,
      objects_refused, us);
  return ok_status();
}

/// The header that the object's extents begin with.
StatusOr<ObjectHeader> TakeBack::header_of(const WalkedObject& object) const {
  Arena& arena = *core_.arena;
  const std::span<const std::byte> first{arena.at(object.extents[0].block), kSectorBytes};
  TERRACE_ASSIGN_OR_RETURN(const uint64_t bytes, header_size_of(first));
  std::vector<std::byte> whole;
  for (const Extent& extent : object.extents) {
    if (whole.size() >= bytes) break;
    const std::byte* const start = arena.at(extent.block);
    whole.insert(whole.end(), start, start + std::min(extent.bytes(), bytes - whole.size()));
  }
  TERRACE_ASSIGN_OR_RETURN(ObjectHeader header, decode_object_header(whole));
  const bool empty = std::any_of(header.sections.begin(), header.sections.end(),
                                 [](const SectionSpec& section) { return section.bytes == 0; });
  if (header.sections.empty() || empty || header.generation != object.generation ||
      header.generation > core_.generation_) {
    return error(StatusCode::kDataLoss, "not what the directory says");
  }
  return header;
}

void TakeBack::look(WalkedObject object) {
  const StatusOr<ObjectHeader> header = header_of(object);
  if (!header.ok()) return refuse(NotTaken::header);
  Found found;
  found.facts.key = header->key;
  found.facts.ns = header->ns;
  found.facts.generation = header->generation;
  found.facts.header_bytes =
      *header_size_of({core_.arena->at(object.extents[0].block), kSectorBytes});
  const ObjectLayout layout(found.facts.header_bytes, header->sections);
  found.facts.logical_bytes = layout.logical_bytes();
  found.facts.stored_bytes = layout.stored_bytes();
  found.facts.sections = static_cast<uint32_t>(header->sections.size());
  ObjectHints hints = hints_of(*header);
  found.facts.kept = std::move(hints.kept);
  found.facts.worth = hints.worth;
  found.facts.found_again = true;
  const auto domain = domains_.find(static_cast<uint32_t>(header->ns));
  found.domain = domain == domains_.end() ? kNobody : domain->second;
  found.extents = std::move(object.extents);
  found_.push_back(std::move(found));
}

/// A slab is of the tenant whose objects lie there. When there are two, or one that nobody knows,
/// it is nobody's: who maps it would see what is another's.
void TakeBack::vote() {
  std::vector<DomainId> owners(mixed_.size(), kNobody);
  for (const Found& found : found_) {
    for (const Extent& extent : found.extents) {
      const uint64_t slab = extent.block / slab_blocks_;
      if (owners[slab] == kNobody) owners[slab] = found.domain;
      if (found.domain == kNobody || owners[slab] != found.domain) mixed_[slab] = true;
    }
  }
  for (uint32_t slab = 0; slab < owners.size(); ++slab) {
    if (owners[slab] == kNobody || mixed_[slab]) continue;
    core_.arena->own_kept(slab, owners[slab]);
    core_.balancer.used(owners[slab]);  // its clients come back, too: nobody else's prey yet
  }
}

std::optional<NotTaken> TakeBack::refusal(const Found& found, uint32_t* entry) const {
  const ObjectFacts& facts = found.facts;
  const bool mixed = std::any_of(found.extents.begin(), found.extents.end(),
                                 [&](const Extent& e) { return mixed_[e.block / slab_blocks_]; });
  if (mixed) return NotTaken::tenant;
  if (facts.generation <= after_) return NotTaken::stale;
  *entry = core_.index.find(facts.ns, facts.key);
  if (*entry == kNoEntry) {
    if (core_.index.count() >= core_.config.objects_max) return NotTaken::limit;
    return std::nullopt;
  }
  const IndexEntry& known = core_.index[*entry];
  if (known.resident != kNoEntry) return NotTaken::twice;
  if (known.generation > facts.generation) return NotTaken::stale;
  const bool same = known.logical_bytes == facts.logical_bytes &&
                    known.stored_bytes() == facts.stored_bytes &&
                    known.sections == facts.sections &&
                    uint64_t{known.header_blocks} * kSectorBytes == facts.header_bytes;
  if (known.generation == facts.generation && !same) return NotTaken::stale;
  return std::nullopt;
}

void TakeBack::take(const Found& found) {
  const ObjectFacts& facts = found.facts;
  uint32_t id = kNoEntry;
  if (const auto why = refusal(found, &id)) return refuse(*why);
  auto space = core_.arena->take_back(found.domain, facts.stored_bytes, found.extents);
  if (space == nullptr) return refuse(NotTaken::extents);
  if (id != kNoEntry && core_.index[id].generation < facts.generation) {
    // An erase took the row's object, and had not got to the row when the next put was over.
    core_.doom(id, false, nullptr);
    id = kNoEntry;
  }
  if (id == kNoEntry) id = core_.publish(facts);
  core_.attach_dram(id, std::move(space));
  core_.metrics.warm_objects.add();
  core_.metrics.warm_bytes.add(facts.logical_bytes);
  const bool memory_only = !core_.index[id].has(IndexEntry::on_nvme);
  if (memory_only && core_.config.write_through) core_.mover.write_through(id);
}

/// Slabs of which nothing came back get new memory, unless nobody ever had them.
Status TakeBack::settle() {
  Arena& arena = *core_.arena;
  for (const uint32_t slab : arena.kept()) {
    if (!arena.empty(slab) || (!mixed_[slab] && !arena.was_claimed(slab))) continue;
    TERRACE_RETURN_IF_ERROR(
        arena.discard_kept(slab, mixed_[slab] ? NotTaken::tenant : NotTaken::empty));
  }
  arena.settle_kept();
  core_.metrics.warm_slabs.set(arena.kept_count());
  for (size_t why = 0; why < kNotTakenReasons; ++why) {
    core_.metrics.warm_slabs_refused[why].set(arena.not_kept(static_cast<NotTaken>(why)));
  }
  return ok_status();
}
}  // namespace terrace
