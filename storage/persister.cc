#include "storage/persister.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/object_io.h"

namespace terrace {

struct Persister::Job {
  PersistSpec spec;
  std::shared_ptr<NvmeSpace> space;
  uint32_t header_crc = 0;
  NvmeTier::Places failed;  // devices that were tried
  Nanos since{0};           // it waits for space
};

std::shared_ptr<EarlyWrite> Persister::begin_early(const std::shared_ptr<ArenaSpace>& source) {
  if (!waiting_.empty()) return nullptr;
  auto early = std::make_shared<EarlyWrite>();
  early->space = core_.nvme->allocate(source->bytes());
  if (early->space == nullptr) return nullptr;
  core_.evictor.kick();
  early->source = source;
  return early;
}

void Persister::write_early(const std::shared_ptr<EarlyWrite>& early, uint64_t offset,
                            uint64_t bytes) {
  ++running_;
  ++early->running;
  TransferSpec transfer;
  transfer.kind = IoKind::write;
  transfer.priority = IoPriority::foreground;
  std::vector<iovec> data;
  early->source->memory(offset, bytes, &data);
  add_pieces(early->space->extents(), offset, data, &transfer.pieces);
  transfer.holds = {early->source, early->space};
  transfer.done = [this, early](const Status& result) {
    --running_;
    const bool first = result.code() == StatusCode::kDataLoss && !early->withheld;
    if (first) give_up_space(early->space, result);
    early->withheld |= first;
    early->status.update(result);
    if (--early->running == 0 && early->idle) std::exchange(early->idle, nullptr)();
  };
  core_.nvme->transfer(std::move(transfer));
}

void Persister::start(PersistSpec spec) {
  ++running_;
  auto job = std::make_shared<Job>();
  job->spec = std::move(spec);
  if (const std::shared_ptr<EarlyWrite> early = job->spec.early; early != nullptr) {
    job->space = early->space;
    if (early->running == 0) return write(job);
    early->idle = [this, job] { write(job); };
    return;
  }
  if (waiting_.empty()) job->space = core_.nvme->allocate(job->spec.source->bytes());
  if (job->space != nullptr) return write(job);
  if (too_large(*job)) {
    core_.later([this, job] { refuse(job); });
    return;
  }
  if (waiting_.size() >= kWaitingMax) {
    core_.later([this, job] {
      end(job, error(StatusCode::kResourceExhausted, "4096 writes wait for nvme space"));
    });
    return;
  }
  job->since = core_.loop->now();
  waiting_.push_back(job);
  core_.evictor.kick();
}

void Persister::retry() {
  while (!waiting_.empty()) {
    const std::shared_ptr<Job> job = waiting_.front();
    job->space = core_.nvme->allocate(job->spec.source->bytes());
    if (job->space == nullptr && !too_large(*job)) return;
    waiting_.pop_front();
    if (job->space == nullptr) {
      refuse(job);
      continue;
    }
    core_.evictor.freed_after(Tier::nvme, job->since);
    write(job);
  }
}

bool Persister::too_large(const Job& job) const {
  return ExtentMap::allocated_bytes(job.spec.source->bytes()) > core_.nvme->object_bytes_max();
}

void Persister::refuse(const std::shared_ptr<Job>& job) {
  core_.metrics.nvme_too_large.add();
  end(job, error(StatusCode::kResourceExhausted,
                 "object " + job->spec.header.key.hex() + " of " +
                     std::to_string(job->spec.source->bytes()) +
                     " bytes: no device of nvme has more than " +
                     std::to_string(core_.nvme->object_bytes_max()) + " bytes"));
}

void Persister::give_up_first() {
  if (waiting_.empty()) return;
  const std::shared_ptr<Job> job = waiting_.front();
  waiting_.pop_front();
  end(job, error(StatusCode::kResourceExhausted, "the nvme tier has no room for " +
                                                     std::to_string(job->spec.source->bytes()) +
                                                     " bytes, and nothing there can be evicted"));
}

uint64_t Persister::wanted_bytes() const {
  return waiting_.empty() ? 0 : waiting_.front()->spec.source->bytes();
}

void Persister::write(const std::shared_ptr<Job>& job) {
  PersistSpec& spec = job->spec;
  if (spec.early != nullptr && !spec.early->status.ok()) {
    core_.later([this, job] { elsewhere(job, job->spec.early->status); });
    return;
  }
  core_.evictor.kick();
  spec.header.extents = job->space->extents();
  auto header = std::make_shared<SectorMemory>(spec.header_bytes);
  encode(spec.header, header->span());
  job->header_crc = header_crc_of(header->span());

  TransferSpec transfer;
  transfer.kind = IoKind::write;
  transfer.priority = spec.priority;
  const iovec head{header->span().data(), header->span().size()};
  add_pieces(spec.header.extents, 0, {&head, 1}, &transfer.pieces);
  if (spec.early == nullptr) {
    std::vector<iovec> data;
    spec.source->memory(spec.header_bytes, spec.source->bytes() - spec.header_bytes, &data);
    add_pieces(spec.header.extents, spec.header_bytes, data, &transfer.pieces);
  }
  transfer.holds = {header, spec.source, job->space};
  transfer.done = [this, job](const Status& result) { written(job, result); };
  core_.nvme->transfer(std::move(transfer));
}

/// Blocks that the medium refused would be the next object's: they are not used again.
void Persister::give_up_space(const std::shared_ptr<NvmeSpace>& space, const Status& why) {
  if (why.code() != StatusCode::kDataLoss) return;
  core_.nvme->withhold(space->extents());
  space->keep();
}

void Persister::written(const std::shared_ptr<Job>& job, const Status& result) {
  if (!result.ok()) {
    give_up_space(job->space, result);
    return elsewhere(job, result);
  }
  if (!core_.config.flush_before_acknowledge) return put_row(job);
  core_.nvme->sync(*job->space, [this, job](const Status& synced) {
    if (!synced.ok()) return elsewhere(job, synced);
    put_row(job);
  });
}

/// All of the object is in dram, whatever part of it had been written.
void Persister::elsewhere(const std::shared_ptr<Job>& job, const Status& why) {
  job->failed.push_back(job->space->place());
  std::shared_ptr<NvmeSpace> space = core_.nvme->allocate(job->spec.source->bytes(), job->failed);
  if (space == nullptr) return end(job, why);
  core_.metrics.device_retries.add();
  job->spec.early.reset();
  job->space = std::move(space);
  write(job);
}

void Persister::put_row(const std::shared_ptr<Job>& job) {
  const PersistSpec& spec = job->spec;
  if (spec.wanted && !spec.wanted()) return end(job, StatusCode::kNotFound);
  MetadataRow row;
  row.key = spec.header.key;
  row.ns = spec.header.ns;
  row.generation = spec.header.generation;
  row.logical_bytes = spec.logical_bytes;
  row.stored_bytes = spec.source->bytes();
  row.sections = static_cast<uint32_t>(spec.header.sections.size());
  row.header_crc = job->header_crc;
  row.header_bytes = static_cast<uint32_t>(spec.header_bytes);
  ObjectHints hints = hints_of(spec.header);
  row.kept = spec.kept ? spec.kept : std::move(hints.kept);
  row.worth = hints.worth;
  set_extents(&row, job->space->extents());
  core_.rows->put(std::move(row), spec.durable, [this, job](const Status& result) {
    if (!result.ok()) return take_back(job, result);
    end(job, NvmeCopy{job->space, job->header_crc, job->spec.durable});
  });
}

/// The row may be written or not: its space is free only once it surely is not there.
void Persister::take_back(const std::shared_ptr<Job>& job, const Status& why) {
  if (job->spec.has_row) {
    core_.nvme->withhold(job->space->extents());
    job->space->keep();
    return end(job, why);
  }
  const ObjectHeader& header = job->spec.header;
  core_.rows->erase(header.ns, header.key, header.generation, [this, job, why](const Status& s) {
    if (!s.ok()) {
      core_.nvme->withhold(job->space->extents());
      job->space->keep();
    }
    end(job, why);
  });
}

void Persister::end(const std::shared_ptr<Job>& job, StatusOr<NvmeCopy> result) {
  --running_;
  const auto done = std::move(job->spec.done);
  job->spec.source.reset();
  job->spec.early.reset();
  job->space.reset();
  done(std::move(result));
}
}  // namespace terrace
