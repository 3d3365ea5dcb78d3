// Reading: resident bytes are handed out where they lie; others come through a staging buffer and
// are verified unit by unit.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/core.h"
#include "storage/handles.h"
#include "storage/object_io.h"

namespace terrace {
namespace {

/// One read from the device on its way: of a header, or of units.
struct NvmeRead {
  ChunkStore::Core* core = nullptr;
  Op* op = nullptr;
  uint32_t id = 0;
  uint64_t owner = 0;   // of the staging buffer
  Extent copy;          // where the copy that is read begins
  uint64_t offset = 0;  // in the stored object
  uint64_t bytes = 0;   // a multiple of 4 KiB, at most a staging buffer
  std::shared_ptr<StagingLease> lease;
  /// Looks at the bytes; its result is the operation's.
  std::function<Status(NvmeRead&)> arrived;
};

void finish(const std::shared_ptr<NvmeRead>& read, Status result) {
  read->lease.reset();
  ChunkStore::Core* const core = read->core;
  Op* const op = read->op;
  op->done(std::move(result));
  core->gate.leave();
}

/// The copy that was read is bad, unless another one took its place meanwhile.
void condemn(const NvmeRead& read) {
  const IndexEntry& entry = read.core->index[read.id];
  const bool same = entry.has(IndexEntry::on_nvme) && entry.first_extent == read.copy;
  if (same) read.core->quarantine(read.id, Tier::nvme);
}

void submit(const std::shared_ptr<NvmeRead>& read) {
  if (read->core->index.extents(read->id).empty()) {
    // Quarantined while it waited for a buffer.
    read->core->later([read] { finish(read, StatusCode::kDataLoss); });
    return;
  }
  read->copy = read->core->index.extents(read->id)[0];
  TransferSpec transfer;
  transfer.kind = IoKind::read;
  const iovec memory{read->lease->buffer().data(), read->bytes};
  add_pieces(read->core->index.extents(read->id), read->offset, {&memory, 1}, &transfer.pieces);
  transfer.holds = {read->lease};
  transfer.done = [read](const Status& result) {
    // A medium error is as final as a failed checksum; a device that hangs says nothing.
    if (result.code() == StatusCode::kDataLoss) condemn(*read);
    finish(read, result.ok() ? read->arrived(*read) : result);
  };
  read->core->nvme->transfer(std::move(transfer));
}

/// Waits for a buffer when there is none.
Status start(const std::shared_ptr<NvmeRead>& read) {
  ChunkStore::Core& core = *read->core;
  const std::span<const Extent> extents = core.index.extents(read->id);
  const StagingUser user{read->owner, extents.empty() ? uint16_t{0} : extents[0].device};
  read->lease = core.staging->take(user);
  if (read->lease != nullptr) {
    TERRACE_CHECK(core.gate.enter());
    submit(read);
    return ok_status();
  }
  core.metrics.staging_waits.add();
  TERRACE_RETURN_IF_ERROR(core.staging->wait(user, [read](std::shared_ptr<StagingLease> lease) {
    if (lease == nullptr) {
      return finish(read, error(StatusCode::kDeadlineExceeded, "no staging buffer came back"));
    }
    read->lease = std::move(lease);
    submit(read);
  }));
  TERRACE_CHECK(core.gate.enter());
  return ok_status();
}
}  // namespace

ReadBuffer::ReadBuffer() = default;
ReadBuffer::ReadBuffer(ReadBuffer&&) noexcept = default;
ReadBuffer& ReadBuffer::operator=(ReadBuffer&&) noexcept = default;
ReadBuffer::~ReadBuffer() = default;
void ReadBuffer::release() {
  pieces_.clear();
  if (hold_ != nullptr) hold_->lease.reset();
}

ChunkReader::ChunkReader() = default;
ChunkReader::~ChunkReader() {
  if (state_ != nullptr) state_->core->unpin(state_->id);
}

/// The reader's state, which nobody else sees.
struct ChunkStore::ReaderOpening {
  static bool try_dram(Core& core, ChunkReader* reader, Op* op, Status* why);
  static void verify(Core& core, ChunkReader* reader, Op* op);
  static Status try_nvme(Core& core, ChunkReader* reader, Op* op);
  static bool on_nvme(const Core& core, uint32_t id) {
    return core.index[id].has(IndexEntry::on_nvme) && !core.index[id].has(IndexEntry::doomed);
  }
};

/// False: `why` the copy in dram does not serve, if there is one.
bool ChunkStore::ReaderOpening::try_dram(Core& core, ChunkReader* reader, Op* op, Status* why) {
  const uint32_t id = reader->state_->id;
  const std::shared_ptr<ArenaSpace> space = core.dram_of(id);
  if (space == nullptr) return false;
  StatusOr<ObjectHeader> header = read_arena_header(*space, core.index[id]);
  if (!header.ok()) {
    core.metrics.header_failures.add();
    core.quarantine(id, Tier::dram);
    *why = header.status();
    return false;
  }
  reader->tier_ = Tier::dram;
  reader->layout_.emplace(uint64_t{core.index[id].header_blocks} * kSectorBytes, header->sections);
  reader->header_ = std::make_shared<const ObjectHeader>(std::move(*header));
  if (space->verified()) {
    core.defer(op, ok_status());
  } else {
    verify(core, reader, op);
  }
  return true;
}

/// An object of an earlier run: all of it is looked at before any of it is shown. When it is bad
/// and nvme has it too, that copy serves.
void ChunkStore::ReaderOpening::verify(Core& core, ChunkReader* reader, Op* op) {
  TERRACE_CHECK(core.gate.enter());
  core.verifier.verify(reader->state_->id, true, [&core, reader, op](const Status& result) {
    Status said = result;
    if (!said.ok() && on_nvme(core, reader->state_->id)) {
      said = core.closing() ? error(StatusCode::kUnavailable, "the store is closing")
                            : try_nvme(core, reader, op);
      if (said.ok()) return core.gate.leave();  // the read from nvme ends it
    }
    op->done(said);
    core.gate.leave();
  });
}

Status ChunkStore::ReaderOpening::try_nvme(Core& core, ChunkReader* reader, Op* op) {
  reader->tier_ = Tier::nvme;
  auto read = std::make_shared<NvmeRead>();
  read->core = &core;
  read->op = op;
  read->id = reader->state_->id;
  read->owner = reader->state_->owner;
  read->bytes = uint64_t{core.index[read->id].header_blocks} * kSectorBytes;
  read->arrived = [reader](NvmeRead& done) -> Status {
    Core& c = *done.core;
    const IndexEntry& e = c.index[done.id];
    const std::span<const std::byte> bytes = done.lease->buffer().first(done.bytes);
    StatusOr<ObjectHeader> header = decode_nvme_header(bytes, e);
    if (!header.ok()) {
      c.metrics.header_failures.add();
      condemn(done);
      return header.status();
    }
    reader->layout_.emplace(done.bytes, header->sections);
    reader->header_ = std::make_shared<const ObjectHeader>(std::move(*header));
    return ok_status();
  };
  return start(read);
}

Status ChunkStore::open_reader(NamespaceId ns, const ChunkKey& key, uint64_t owner,
                               ChunkReader* reader, Op* op) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  TERRACE_CHECK(reader->state_ == nullptr);
  const uint32_t id = core.find(ns, key);
  const bool reachable = id != kNoEntry && core.reachable(id);
  if (reachable) return open_local(id, owner, reader, op);
  if (id != kNoEntry) {
    core.metrics.device_misses.add();
    if (!core.in_shared(core.index[id])) {
      return error(StatusCode::kUnavailable,
                   "object " + key.hex() + " lies on an nvme device that does not answer");
    }
    core.doom(id, false, nullptr);  // the other copy takes its place
  }
  if (core.shared == nullptr) return StatusCode::kNotFound;
  return open_shared(ns, key, owner, reader, op);
}

Status ChunkStore::open_shared(NamespaceId ns, const ChunkKey& key, uint64_t owner,
                               ChunkReader* reader, Op* op) {
  const auto loaded = [this, ns, key, owner, reader, op](const Status& result) {
    reader->waits_ = 0;
    if (!result.ok()) return op->done(result);
    const uint32_t id = core_->find(ns, key);
    // Who opened it just before may have found its copy bad.
    if (id == kNoEntry) return op->done(StatusCode::kNotFound);
    const Status opened = open_local(id, owner, reader, op);
    if (!opened.ok()) return op->done(opened);
    reader->state_->loaded_from = Tier::shared;
  };
  TERRACE_ASSIGN_OR_RETURN(reader->waits_, core_->shared->load(ns, key, loaded));
  return ok_status();
}

void ChunkStore::cancel_open(ChunkReader* reader, StatusCode why) {
  if (reader->waits_ != 0) core_->shared->cancel(reader->waits_, why);
}

Status ChunkStore::open_local(uint32_t id, uint64_t owner, ChunkReader* reader, Op* op) {
  Core& core = *core_;
  core.pin(id);
  reader->state_ = std::make_unique<ChunkReader::State>();
  reader->state_->core = &core;
  reader->state_->id = id;
  reader->state_->owner = owner;
  Status why = ok_status();
  if (ReaderOpening::try_dram(core, reader, op, &why)) return ok_status();
  if (!why.ok() && !ReaderOpening::on_nvme(core, id)) {
    core.defer(op, why);
    return ok_status();
  }
  if (Status started = ReaderOpening::try_nvme(core, reader, op); !started.ok()) {
    reader->state_.reset();
    core.unpin(id);
    return started;
  }
  return ok_status();
}

namespace {

/// Checks units that arrived in one piece of memory. Returns the failing unit's error.
Status verify_units(const ObjectHeader& header, const ObjectLayout& layout, uint32_t section,
                    uint32_t first_unit, std::span<const std::byte> bytes) {
  for (uint32_t unit = first_unit; !bytes.empty(); ++unit) {
    const auto run = bytes.first(std::min<size_t>(kCrcUnitBytes, bytes.size()));
    bytes = bytes.subspan(run.size());
    if (unit_crc(header.key, section, unit, run) !=
        header.unit_crcs[layout.first_unit(section) + unit]) {
      return error(StatusCode::kDataLoss, "object " + header.key.hex() + " section " +
                                              std::to_string(section) + " unit " +
                                              std::to_string(unit) + ": checksum differs");
    }
  }
  return ok_status();
}
}  // namespace

Status ChunkStore::read(ChunkReader* reader, uint32_t section, uint32_t first_unit, uint32_t units,
                        ReadBuffer* into, Op* op) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  const ObjectHeader& header = reader->header();
  if (section >= header.sections.size()) {
    return error(StatusCode::kInvalidArgument, "read of section " + std::to_string(section));
  }
  const uint64_t section_bytes = header.sections[section].bytes;
  const uint64_t begin = uint64_t{first_unit} * kCrcUnitBytes;
  const uint64_t end = std::min(begin + uint64_t{units} * kCrcUnitBytes, section_bytes);
  const bool inside = units > 0 && uint64_t{first_unit} + units <= units_of(section_bytes);
  if (!inside || end - begin > kFramePayloadBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "read of units " + std::to_string(first_unit) + " + " + std::to_string(units) +
                     " of " + std::to_string(units_of(section_bytes)) + ", at most 1 MiB");
  }
  into->release();
  ChunkReader::State& state = *reader->state_;
  const uint64_t offset = reader->layout().section_offset(section) + begin;
  const std::shared_ptr<ArenaSpace>& space = core.dram_of(state.id);
  if (space != nullptr && space->verified()) {
    constexpr auto kDram = static_cast<size_t>(Tier::dram);
    space->memory(offset, end - begin, &into->pieces_);
    into->tier_ = state.loaded_from;
    core.metrics.reads[kDram].add();
    core.metrics.read_bytes[kDram].add(end - begin);
    core.defer(op, ok_status());
    return ok_status();
  }
  if (!core.index[state.id].has(IndexEntry::on_nvme) &&
      core.index[state.id].first_extent.blocks == 0) {
    return error(StatusCode::kDataLoss, "the object was quarantined");
  }
  auto read = std::make_shared<NvmeRead>();
  read->core = &core;
  read->op = op;
  read->id = state.id;
  read->owner = state.owner;
  read->offset = offset;
  read->bytes = (end - begin + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  const uint64_t length = end - begin;
  read->arrived = [reader, section, first_unit, length, into](NvmeRead& done) -> Status {
    Core& c = *done.core;
    const std::span<std::byte> bytes = done.lease->buffer().first(length);
    c.metrics.bytes_verified.add(length);
    if (Status bad = verify_units(*reader->header_, *reader->layout_, section, first_unit, bytes);
        !bad.ok()) {
      c.metrics.crc_failures_nvme.add();
      condemn(done);
      return bad;
    }
    into->tier_ = Tier::nvme;
    into->pieces_.push_back({bytes.data(), bytes.size()});
    if (into->hold_ == nullptr) into->hold_ = std::make_unique<ReadBuffer::Hold>();
    into->hold_->lease = done.lease;
    ChunkReader::State& s = *reader->state_;
    IndexEntry& e = c.index[done.id];
    s.bytes_from_nvme += length;
    if (!s.counted && s.bytes_from_nvme >= e.logical_bytes) {
      s.counted = true;  // the whole object was read once
      if (e.nvme_hits < 255) ++e.nvme_hits;
      const uint32_t hits = c.config.promote_hits;
      if (hits > 0 && e.nvme_hits >= hits) c.mover.promote_if_worth(done.id);
    }
    return ok_status();
  };
  return start(read);
}

void ChunkStore::on_quarantine(std::function<void(const ChunkKey& key)> listener) {
  core_->on_quarantine = std::move(listener);
}

bool ChunkStore::resident(const ChunkReader& reader, uint32_t section,
                          std::vector<iovec>* memory) const {
  const std::shared_ptr<ArenaSpace>& space = core_->dram_of(reader.state_->id);
  if (core_->index[reader.state_->id].has(IndexEntry::doomed)) return false;
  if (space == nullptr || !space->verified()) return false;
  if (section >= reader.header().sections.size()) return false;
  space->memory(reader.layout().section_offset(section), reader.header().sections[section].bytes,
                memory);
  return true;
}
}  // namespace terrace
