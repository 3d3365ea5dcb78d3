#include "storage/scrubber.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/crc32c.h"
#include "storage/core.h"
#include "storage/object_io.h"

namespace terrace {

/// The object under check. It is pinned, so its extents stay.
struct Scrubber::Work {
  uint32_t id = 0;
  std::unique_ptr<ArenaCheck> dram;    // null: on the device only
  std::optional<ObjectHeader> header;  // of the nvme copy, once it is read
  std::optional<ObjectLayout> layout;
  uint32_t section = 0;
  uint32_t unit = 0;
  std::shared_ptr<SectorMemory> memory;
  Extent copy;  // that is being read
};

Scrubber::Scrubber(ChunkStore::Core& core) : core_(core), timer_([this] { tick(); }) {}
Scrubber::~Scrubber() = default;

void Scrubber::start() {
  if (core_.config.scrub_period.count() == 0) return;
  stopped_ = false;
  pass_began_ = core_.loop->now() + core_.config.scrub_period;
  core_.loop->arm(&timer_, pass_began_);
}

void Scrubber::run(std::shared_ptr<VerifyPass> pass) {
  pass_ = std::move(pass);
  stopped_ = false;
  cursor_ = 0;
  core_.loop->arm(&timer_, core_.loop->now());
}

void Scrubber::stop() {
  stopped_ = true;
  if (pass_ != nullptr) {
    pass_->result = error(StatusCode::kUnavailable, "the store is closing");
    pass_->over = true;
  }
  pass_.reset();
  core_.loop->disarm(&timer_);
  if (!busy_ && work_ != nullptr) end_object(false);
}

/// The next step comes when this one's bytes have used up their share of the device.
void Scrubber::arm(uint64_t bytes_done) {
  if (stopped_) return;
  const uint32_t mib_per_s = pass_ != nullptr ? pass_->mib_per_s : core_.config.scrub_mib_per_s;
  const uint64_t rate = uint64_t{mib_per_s} * kMiB;
  if (pass_ != nullptr) pass_->bytes += bytes_done;
  const auto pause = Nanos(static_cast<int64_t>(bytes_done * 1'000'000'000 / rate));
  core_.loop->arm(&timer_, core_.loop->now() + pause);
}

void Scrubber::tick() {
  if (stopped_ || busy_) return;
  if (pass_ != nullptr && pass_->cancelled) {
    if (work_ != nullptr) end_object(false);
    pass_->result = error(StatusCode::kCancelled, "the pass was cancelled");
    return end_pass();
  }
  if (work_ == nullptr && !next_object()) {
    return cursor_ < core_.index.ids_end() ? arm(0) : end_pass();
  }
  if (work_->dram != nullptr) {
    check_dram_piece();
  } else {
    read_nvme_piece();
  }
}

void Scrubber::end_pass() {
  cursor_ = 0;
  core_.metrics.scrub_passes.add();
  if (pass_ != nullptr) {
    pass_->over = true;
    pass_.reset();
    return stop();
  }
  const Nanos now = core_.loop->now();
  const Nanos next = std::max(now + milliseconds(10), pass_began_ + core_.config.scrub_period);
  pass_began_ = next;
  core_.loop->arm(&timer_, next);
}

bool Scrubber::next_object() {
  constexpr uint32_t kLookMax = 65536;  // empty slots passed in one step
  for (uint32_t looked = 0; cursor_ < core_.index.ids_end(); ++cursor_) {
    if (++looked > kLookMax) break;
    const IndexEntry& entry = core_.index[cursor_];
    if (!wanted(entry)) continue;
    work_ = std::make_unique<Work>();
    work_->id = cursor_++;
    core_.pin(work_->id);
    if (entry.resident != kNoEntry && (pass_ == nullptr || pass_->tier == Tier::dram)) {
      const std::shared_ptr<ArenaSpace>& space = core_.dram_of(work_->id);
      StatusOr<ObjectHeader> header = read_arena_header(*space, entry);
      if (header.ok()) {
        work_->dram = std::make_unique<ArenaCheck>(std::move(*header), space);
      } else {
        core_.metrics.header_failures.add();
        bad(Tier::dram);
        end_object(true);
        return next_object();
      }
    }
    return true;
  }
  return false;
}

void Scrubber::check_dram_piece() {
  const Status result = work_->dram->step(kMiB, &core_.metrics);
  core_.metrics.scrubbed_bytes.add(kMiB);
  // Not quarantined meanwhile, nor followed by a copy that was read anew.
  const bool still_there = core_.dram_of(work_->id).get() == work_->dram->space();
  if (!result.ok()) {
    core_.metrics.crc_failures_dram.add();
    if (still_there) {
      core_.verifier.looked_at(work_->id, false);
      bad(Tier::dram);
    }
    end_object(true);
  } else if (work_->dram->over()) {
    if (still_there) core_.verifier.looked_at(work_->id, true);
    work_->dram.reset();
    if (pass_ != nullptr || !core_.index[work_->id].has(IndexEntry::on_nvme)) end_object(true);
  }
  arm(kMiB);
}

/// Reads the header, then up to 1 MiB of one section per step.
void Scrubber::read_nvme_piece() {
  Work& work = *work_;
  const IndexEntry& entry = core_.index[work.id];
  const std::span<const Extent> extents = core_.index.extents(work.id);
  if (extents.empty() || entry.has(IndexEntry::doomed)) {
    end_object(false);
    return arm(0);
  }
  uint64_t offset = 0;
  uint64_t bytes = uint64_t{entry.header_blocks} * kSectorBytes;
  if (work.header) {
    const uint64_t begin = uint64_t{work.unit} * kCrcUnitBytes;
    offset = work.layout->section_offset(work.section) + begin;
    bytes = std::min<uint64_t>(kMiB, work.header->sections[work.section].bytes - begin);
    bytes = (bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  }
  work.copy = extents[0];
  work.memory = std::make_shared<SectorMemory>(bytes);
  TransferSpec transfer;
  transfer.kind = IoKind::read;
  transfer.priority = IoPriority::background;
  const iovec run{work.memory->span().data(), bytes};
  add_pieces(extents, offset, {&run, 1}, &transfer.pieces);
  transfer.holds = {work.memory};
  transfer.done = [this](const Status& result) { checked(result); };
  busy_ = true;
  core_.nvme->transfer(std::move(transfer));
}

void Scrubber::checked(const Status& result) {
  busy_ = false;
  Work& work = *work_;
  const uint64_t bytes = work.memory->span().size();
  core_.metrics.scrubbed_bytes.add(bytes);
  // A device that hangs or is gone says nothing about these bytes.
  const bool media = result.code() == StatusCode::kDataLoss;
  if (stopped_ || (!result.ok() && !media)) {
    not_checked(result);
    return arm(kMiB);
  }
  const std::span<const Extent> now = core_.index.extents(work.id);
  if (now.empty() || !(now[0] == work.copy)) {  // it went elsewhere: from its beginning
    work.header.reset();
    work.section = work.unit = 0;
    return arm(bytes);
  }
  const Status good = media ? result : check_piece();
  if (!good.ok()) bad(Tier::nvme);
  if (!good.ok() || work.section == work.header->sections.size()) end_object(true);
  arm(bytes);
}

void Scrubber::not_checked(const Status& why) {
  if (pass_ != nullptr) {
    ++pass_->skipped;
    if (pass_->result.ok()) pass_->result = why;
  }
  end_object(false);
}

Status Scrubber::check_piece() {
  Work& work = *work_;
  const IndexEntry& entry = core_.index[work.id];
  std::span<const std::byte> bytes = work.memory->span();
  if (!work.header) {
    StatusOr<ObjectHeader> header = decode_nvme_header(bytes, entry);
    if (!header.ok()) {
      core_.metrics.header_failures.add();
      return header.status();
    }
    work.layout.emplace(bytes.size(), header->sections);
    work.header.emplace(std::move(*header));
    return ok_status();
  }
  const uint64_t section_bytes = work.header->sections[work.section].bytes;
  const uint32_t first = work.layout->first_unit(work.section);
  while (!bytes.empty() && work.unit < units_of(section_bytes)) {
    const uint64_t length = unit_bytes(section_bytes, work.unit);
    core_.metrics.bytes_verified.add(length);
    const uint32_t crc = unit_crc(work.header->key, work.section, work.unit, bytes.first(length));
    if (crc != work.header->unit_crcs[first + work.unit]) {
      core_.metrics.crc_failures_nvme.add();
      return StatusCode::kDataLoss;
    }
    bytes = bytes.subspan(std::min<size_t>(bytes.size(), kCrcUnitBytes));
    ++work.unit;
  }
  if (work.unit == units_of(section_bytes)) {
    work.unit = 0;
    ++work.section;
  }
  return ok_status();
}

/// Visible, and has a copy where this pass looks.
bool Scrubber::wanted(const IndexEntry& entry) const {
  if (!entry.has(IndexEntry::used) || entry.has(IndexEntry::doomed)) return false;
  const bool in_dram = entry.resident != kNoEntry;
  const bool on_nvme = entry.has(IndexEntry::on_nvme);
  if (pass_ == nullptr) return in_dram || on_nvme;
  return pass_->tier == Tier::dram ? in_dram : on_nvme;
}

void Scrubber::bad(Tier tier) {
  if (pass_ != nullptr) ++pass_->bad;
  core_.quarantine(work_->id, tier);
}

void Scrubber::end_object(bool checked) {
  if (pass_ != nullptr && checked) ++pass_->objects;
  const uint32_t id = work_->id;
  work_.reset();
  core_.unpin(id);
}
}  // namespace terrace
