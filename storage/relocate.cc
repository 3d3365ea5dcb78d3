// Emptying a device of the nvme tier, or the end of one: what lies there is written elsewhere.
#include <utility>

#include "base/check.h"
#include "storage/core.h"

namespace terrace {

void ChunkStore::Core::relocate(uint32_t id, Then then) {
  const IndexEntry& entry = index[id];
  const bool writing = entry.has(IndexEntry::persisting) || entry.has(IndexEntry::row_pending);
  if (!entry.has(IndexEntry::on_nvme) || writing || moved_from_.contains(id)) {
    return later([then = std::move(then)] {
      then(error(StatusCode::kFailedPrecondition, "it is being written or moved: try again"));
    });
  }
  pin(id);
  const uint64_t generation = entry.generation;
  mover.promote(id, [this, id, generation, then = std::move(then)](const Status& result) {
    Status said = result;
    const IndexEntry* const now = index.same(id, generation);
    if (said.ok() && now == nullptr) said = StatusCode::kNotFound;
    if (said.ok() && now->resident == kNoEntry) {
      said = error(StatusCode::kResourceExhausted, "no room in dram for it");
    }
    if (said.ok() && now->has(IndexEntry::persisting)) {
      said = error(StatusCode::kFailedPrecondition, "it is being written: try again");
    }
    if (!said.ok()) {
      unpin(id);
      return then(said);
    }
    index[id].set(IndexEntry::persisting);  // what dooms it waits for us
    if (dram_of(id)->verified()) return write_elsewhere(id, then);
    verifier.verify(id, true, [this, id, then](const Status& good) {
      if (good.ok()) return write_elsewhere(id, then);
      index[id].clear(IndexEntry::persisting);
      settle(id);
      unpin(id);
      then(good);
    });
  });
}

void ChunkStore::Core::write_elsewhere(uint32_t id, const Then& then) {
  const auto over = [this, id, then](const Status& said) {
    index[id].clear(IndexEntry::persisting);
    settle(id);
    unpin(id);
    then(said);
  };
  const auto end = [this, id, over](const StatusOr<NvmeCopy>& copy) {
    const Status said = swap_nvme(id, copy);
    if (!copy.ok()) return over(said);
    // Gone meanwhile: the next object of its name may have a row by now.
    if (index[id].has(IndexEntry::doomed)) return over(StatusCode::kNotFound);
    // Once more: meanwhile a pin may have written a row that names the old place, or this one may
    // not know of the pin. Rows are written in the order in which they are queued.
    rows->put(row_of(index[id], index.extents(id), retainer.find(id)), true,
              [this, id, said, over](const Status& written) {
                if (!written.ok()) keep_moved(id);
                over(written.ok() ? said : written);
              });
  };
  StatusOr<PersistSpec> spec = mover.write_of(id, true, IoPriority::background);
  if (!spec.ok()) return later([end, why = spec.status()] { end(why); });
  spec->has_row = true;
  spec->done = end;
  persister->start(std::move(*spec));
}

/// The row names the new place already. Reads that are under way end at the old one, which is not
/// free before nobody has the object pinned.
Status ChunkStore::Core::swap_nvme(uint32_t id, const StatusOr<NvmeCopy>& copy) {
  if (!copy.ok()) return copy.status();
  IndexEntry& entry = index[id];
  const std::span<const Extent> held = index.extents(id);
  const std::vector<Extent> old(held.begin(), held.end());
  TERRACE_CHECK(!old.empty());  // who takes a copy off nvme waits for a write of it
  index.set_extents(id, copy->space->extents());
  copy->space->keep();
  entry.header_crc = copy->header_crc;
  entry.set(IndexEntry::durable);
  relist(id);
  const auto fate = fates_.find(id);
  if (fate != fates_.end() && fate->second.withhold) {
    nvme->withhold(old);  // quarantined meanwhile
  } else {
    moved_from_.emplace(id, old);  // relocate() has it pinned
  }
  const std::vector<Extent>& now = copy->space->extents();
  const bool left = now[0].device != old[0].device || (nvme->barred(old) && !nvme->barred(now));
  return left ? ok_status() : error(StatusCode::kResourceExhausted, "no other place took it");
}

/// A row may name it: not free before a restart.
void ChunkStore::Core::keep_moved(uint32_t id) {
  const auto moved = moved_from_.extract(id);
  if (!moved.empty()) nvme->withhold(moved.mapped());
}

void ChunkStore::Core::free_moved(uint32_t id) {
  if (moved_from_.empty()) return;
  const auto moved = moved_from_.extract(id);
  if (!moved.empty()) nvme->free(moved.mapped(), index[id].stored_bytes());
}
}  // namespace terrace
