#include "storage/recovery.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "storage/object_io.h"

namespace terrace {
namespace {
constexpr uint64_t kGenerationsPerRun = uint64_t{1} << 32;  // never reserves on the loop again
constexpr size_t kReportEvery = 1'000'000;

/// Waits for one device operation by turning the loop: nothing else runs yet.
class Wait final : public Op {
 public:
  void done(Status result) override {
    over = true;
    status = std::move(result);
  }
  Status on(Loop* loop) {
    while (!over) loop->turn(milliseconds(10));
    return status;
  }
  bool over = false;
  Status status;
};
}  // namespace

Status Recovery::run() {
  const Nanos begin = core_.loop->now();
  TERRACE_ASSIGN_OR_RETURN(core_.generation_,
                           core_.metadata->reserve_generations(kGenerationsPerRun));
  TERRACE_RETURN_IF_ERROR(core_.metadata->recover(
      [this](MetadataRow row) {
        if (++seen_ % kReportEvery == 0) spdlog::info("recovery rows={}", seen_);
        // Nobody reads the header of what lies on a missing device.
        const bool away = !row.extents.empty() && core_.nvme->missing(row.extents[0].device);
        if (row.extents_complete || away) {
          take(row);
        } else {
          incomplete_.push_back(std::move(row));  // needs the device
        }
      },
      [this](std::string_view, const Status& why) {
        core_.metrics.recovery_dropped_rows.add();
        spdlog::warn("recovery dropped an undecodable row: {}", why.to_string());
      }));
  for (MetadataRow& row : incomplete_) {
    StatusOr<std::vector<Extent>> extents = extents_from_header(row);
    if (extents.status().code() == StatusCode::kDataLoss) {
      drop(row, extents.status());
      continue;
    }
    if (!extents.ok()) return extents.status();
    row.extents = std::move(*extents);
    take(row);
  }
  const auto us = std::chrono::duration_cast<microseconds>(core_.loop->now() - begin).count();
  core_.metrics.recovery_us.set(static_cast<uint64_t>(us));
  if (seen_ > 0) {
    spdlog::info("recovered objects={} dropped={} us={}", core_.metrics.recovered_objects.get(),
                 core_.metrics.recovery_dropped_rows.get(), us);
  }
  return ok_status();
}

Status Recovery::check_shape(const MetadataRow& row) const {
  const auto bad = [](const std::string& what) { return error(StatusCode::kDataLoss, what); };
  if (row.logical_bytes == 0 || row.logical_bytes > kObjectBytesMax) return bad("logical bytes");
  if (row.sections == 0 || row.sections > kSectionsMax) return bad("sections");
  const uint64_t header = row.header_bytes;
  if (header == 0 || header % kSectorBytes != 0 || header > Staging::kBufferBytes) {
    return bad("header bytes");
  }
  const uint64_t padding = uint64_t{row.sections} * kSectorBytes;
  const uint64_t stored = row.stored_bytes;
  if (stored % kSectorBytes != 0 || stored < header + row.logical_bytes ||
      stored > header + row.logical_bytes + padding) {
    return bad("stored bytes");
  }
  if (row.extents.empty()) return bad("no extents");
  if (row.generation > core_.generation_) return bad("generation was never given out");
  return ok_status();
}

void Recovery::take(const MetadataRow& row) {
  core_.highest_namespace = std::max(core_.highest_namespace, static_cast<uint32_t>(row.ns));
  if (const Status shape = check_shape(row); !shape.ok()) return drop(row, shape);
  if (core_.index.find(row.ns, row.key) != kNoEntry) {
    return drop(row, error(StatusCode::kDataLoss, "two rows of one name"));
  }
  if (const Status claimed = core_.nvme->claim(row.extents, row.stored_bytes); !claimed.ok()) {
    return drop(row, claimed);
  }
  ObjectFacts facts;
  facts.key = row.key;
  facts.ns = row.ns;
  facts.generation = row.generation;
  facts.logical_bytes = row.logical_bytes;
  facts.stored_bytes = row.stored_bytes;
  facts.header_bytes = row.header_bytes;
  facts.sections = row.sections;
  facts.kept = row.kept;
  facts.worth = row.worth;
  facts.found_again = true;
  const uint32_t id = core_.publish(facts);
  IndexEntry& entry = core_.index[id];
  core_.index.set_extents(id, row.extents);
  entry.header_crc = row.header_crc;
  entry.set(IndexEntry::on_nvme);
  // A row is written over flushed data only, and what the metadata store recovered is durable.
  entry.set(IndexEntry::durable);
  if (core_.nvme->missing(row.extents[0].device)) {
    core_.metrics.device_missing_objects.add();  // its going would make no room
  } else {
    core_.policy->entered(Tier::nvme, ChunkStore::Core::nvme_list_of(entry), id);
  }
  core_.metrics.objects[static_cast<size_t>(Tier::nvme)].add();
  core_.metrics.recovered_objects.add();
}

/// The row names space that is not its own: it goes, the object is a miss.
void Recovery::drop(const MetadataRow& row, const Status& why) {
  core_.metrics.recovery_dropped_rows.add();
  Departure lost;
  lost.key = row.key;
  lost.ns = row.ns;
  lost.tier = Tier::nvme;
  lost.reason = DepartReason::lost;
  lost.last = true;
  lost.at = core_.loop->now();
  lost.bytes = row.stored_bytes;
  core_.departures.add(lost);
  spdlog::warn("recovery dropped key={} ns={} generation={}: {}", row.key.hex(),
               static_cast<uint32_t>(row.ns), row.generation, why.to_string());
  core_.rows->erase(row.ns, row.key, row.generation, [](const Status&) {});
}

StatusOr<std::vector<Extent>> Recovery::extents_from_header(const MetadataRow& row) {
  TERRACE_RETURN_IF_ERROR(check_shape(row));
  if (NvmeMap::bytes_of(row.extents) < row.header_bytes) {
    return error(StatusCode::kDataLoss, "the row's extents do not cover the header");
  }
  Device* const device = core_.nvme->device_at(row.extents[0].device);
  if (device == nullptr) return error(StatusCode::kDataLoss, "its device is not of this directory");
  for (const Extent& extent : row.extents) {
    if (extent.device != row.extents[0].device) {
      return error(StatusCode::kDataLoss, "extents on two devices");
    }
    if (extent.offset() + extent.bytes() > device->size_bytes()) {
      return error(StatusCode::kDataLoss, "an extent lies behind the device's end");
    }
  }
  const auto memory = std::make_shared<SectorMemory>(row.header_bytes);
  const iovec run{memory->span().data(), memory->span().size()};
  std::vector<IoPiece> pieces;
  add_pieces(row.extents, 0, {&run, 1}, &pieces);
  for (const IoPiece& piece : pieces) {
    Wait wait;
    device->read(piece.offset, piece.memory, &wait);
    const Status read = wait.on(core_.loop);
    if (read.code() == StatusCode::kDeadlineExceeded) {
      static auto* const kept = new std::vector<std::shared_ptr<SectorMemory>>;
      kept->push_back(memory);  // the kernel still has it
    }
    if (read.code() == StatusCode::kDataLoss) return read;
    if (!read.ok()) {  // it says nothing of the object
      return error(read.code(), "device " + std::to_string(piece.device) +
                                    " of the nvme tier cannot be read at start: " + read.message() +
                                    "; start again when it answers, or without its path");
    }
  }
  StatusOr<ObjectHeader> decoded = decode_object_header(memory->span());
  if (!decoded.ok()) return error(StatusCode::kDataLoss, decoded.status().message());
  ObjectHeader& header = *decoded;
  if (header_crc_of(memory->span()) != row.header_crc || header.key != row.key ||
      header.generation != row.generation) {
    return error(StatusCode::kDataLoss, "the header is of another object");
  }
  if (NvmeMap::bytes_of(header.extents) < row.stored_bytes) {
    return error(StatusCode::kDataLoss, "the header's extents are too short");
  }
  return std::move(header.extents);
}
}  // namespace terrace
