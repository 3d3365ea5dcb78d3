#include "storage/mover.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/object_io.h"

namespace terrace {

void Mover::write_back(uint32_t id, bool urgent) {
  IndexEntry& entry = core_.index[id];
  const bool under_way = entry.has(IndexEntry::on_nvme) || entry.has(IndexEntry::persisting);
  if (!core_.has_nvme() || under_way || entry.queued || entry.resident == kNoEntry) return;
  if (write_queue_.empty()) caught_up_ = core_.loop->now();
  entry.queued = true;  // the queue holds every object at most once
  const Item item{id, entry.generation};
  if (urgent) {
    write_queue_.push_front(item);
  } else {
    write_queue_.push_back(item);
  }
  pump_writes();
}

void Mover::write_through(uint32_t id) {
  if (!core_.has_nvme()) return;
  if (core_.admission.admits(id, core_.price(Tier::nvme, ChunkStore::Core::kNvmeList))) {
    write_back(id, false);
  } else {
    core_.metrics.demotions_unworthy.add();
  }
}

bool Mover::behind() const {
  return !write_queue_.empty() && core_.loop->now() - caught_up_ >= kBehindAfter;
}

void Mover::write_back_all() {
  for (uint32_t id = 0; id < core_.index.ids_end(); ++id) {
    const IndexEntry& entry = core_.index[id];
    if (entry.has(IndexEntry::used) && !entry.has(IndexEntry::doomed)) write_back(id, false);
  }
}

void Mover::pump_writes() {
  while (!write_queue_.empty() && running_ < kWritesMax) {
    const Item item = write_queue_.front();
    if (small(item)) {
      const size_t count = batch_size();
      if (count == 0) return;  // until more wait, or what runs ends
      if (start_batch(count)) {
        // Copying a batch is enough for one turn.
        if (!std::exchange(pump_pending_, true)) {
          core_.later([this] {
            pump_pending_ = false;
            pump_writes();
          });
        }
        return;
      }
      continue;
    }
    write_queue_.pop_front();
    if (still_wanted(item)) start_write(item.id, false, IoPriority::background);
  }
}

/// It left the queue: is there still something to write?
bool Mover::still_wanted(const Item& item) {
  IndexEntry* const entry = core_.index.same(item.id, item.generation);
  if (entry == nullptr) return false;
  entry->queued = false;
  const bool under_way = entry->has(IndexEntry::on_nvme) || entry->has(IndexEntry::persisting);
  return !under_way && entry->resident != kNoEntry;
}

void Mover::start_write(uint32_t id, bool durable, IoPriority priority) {
  IndexEntry& entry = core_.index[id];
  ++running_;
  ++writing_;
  core_.pin(id);
  entry.set(IndexEntry::persisting);
  if (core_.dram_of(id)->verified()) return write(id, durable, priority);
  core_.verifier.verify(id, durable, [this, id, durable, priority](const Status& result) {
    if (!result.ok()) return write_done(id, result);
    write(id, durable, priority);
  });
}

StatusOr<PersistSpec> Mover::write_of(uint32_t id, bool durable, IoPriority priority) const {
  const IndexEntry& entry = core_.index[id];
  const std::shared_ptr<ArenaSpace>& space = core_.dram_of(id);
  PersistSpec spec;
  TERRACE_ASSIGN_OR_RETURN(spec.header, read_arena_header(*space, entry));
  spec.header_bytes = uint64_t{entry.header_blocks} * kSectorBytes;
  spec.logical_bytes = entry.logical_bytes;
  spec.source = space;
  spec.durable = durable;
  if (const Kept* const kept = core_.retainer.find(id); kept != nullptr) spec.kept = *kept;
  spec.priority = priority;
  spec.wanted = [this, id] { return !core_.index[id].has(IndexEntry::doomed); };
  return spec;
}

void Mover::write(uint32_t id, bool durable, IoPriority priority) {
  StatusOr<PersistSpec> spec = write_of(id, durable, priority);
  if (!spec.ok()) {
    core_.metrics.crc_failures_dram.add();
    core_.later([this, id, why = spec.status()] {
      core_.quarantine(id, Tier::dram);
      write_done(id, why);
    });
    return;
  }
  spec->done = [this, id](StatusOr<NvmeCopy> result) { write_done(id, std::move(result)); };
  core_.persister->start(std::move(*spec));
}

void Mover::write_done(uint32_t id, StatusOr<NvmeCopy> result) {
  --running_;
  written(id, std::move(result));
}

void Mover::written(uint32_t id, StatusOr<NvmeCopy> result) {
  --writing_;
  IndexEntry& entry = core_.index[id];
  entry.clear(IndexEntry::persisting);
  if (result.ok()) {
    core_.attach_nvme(id, *result);
    core_.metrics.demotions.add();
  } else {
    entry.set(IndexEntry::write_failed);
  }
  const auto node = waiting_.extract(id);
  core_.settle(id);
  if (!node.empty()) {
    for (const std::function<void(Status)>& then : node.mapped()) {
      if (!result.ok() || entry.has(IndexEntry::doomed)) {
        then(result.ok() ? Status(StatusCode::kNotFound) : result.status());
      } else {
        make_durable(id, then);
      }
    }
  }
  core_.unpin(id);
  core_.evictor.kick();
  pump_writes();
}

void Mover::may_write(uint32_t id) {
  if (waiting_.contains(id)) write_back(id, true);
}

void Mover::gone(uint32_t id) {
  arrived(id, StatusCode::kNotFound);
  const auto node = waiting_.extract(id);
  if (node.empty()) return;
  for (std::function<void(Status)>& then : node.mapped()) {
    core_.later([then = std::move(then)] { then(StatusCode::kNotFound); });
  }
}

void Mover::make_durable(uint32_t id, std::function<void(Status)> then) {
  IndexEntry& entry = core_.index[id];
  if (entry.has(IndexEntry::on_nvme) && !core_.nvme->serves({&entry.first_extent, 1})) {
    return core_.relocate(id, std::move(then));  // nobody knows whether its device comes back
  }
  if (entry.has(IndexEntry::durable)) {
    core_.later([then = std::move(then)] { then(ok_status()); });
    return;
  }
  if (entry.has(IndexEntry::on_nvme)) {
    // Rows are written only over data that was flushed: making the row durable is enough.
    core_.pin(id);
    core_.rows->put(row_of(entry, core_.index.extents(id), core_.retainer.find(id)), true,
                    [this, id, then = std::move(then)](const Status& result) {
                      IndexEntry& put = core_.index[id];
                      const bool there =
                          put.has(IndexEntry::on_nvme) && !put.has(IndexEntry::doomed);
                      if (result.ok() && there) put.set(IndexEntry::durable);
                      then(result.ok() && !there ? Status(StatusCode::kNotFound) : result);
                      core_.unpin(id);
                    });
    return;
  }
  waiting_[id].push_back(std::move(then));
  if (!entry.has(IndexEntry::persisting)) start_write(id, true, IoPriority::foreground);
}

// Promotion.

struct Mover::Promotion {
  uint32_t id = 0;
  std::shared_ptr<ArenaSpace> space;
  std::unique_ptr<ArenaCheck> check;
  bool read = false;  // the device delivered; what fails now is the bytes
  Tier from = Tier::nvme;
};

void Mover::promote(uint32_t id, std::function<void(Status)> then) {
  IndexEntry& entry = core_.index[id];
  promote(id);
  if (!entry.has(IndexEntry::moving_up)) {
    const Status said = entry.resident != kNoEntry ? ok_status()
                                                   : error(StatusCode::kResourceExhausted,
                                                           std::to_string(promotions_.size()) +
                                                               " objects wait to be "
                                                               "read into dram");
    core_.later([then = std::move(then), said] { then(said); });
    return;
  }
  arriving_[id].push_back(std::move(then));
}

void Mover::arrived(uint32_t id, const Status& result) {
  auto node = arriving_.extract(id);
  if (node.empty()) return;
  for (std::function<void(Status)>& then : node.mapped()) {
    core_.later([then = std::move(then), result] { then(result); });
  }
}

void Mover::stop_promotions() {
  promotions_.clear();
  std::vector<uint32_t> ids;
  for (const auto& [id, thens] : arriving_) ids.push_back(id);
  for (const uint32_t id : ids) {
    arrived(id, error(StatusCode::kUnavailable, "the store is closing"));
  }
}

void Mover::promote(uint32_t id) {
  IndexEntry& entry = core_.index[id];
  if (core_.closing() || entry.resident != kNoEntry || entry.has(IndexEntry::moving_up)) return;
  if (entry.has(IndexEntry::doomed) || promotions_.size() >= kPromotionQueueMax) return;
  entry.set(IndexEntry::moving_up);
  promotions_.push_back({id, entry.generation});
  core_.later([this] { pump_promotions(); });
}

void Mover::pump_promotions() {
  while (!promotions_.empty() && promoting_ < kPromotionsMax) {
    const Item item = promotions_.front();
    promotions_.pop_front();
    IndexEntry* const entry = core_.index.same(item.id, item.generation);
    if (entry == nullptr) continue;
    if (entry->has(IndexEntry::on_nvme) && entry->resident == kNoEntry) {
      start_promotion(item.id);
    } else {
      entry->clear(IndexEntry::moving_up);
      arrived(item.id, entry->resident != kNoEntry ? ok_status() : StatusCode::kNotFound);
    }
  }
}

void Mover::start_promotion(uint32_t id) {
  IndexEntry& entry = core_.index[id];
  auto promotion = std::make_shared<Promotion>();
  promotion->id = id;
  core_.pin(id);  // before room is made: it must not become a victim itself
  promotion->space =
      core_.evictor.dram_space(core_.domain_of(entry.ns), entry.stored_bytes(), false);
  if (promotion->space == nullptr) {
    entry.clear(IndexEntry::moving_up);
    arrived(id, error(StatusCode::kResourceExhausted,
                      "no room in dram for " + std::to_string(entry.stored_bytes()) +
                          " bytes: what is there is in use, or must be written to nvme first"));
    core_.unpin(id);
    return;
  }
  ++promoting_;
  promotion->space->mark_filling();
  std::vector<iovec> memory;
  promotion->space->memory(0, entry.stored_bytes(), &memory);
  const auto done = [this, promotion](const Status& result) {
    promotion->read = result.ok();
    if (!result.ok()) return end_promotion(promotion, result);
    check_promoted(promotion);
  };
  if (core_.hbm != nullptr && core_.hbm->serves(id, entry.stored_bytes())) {
    promotion->from = Tier::hbm;
    core_.hbm->read(id, 0, memory, promotion->space, done);
    return;
  }
  TransferSpec transfer;
  transfer.kind = IoKind::read;
  transfer.priority = IoPriority::background;
  add_pieces(core_.index.extents(id), 0, memory, &transfer.pieces);
  transfer.holds = {promotion->space};
  transfer.done = done;
  core_.nvme->transfer(std::move(transfer));
}

/// The bytes are in the arena: checks them, one bounded step per turn.
void Mover::check_promoted(const std::shared_ptr<Promotion>& promotion) {
  const IndexEntry& entry = core_.index[promotion->id];
  if (promotion->check == nullptr) {
    StatusOr<ObjectHeader> header = read_arena_header(*promotion->space, entry);
    if (!header.ok()) return end_promotion(promotion, header.status());
    promotion->check = std::make_unique<ArenaCheck>(std::move(*header), promotion->space);
  }
  const Status step = promotion->check->step(ArenaCheck::kStepBytes, &core_.metrics);
  if (step.ok() && !promotion->check->over()) {
    core_.later([this, promotion] { check_promoted(promotion); });
    return;
  }
  end_promotion(promotion, step);
}

void Mover::end_promotion(const std::shared_ptr<Promotion>& promotion, const Status& result) {
  --promoting_;
  const uint32_t id = promotion->id;
  IndexEntry& entry = core_.index[id];
  entry.clear(IndexEntry::moving_up);
  const bool wanted = !entry.has(IndexEntry::doomed) && entry.resident == kNoEntry;
  arrived(id, result);
  if (wanted && result.ok()) {
    promotion->space->commit(entry.generation);
    core_.attach_dram(id, promotion->space);
    core_.metrics.promotions.add();
  } else if (wanted && promotion->read && promotion->from == Tier::hbm) {
    core_.hbm->damaged(id);  // the next read of it is from nvme
  } else if (wanted && promotion->read) {
    core_.metrics.crc_failures_nvme.add();
    core_.quarantine(id, Tier::nvme);
  }
  core_.unpin(id);
  pump_promotions();
}
}  // namespace terrace
