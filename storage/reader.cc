// Reading: resident bytes are handed out where they lie; others come through a staging buffer, or
// straight into the arena when the object is to stay there, and are verified unit by unit.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/handles.h"
#include "storage/object_io.h"
#include "storage/staged_read.h"

namespace terrace {

ReadBuffer::ReadBuffer() = default;
ReadBuffer::ReadBuffer(ReadBuffer&&) noexcept = default;
ReadBuffer& ReadBuffer::operator=(ReadBuffer&&) noexcept = default;
ReadBuffer::~ReadBuffer() = default;
void ReadBuffer::release() {
  pieces_.clear();
  if (hold_ != nullptr) *hold_ = Hold();
}

ChunkReader::ChunkReader() = default;
ChunkReader::~ChunkReader() {
  if (state_ == nullptr) return;
  state_->promotion.reset();  // it looks at the entry
  state_->core->unpin(state_->id);
}

namespace {

/// Units that were asked for.
struct UnitRun {
  uint32_t section = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  uint64_t bytes = 0;
};

/// Cuts the first `bytes` off `memory`.
std::vector<iovec> cut(std::vector<iovec>* memory, uint64_t bytes) {
  std::vector<iovec> front;
  size_t whole = 0;
  for (; bytes > 0; ++whole) {
    iovec& run = (*memory)[whole];
    front.push_back({run.iov_base, std::min<uint64_t>(bytes, run.iov_len)});
    bytes -= front.back().iov_len;
    if (front.back().iov_len == run.iov_len) continue;
    run.iov_base = static_cast<std::byte*>(run.iov_base) + front.back().iov_len;
    run.iov_len -= front.back().iov_len;
    break;
  }
  memory->erase(memory->begin(), memory->begin() + static_cast<ptrdiff_t>(whole));
  return front;
}

/// Checks units that arrived in `memory`. Returns the failing unit's error.
Status verify_units(const ObjectHeader& header, const ObjectLayout& layout, const UnitRun& run,
                    std::vector<iovec> memory) {
  for (uint32_t unit = run.first; unit < run.first + run.count; ++unit) {
    const uint64_t bytes = unit_bytes(header.sections[run.section].bytes, unit);
    const uint32_t crc = unit_crc_of(header.key, run.section, unit, cut(&memory, bytes));
    if (crc != header.unit_crcs[layout.first_unit(run.section) + unit]) {
      return error(StatusCode::kDataLoss, "object " + header.key.hex() + " section " +
                                              std::to_string(run.section) + " unit " +
                                              std::to_string(unit) + ": checksum differs");
    }
  }
  return ok_status();
}
}  // namespace

/// The reader's state, which nobody else sees.
struct ChunkStore::ReaderOpening {
  static bool try_dram(Core& core, ChunkReader* reader, Op* op, Status* why);
  static void verify(Core& core, ChunkReader* reader, Op* op);
  static Status try_nvme(Core& core, ChunkReader* reader, Op* op);
  static Status take_units(StagedRead& done, ChunkReader* reader, const UnitRun& run,
                           ReadBuffer* into);
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
  auto read = std::make_shared<StagedRead>();
  read->core = &core;
  read->op = op;
  read->id = reader->state_->id;
  read->owner = reader->state_->owner;
  read->bytes = uint64_t{core.index[read->id].header_blocks} * kSectorBytes;
  read->arrived = [reader](StagedRead& done) -> Status {
    Core& c = *done.core;
    const IndexEntry& e = c.index[done.id];
    const std::span<const std::byte> bytes = done.lease->buffer().first(done.bytes);
    StatusOr<ObjectHeader> header =
        done.from == Tier::nvme ? decode_nvme_header(bytes, e) : decode_header_of(bytes, e);
    if (!header.ok()) {
      c.metrics.header_failures.add();
      condemn(done);
      return header.status();
    }
    reader->layout_.emplace(done.bytes, header->sections);
    reader->header_ = std::make_shared<const ObjectHeader>(std::move(*header));
    const auto units = static_cast<uint32_t>(reader->header_->unit_crcs.size());
    reader->state_->promotion = ReadPromotion::begin(&c, done.id, bytes, units);
    return ok_status();
  };
  return start(read);
}

/// The bytes of `run` arrived.
Status ChunkStore::ReaderOpening::take_units(StagedRead& done, ChunkReader* reader,
                                             const UnitRun& run, ReadBuffer* into) {
  Core& core = *done.core;
  ChunkReader::State& state = *reader->state_;
  std::vector<iovec> memory = cut(&done.memory, run.bytes);
  core.metrics.bytes_verified.add(run.bytes);
  if (Status bad = verify_units(*reader->header_, *reader->layout_, run, memory); !bad.ok()) {
    if (done.from == Tier::nvme) core.metrics.crc_failures_nvme.add();
    condemn(done);
    return bad;
  }
  into->tier_ = done.from;
  into->pieces_ = std::move(memory);
  if (into->hold_ == nullptr) into->hold_ = std::make_unique<ReadBuffer::Hold>();
  into->hold_->lease = done.lease;
  into->hold_->arena = done.arena;
  IndexEntry& entry = core.index[done.id];
  state.bytes_staged += run.bytes;
  if (!state.counted && state.bytes_staged >= entry.logical_bytes) {
    state.counted = true;  // the whole object was read once
    if (entry.nvme_hits < 255) ++entry.nvme_hits;
  }
  // One that should have come there and came elsewhere stays missing for ever.
  if (state.promotion != nullptr && done.arena == state.promotion->space()) {
    state.promotion->arrived(run.count);
  }
  return ok_status();
}

Status ChunkStore::open_reader(NamespaceId ns, const ChunkKey& key, uint64_t owner,
                               ChunkReader* reader, Op* op) {
  Core& core = *core_;
  if (core.closing()) return error(StatusCode::kUnavailable, "the store is closing");
  TERRACE_CHECK(reader->state_ == nullptr);
  const uint32_t id = core.find(ns, key);
  if (core.reachable(id)) return open_local(id, owner, reader, op);
  if (id != kNoEntry) {
    core.metrics.device_misses.add();
    if (!core.in_shared(core.index[id]) || !core.shared->works(ns)) {
      return error(StatusCode::kUnavailable,
                   "object " + key.hex() + " lies on an nvme device that does not answer");
    }
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
  auto read = std::make_shared<StagedRead>();
  read->core = &core;
  read->op = op;
  read->id = state.id;
  read->owner = state.owner;
  read->offset = offset;
  read->bytes = (end - begin + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  const UnitRun run{section, first_unit, units, end - begin};
  const uint32_t first = reader->layout().first_unit(section) + first_unit;
  if (state.promotion != nullptr && state.promotion->claim(first, units)) {
    read->arena = state.promotion->space();
  }
  read->arrived = [reader, run, into](StagedRead& done) {
    return ReaderOpening::take_units(done, reader, run, into);
  };
  return start(read);
}

void ChunkStore::on_quarantine(std::function<void(const ChunkKey& key)> listener) {
  core_->on_quarantine = std::move(listener);
}

StatusOr<DeviceView> ChunkStore::device_view(const ChunkReader& reader) const {
  if (core_->hbm == nullptr) {
    return error(StatusCode::kFailedPrecondition, "the node has no hbm tier");
  }
  return core_->hbm->view(reader.state_->id, reader.header(), reader.layout());
}

void ChunkStore::keep_hbm_for(DomainId domain) {
  if (core_->hbm != nullptr) core_->hbm->keep_for(domain);
}

void ChunkStore::call_device_back() {
  if (core_->hbm != nullptr) core_->hbm->take_back();
}

void ChunkStore::on_device_recall(std::function<void(uint64_t loan)> listener) {
  core_->on_device_recall = std::move(listener);
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
