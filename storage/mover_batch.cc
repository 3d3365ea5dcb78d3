// Write-back of small objects, many in one write. One by one each costs a request, a flush and a
// turn of the metadata thread; a device writes a MiB in about the time of a few such.
#include <cstring>
#include <utility>

#include "storage/core.h"
#include "storage/mover.h"
#include "storage/object_io.h"

namespace terrace {

/// Objects that lie next to each other on one device.
struct Mover::Batch {
  struct One {
    uint32_t id = 0;
    ObjectHeader header;
    std::shared_ptr<NvmeSpace> space;
    uint32_t header_crc = 0;
  };
  std::vector<One> objects;
  std::shared_ptr<SectorMemory> memory;
};

bool Mover::small(const Item& item) const {
  const IndexEntry& entry = core_.index[item.id];
  return entry.generation == item.generation && entry.stored_bytes() <= kSmallBytes;
}

/// How many of the queue's first go together; less than a batch only when `any`.
size_t Mover::batch_size() const {
  uint64_t bytes = 0;
  size_t count = 0;
  for (const Item& item : write_queue_) {
    if (!small(item)) return count;  // nothing behind it can join them
    const uint64_t more = ExtentMap::allocated_bytes(core_.index[item.id].stored_bytes());
    if (bytes + more > kBatchBytes) return count;
    bytes += more;
    ++count;
  }
  // What waits is less than that: it goes when nothing runs any more, which is soon.
  return running_ == 0 ? count : 0;
}

bool Mover::start_batch(size_t count) {
  auto batch = std::make_shared<Batch>();
  std::vector<uint64_t> sizes;
  for (; count > 0; --count) {
    const Item item = write_queue_.front();
    write_queue_.pop_front();
    if (!still_wanted(item)) continue;
    const std::shared_ptr<ArenaSpace>& space = core_.dram_of(item.id);
    StatusOr<ObjectHeader> header = StatusCode::kUnavailable;
    if (space->verified()) header = read_arena_header(*space, core_.index[item.id]);
    if (!header.ok()) {
      start_write(item.id, false, IoPriority::background);  // which knows what to do
      continue;
    }
    batch->objects.push_back({item.id, std::move(*header), nullptr, 0});
    sizes.push_back(space->bytes());
  }
  NvmeSpaces spaces;
  // Those who wait for space come first.
  const bool room = core_.persister->wanted_bytes() == 0;
  if (sizes.size() > 1 && room) spaces = core_.nvme->allocate_together(sizes);
  if (spaces.empty()) {
    for (const Batch::One& one : batch->objects) {
      start_write(one.id, false, IoPriority::background);
    }
    return false;
  }
  for (size_t i = 0; i < spaces.size(); ++i) batch->objects[i].space = std::move(spaces[i]);
  core_.evictor.kick();
  write_batch(batch);
  return true;
}

/// Copies the objects next to each other, as they will lie on the device.
void Mover::gather(Batch* batch) {
  if (batch_memory_.empty()) {
    batch->memory = std::make_shared<SectorMemory>(kBatchBytes);
  } else {
    batch->memory = std::move(batch_memory_.back());
    batch_memory_.pop_back();
  }
  const uint64_t begin = batch->objects[0].space->extents()[0].offset();
  std::vector<iovec> data;
  for (Batch::One& one : batch->objects) {
    const ArenaSpace& source = *core_.dram_of(one.id);
    const uint64_t header_bytes = uint64_t{core_.index[one.id].header_blocks} * kSectorBytes;
    one.header.extents = one.space->extents();
    std::byte* at = batch->memory->span().data() + (one.space->extents()[0].offset() - begin);
    encode(one.header, {at, header_bytes});
    one.header_crc = header_crc_of({at, header_bytes});
    at += header_bytes;
    data.clear();
    source.memory(header_bytes, source.bytes() - header_bytes, &data);
    for (const iovec& run : data) {
      std::memcpy(at, run.iov_base, run.iov_len);
      at += run.iov_len;
    }
  }
}

void Mover::write_batch(const std::shared_ptr<Batch>& batch) {
  ++running_;
  for (const Batch::One& one : batch->objects) {
    ++writing_;
    core_.pin(one.id);
    core_.index[one.id].set(IndexEntry::persisting);
  }
  gather(batch.get());
  const Extent& first = batch->objects.front().space->extents()[0];
  const Extent& last = batch->objects.back().space->extents()[0];
  TransferSpec transfer;
  transfer.kind = IoKind::write;
  transfer.priority = IoPriority::background;
  const uint64_t bytes = last.offset() + last.bytes() - first.offset();
  transfer.pieces = {{first.offset(), batch->memory->span().first(bytes), first.device}};
  transfer.holds = {batch->memory};
  for (const Batch::One& one : batch->objects) transfer.holds.push_back(one.space);
  transfer.done = [this, batch](const Status& result) {
    // Of a write that hangs the kernel still has it.
    if (batch->memory.use_count() == 1 && batch_memory_.size() < kWritesMax) {
      batch_memory_.push_back(std::move(batch->memory));
    }
    if (!result.ok()) return batch_failed(batch, result);
    if (!core_.config.flush_before_acknowledge) return put_rows(batch);
    core_.nvme->sync(*batch->objects[0].space, [this, batch](const Status& synced) {
      if (!synced.ok()) return batch_failed(batch, synced);
      put_rows(batch);
    });
  };
  core_.nvme->transfer(std::move(transfer));
}

/// Each on its own then: it goes to another device, or fails alone.
void Mover::batch_failed(const std::shared_ptr<Batch>& batch, const Status& why) {
  --running_;
  for (Batch::One& one : batch->objects) {
    if (why.code() == StatusCode::kDataLoss) {  // not used again
      core_.nvme->withhold(one.space->extents());
      one.space->keep();
    }
    one.space.reset();
    ++running_;
    write(one.id, false, IoPriority::background);
  }
  batch->objects.clear();
}

void Mover::put_rows(const std::shared_ptr<Batch>& batch) {
  core_.metrics.write_batches.add();
  core_.metrics.write_batched_objects.add(batch->objects.size());
  for (Batch::One& one : batch->objects) {
    IndexEntry& entry = core_.index[one.id];
    if (entry.has(IndexEntry::doomed)) {
      core_.later([this, id = one.id] { written(id, StatusCode::kNotFound); });
      continue;
    }
    MetadataRow row = row_of(entry, one.space->extents(), core_.retainer.find(one.id));
    row.header_crc = one.header_crc;
    core_.rows->put(
        std::move(row), false,
        [this, id = one.id, space = one.space, crc = one.header_crc, generation = entry.generation](
            const Status& result) { row_put(id, generation, space, crc, result); });
  }
  batch->objects.clear();
  --running_;
  pump_writes();
}

/// A row that failed may be written or not: its space is free only once it surely is not there.
void Mover::row_put(uint32_t id, uint64_t generation, const std::shared_ptr<NvmeSpace>& space,
                    uint32_t header_crc, const Status& result) {
  if (result.ok()) return written(id, NvmeCopy{space, header_crc, false});
  const IndexEntry& entry = core_.index[id];
  core_.rows->erase(entry.ns, entry.key, generation, [this, id, space, result](const Status& gone) {
    if (!gone.ok()) {
      core_.nvme->withhold(space->extents());
      space->keep();
    }
    written(id, result);
  });
}
}  // namespace terrace
