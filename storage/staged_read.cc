#include "storage/staged_read.h"

#include <utility>

#include "base/check.h"
#include "storage/object_io.h"

namespace terrace {
namespace {

void finish(const std::shared_ptr<StagedRead>& read, Status result) {
  read->lease.reset();
  ChunkStore::Core* const core = read->core;
  Op* const op = read->op;
  op->done(std::move(result));
  core->gate.leave();
}

std::shared_ptr<void> hold_of(const StagedRead& read) {
  if (read.arena != nullptr) return read.arena;
  return read.lease;
}

void read_nvme(const std::shared_ptr<StagedRead>& read) {
  read->from = Tier::nvme;
  read->copy = read->core->index.extents(read->id)[0];
  TransferSpec transfer;
  transfer.kind = IoKind::read;
  add_pieces(read->core->index.extents(read->id), read->offset, read->memory, &transfer.pieces);
  transfer.holds = {hold_of(*read)};
  transfer.done = [read](const Status& result) {
    // A medium error is as final as a failed checksum; a device that hangs says nothing.
    if (result.code() == StatusCode::kDataLoss) condemn(*read);
    const Status said = result.ok() ? read->arrived(*read) : result;
    // Its header says where it lies: one of the old place does not fit the new one.
    const IndexEntry& entry = read->core->index[read->id];
    const bool moved = entry.has(IndexEntry::on_nvme) && !(entry.first_extent == read->copy);
    if (said.code() == StatusCode::kDataLoss && moved) return read_nvme(read);
    finish(read, said);
  };
  read->core->nvme->transfer(std::move(transfer));
}

Status wait_for_buffer(const std::shared_ptr<StagedRead>& read);

/// Whatever is wrong with the copy in device memory, the object has another. A device that hangs
/// may still write where it was to.
void read_hbm(const std::shared_ptr<StagedRead>& read) {
  read->from = Tier::hbm;
  const auto done = [read](const Status& result) {
    const Status said = result.ok() ? read->arrived(*read) : result;
    if (said.ok()) return finish(read, said);
    read->core->hbm->drop(read->id);
    if (read->lease != nullptr) read->lease->disown();
    read->lease.reset();
    read->arena.reset();
    if (Status refused = wait_for_buffer(read); !refused.ok()) finish(read, std::move(refused));
  };
  read->core->hbm->read(read->id, read->offset, read->memory, hold_of(*read), done);
}

void submit(const std::shared_ptr<StagedRead>& read) {
  ChunkStore::Core& core = *read->core;
  read->memory.clear();
  if (read->arena != nullptr) {
    read->arena->memory(read->offset, read->bytes, &read->memory);
  } else {
    read->memory.push_back({read->lease->buffer().data(), read->bytes});
  }
  if (core.hbm != nullptr && core.hbm->serves(read->id, read->offset + read->bytes))
    return read_hbm(read);
  if (core.index.extents(read->id).empty()) {
    // Quarantined while it waited for a buffer.
    core.later([read] { finish(read, StatusCode::kDataLoss); });
    return;
  }
  read_nvme(read);
}

/// Submits when it has one.
Status wait_for_buffer(const std::shared_ptr<StagedRead>& read) {
  ChunkStore::Core& core = *read->core;
  const std::span<const Extent> extents = core.index.extents(read->id);
  const StagingUser user{read->owner, extents.empty() ? uint16_t{0} : extents[0].device};
  read->lease = core.staging->take(user);
  if (read->lease != nullptr) {
    submit(read);
    return ok_status();
  }
  core.metrics.staging_waits.add();
  return core.staging->wait(user, [read](std::shared_ptr<StagingLease> lease) {
    if (lease == nullptr) {
      return finish(read, error(StatusCode::kDeadlineExceeded, "no staging buffer came back"));
    }
    read->lease = std::move(lease);
    submit(read);
  });
}
}  // namespace

void condemn(const StagedRead& read) {
  if (read.from == Tier::hbm) return read.core->hbm->damaged(read.id);
  const IndexEntry& entry = read.core->index[read.id];
  const bool same = entry.has(IndexEntry::on_nvme) && entry.first_extent == read.copy;
  if (same) read.core->quarantine(read.id, Tier::nvme);
}

Status start(const std::shared_ptr<StagedRead>& read) {
  TERRACE_CHECK(read->core->gate.enter());
  if (read->arena != nullptr) {
    submit(read);
    return ok_status();
  }
  Status refused = wait_for_buffer(read);
  if (!refused.ok()) read->core->gate.leave();
  return refused;
}
}  // namespace terrace
