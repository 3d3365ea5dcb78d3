#include "storage/fsck.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "base/crc32c.h"
#include "base/loop.h"
#include "storage/durable_file.h"
#include "storage/fsck_disks.h"
#include "storage/metadata_store.h"
#include "storage/namespace_file.h"
#include "storage/object_format.h"
#include "storage/object_hints.h"
#include "storage/object_io.h"
#include "storage/store_config.h"

namespace terrace {
namespace {

Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, what);
}

/// Waits for the metadata thread by turning the loop.
class Waiter final : public Op {
 public:
  void done(Status result) override {
    status.update(result);
    --pending;
  }
  void drain(Loop* loop) {
    while (pending > 0) loop->turn(milliseconds(10));
  }
  Status status;
  size_t pending = 0;
};

class Fsck {
 public:
  explicit Fsck(const FsckOptions& options) : options_(options) {}
  StatusOr<FsckReport> run();

 private:
  struct Found {  // a row, or what a header says
    MetadataRow row;
    std::vector<Extent> extents;
  };
  Status open_metadata();
  Status restore_namespaces();
  Status check_rows();
  void check_row(const MetadataRow& row);
  /// The first thing wrong with an object, and the count it belongs to.
  Status check_object(Found* found, uint64_t** count);
  StatusOr<ObjectHeader> read_header(std::span<const Extent> extents, uint64_t bytes);
  Status check_units(const ObjectHeader& header, const Found& found);
  Status rebuild();
  Status scan(uint16_t place, const FsckDisk& disk, std::vector<Found>* candidates);
  void consider(const Extent& at, const FsckDisk& disk, std::span<const std::byte> sector,
                std::vector<Found>* out);
  Status replace_rows(const std::vector<Found>& good);
  void finding(const std::string& what);
  void progress(uint64_t bytes);

  const FsckOptions& options_;
  FsckReport report_;
  FsckDisks disks_;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<MetadataStore> metadata_;
  std::vector<MetadataRow> rows_;
};

void Fsck::finding(const std::string& what) {
  if (report_.findings.size() < FsckReport::kFindingsMax) report_.findings.push_back(what);
}

void Fsck::progress(uint64_t bytes) {
  constexpr uint64_t kEvery = 64 * kMiB;
  const bool due = done_ / kEvery != (done_ + bytes) / kEvery;
  done_ += bytes;
  report_.bytes_checked += bytes;
  if (due && options_.progress) options_.progress(std::min(done_, total_), total_);
}

Status Fsck::open_metadata() {
  StoreConfig config;
  config.data_directory = options_.data_directory;
  MetadataStore::Options options;
  options.path = config.metadata_path();
  TERRACE_ASSIGN_OR_RETURN(loop_, Loop::create({}, &clock_));
  StatusOr<std::unique_ptr<MetadataStore>> store = MetadataStore::open(options, loop_.get());
  if (!store.ok() && options_.rebuild && store.status().code() == StatusCode::kDataLoss) {
    TERRACE_ASSIGN_OR_RETURN(const std::string aside, move_aside(options.path));
    report_.index_unreadable = true;
    finding("the durable index was unreadable (" + store.status().message() + "); it is now " +
            aside);
    store = MetadataStore::open(options, loop_.get());
  }
  if (!store.ok()) return store.status();
  metadata_ = std::move(*store);
  return options_.rebuild ? restore_namespaces() : ok_status();
}

/// Whatever became of the index, and however often this was tried before.
Status Fsck::restore_namespaces() {
  const auto known = metadata_->namespaces();
  const auto copy = read_namespaces(options_.data_directory);
  if (!copy.ok()) {
    if (known.ok() && !known->empty()) return ok_status();
    // The node gives the numbers in the rows to nobody else: such objects age out.
    finding("whose the objects are is lost (" + copy.status().message() +
            "): namespaces must be opened anew, and nobody reaches the old objects");
    return ok_status();
  }
  for (const NamespaceRow& row : *copy) {
    const bool there = known.ok() && std::any_of(known->begin(), known->end(),
                                                 [&](const auto& k) { return k.id == row.id; });
    if (!there) TERRACE_RETURN_IF_ERROR(metadata_->put_namespace(row));
  }
  return ok_status();
}

StatusOr<ObjectHeader> Fsck::read_header(std::span<const Extent> extents, uint64_t bytes) {
  if (bytes == 0 || bytes > kHeaderBytesMax || bytes % kSectorBytes != 0) {
    return damaged("header of " + std::to_string(bytes) + " bytes");
  }
  std::vector<std::byte> memory(bytes);
  TERRACE_RETURN_IF_ERROR(disks_.read(extents, 0, memory));
  progress(bytes);
  return decode_object_header(memory);
}

Status Fsck::check_units(const ObjectHeader& header, const Found& found) {
  const ObjectLayout layout(found.row.header_bytes, header.sections);
  std::vector<std::byte> memory(kCrcUnitBytes);
  for (uint32_t s = 0; s < header.sections.size(); ++s) {
    const uint64_t section_bytes = header.sections[s].bytes;
    for (uint32_t u = 0; u < units_of(section_bytes); ++u) {
      const uint64_t bytes = unit_bytes(section_bytes, u);
      const uint64_t stored = (bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
      TERRACE_RETURN_IF_ERROR(disks_.read(found.extents,
                                          layout.section_offset(s) + uint64_t{u} * kCrcUnitBytes,
                                          std::span(memory).first(stored)));
      progress(stored);
      const uint32_t crc = unit_crc(header.key, s, u, std::span(memory).first(bytes));
      if (crc != header.unit_crcs[layout.first_unit(s) + u]) {
        return damaged("section " + std::to_string(s) + " unit " + std::to_string(u) +
                       ": checksum differs");
      }
    }
  }
  return ok_status();
}

Status Fsck::check_object(Found* found, uint64_t** count) {
  const MetadataRow& row = found->row;
  FsckDisk* const disk = disks_.of(row.extents);
  const auto inside = [disk](std::span<const Extent> extents) {
    return disk != nullptr && !extents.empty() &&
           std::all_of(extents.begin(), extents.end(), [&](const Extent& extent) {
             return extent.blocks > 0 && extent.device == extents[0].device &&
                    extent.offset() >= NvmeMap::kReservedBytes &&
                    extent.offset() + extent.bytes() <= disk->bytes;
           });
  };
  *count = &report_.rows_out_of_range;
  if (!inside(row.extents)) return damaged("extents outside the device");
  *count = &report_.headers_bad;
  TERRACE_ASSIGN_OR_RETURN(const ObjectHeader header, read_header(row.extents, row.header_bytes));
  if (header.key != row.key || header.ns != row.ns || header.generation != row.generation) {
    return damaged("its header is of another object");
  }
  found->extents = row.extents_complete ? row.extents : header.extents;
  const ObjectLayout layout(row.header_bytes, header.sections);
  if (layout.stored_bytes() != row.stored_bytes || layout.logical_bytes() != row.logical_bytes) {
    return damaged("row and header disagree about its size");
  }
  *count = &report_.rows_out_of_range;
  const bool same = !found->extents.empty() && found->extents[0].device == row.extents[0].device;
  if (!same || !inside(found->extents)) return damaged("extents outside the device");
  *count = &report_.rows_overlapping;
  TERRACE_RETURN_IF_ERROR(disk->map->claim(found->extents, row.stored_bytes));
  *count = &report_.units_bad;
  if (!options_.check_units) return ok_status();
  Status units = check_units(header, *found);
  // A rebuild gives the space to whoever else claims it.
  if (!units.ok()) disk->map->free(found->extents, row.stored_bytes);
  return units;
}

void Fsck::check_row(const MetadataRow& row) {
  if (disks_.missing(row.extents)) {
    ++report_.rows_missing_device;
    return;
  }
  Found found{row, {}};
  uint64_t* count = nullptr;
  const Status good = check_object(&found, &count);
  if (good.ok()) {
    ++report_.objects_good;
    return;
  }
  ++*count;
  finding("object " + row.key.hex() + " generation " + std::to_string(row.generation) + ": " +
          good.message());
}

Status Fsck::check_rows() {
  TERRACE_RETURN_IF_ERROR(metadata_->recover(
      [this](MetadataRow row) {
        ++report_.rows;
        total_ += row.stored_bytes;
        rows_.push_back(std::move(row));
      },
      [this](std::string_view, const Status& why) {
        ++report_.rows;
        ++report_.rows_undecodable;
        finding("a row does not decode: " + why.message());
      }));
  for (const MetadataRow& row : rows_) check_row(row);
  return ok_status();
}

/// A sector that looks like the beginning of an object.
void Fsck::consider(const Extent& at, const FsckDisk& disk, std::span<const std::byte> sector,
                    std::vector<Found>* out) {
  const StatusOr<uint64_t> size = header_size_of(sector);
  if (!size.ok()) return;
  std::vector<std::byte> bytes(*size);
  if (at.offset() + *size > disk.bytes) return;
  // Space is given out largest run first, so a header lies in one run unless the device was in
  // shreds; an object whose header does not is not found.
  StatusOr<ObjectHeader> header = damaged("");
  if (read_all(disk, at.offset(), bytes).ok()) header = decode_object_header(bytes);
  if (!header.ok() || header->extents.empty()) return;
  const Extent& first = header->extents[0];
  if (first.block != at.block || first.device != at.device)
    return;  // the bytes of an object, not its beginning
  Found found;
  found.extents = header->extents;
  MetadataRow& row = found.row;
  const ObjectLayout layout(*size, header->sections);
  row.key = header->key;
  row.ns = header->ns;
  row.generation = header->generation;
  row.logical_bytes = layout.logical_bytes();
  row.stored_bytes = layout.stored_bytes();
  row.sections = static_cast<uint32_t>(header->sections.size());
  row.header_crc = header_crc_of(bytes);
  row.header_bytes = static_cast<uint32_t>(*size);
  ObjectHints hints = hints_of(*header);
  row.kept = std::move(hints.kept);
  row.worth = hints.worth;
  set_extents(&row, found.extents);
  out->push_back(std::move(found));
}

Status Fsck::scan(uint16_t place, const FsckDisk& disk, std::vector<Found>* candidates) {
  std::vector<std::byte> memory(kMiB);
  for (uint64_t at = NvmeMap::kReservedBytes; at < disk.bytes; at += kMiB) {
    const uint64_t bytes = std::min<uint64_t>(kMiB, disk.bytes - at);
    TERRACE_RETURN_IF_ERROR(read_all(disk, at, std::span(memory).first(bytes)));
    progress(bytes);
    for (uint64_t in = 0; in + kSectorBytes <= bytes; in += kSectorBytes) {
      const Extent begin{static_cast<uint32_t>((at + in) / kSectorBytes), 1, place};
      consider(begin, disk, std::span(memory).subspan(in, kSectorBytes), candidates);
    }
  }
  return ok_status();
}

/// What the device holds, youngest first: an older object whose space or name a younger one has is
/// a leftover. Every one is verified whole, or not taken.
Status Fsck::rebuild() {
  total_ = done_ + 2 * report_.device_bytes;
  std::vector<Found> candidates;
  for (const auto& [place, disk] : disks_.all()) {
    TERRACE_RETURN_IF_ERROR(scan(place, disk, &candidates));
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Found& a, const Found& b) { return a.row.generation > b.row.generation; });
  for (auto& [place, disk] : disks_.all()) disk.map = std::make_unique<NvmeMap>(disk.bytes, place);
  std::vector<Found> good;
  std::set<std::string> names;  // of `good`
  FsckReport before = report_;  // leftovers are not findings
  for (Found& found : candidates) {
    std::string name = row_key(found.row.ns, found.row.key);
    if (names.contains(name)) continue;
    uint64_t* count = nullptr;
    if (!check_object(&found, &count).ok()) continue;
    names.insert(std::move(name));
    good.push_back(std::move(found));
  }
  before.bytes_checked = report_.bytes_checked;
  report_ = std::move(before);
  TERRACE_RETURN_IF_ERROR(replace_rows(good));
  report_.rebuilt = good.size();
  return ok_status();
}

Status Fsck::replace_rows(const std::vector<Found>& good) {
  constexpr size_t kBatch = 1024;
  Waiter waiter;
  for (const MetadataRow& row : rows_) {
    if (disks_.missing(row.extents)) continue;  // it is there when its device is
    ++waiter.pending;
    const Status started = metadata_->erase(row.ns, row.key, row.generation, &waiter);
    if (!started.ok()) waiter.done(started);
    if (waiter.pending >= kBatch) waiter.drain(loop_.get());
  }
  waiter.drain(loop_.get());
  uint64_t generation = 0;
  for (const Found& found : good) {
    generation = std::max(generation, found.row.generation);
    ++waiter.pending;
    const Status started = metadata_->put(found.row, true, &waiter);
    if (!started.ok()) waiter.done(started);
    if (waiter.pending >= kBatch) waiter.drain(loop_.get());
  }
  waiter.drain(loop_.get());
  TERRACE_RETURN_IF_ERROR(waiter.status);
  TERRACE_ASSIGN_OR_RETURN(const uint64_t reserved, metadata_->reserve_generations(1));
  if (reserved <= generation) {
    return metadata_->reserve_generations(generation - reserved + 1).status();
  }
  return ok_status();
}

StatusOr<FsckReport> Fsck::run() {
  std::error_code failed;
  if (!std::filesystem::is_directory(options_.data_directory, failed)) {
    return error(StatusCode::kNotFound, "no directory " + options_.data_directory);
  }
  TERRACE_ASSIGN_OR_RETURN(const DirectoryLock lock,
                           DirectoryLock::acquire(options_.data_directory));
  TERRACE_RETURN_IF_ERROR(disks_.open(options_.data_directory, options_.data_file, lock.uuid()));
  for (const auto& [place, disk] : disks_.all()) report_.device_bytes += disk.bytes;
  for (const DeviceRecord& record : disks_.missing_devices()) {
    finding("device " + std::to_string(record.place) + ", last at " + record.path +
            ", is not there: its objects were not looked at");
  }
  TERRACE_RETURN_IF_ERROR(open_metadata());
  TERRACE_RETURN_IF_ERROR(check_rows());
  if (options_.rebuild) TERRACE_RETURN_IF_ERROR(rebuild());
  metadata_.reset();  // before its loop
  if (options_.progress) options_.progress(total_, total_);
  return std::move(report_);
}
}  // namespace

StatusOr<FsckReport> fsck(const FsckOptions& options) {
  return Fsck(options).run();
}
}  // namespace terrace
