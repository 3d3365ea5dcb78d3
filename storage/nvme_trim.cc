// Trimming: which free space of the nvme tier a device is told of.
#include <algorithm>
#include <string>

#include "base/check.h"
#include "storage/nvme_tier.h"
#include "storage/nvme_unit.h"

namespace terrace {
namespace {

constexpr uint32_t kBlocksPerMib = kMiB / ExtentMap::kBlockBytes;
constexpr uint64_t kShare = 4;  // one part of what is free, at most
}  // namespace

void NvmeMap::touch(std::span<const Extent> extents) {
  for (const Extent& extent : extents) {
    const uint64_t last = (uint64_t{extent.block} + extent.blocks - 1) / kBlocksPerMib;
    for (uint64_t mib = extent.block / kBlocksPerMib; mib <= last; ++mib) {
      if (mib < untouched_.size()) untouched_[mib] = false;
    }
  }
}

bool NvmeMap::take_untrimmed(uint64_t* next, Extent* out) {
  *out = {};
  const uint64_t most = std::min(map_.free_bytes() / kShare, Device::kDiscardBytesMax) / kMiB;
  if (most == 0) return true;
  const Extent run = map_.free_mibs(*next, Device::kDiscardBytesMax / kMiB);
  if (run.blocks == 0) return true;
  uint64_t mib = run.block / kBlocksPerMib;
  const uint64_t end = mib + run.blocks / kBlocksPerMib;
  while (mib < end && untouched_[mib]) ++mib;
  uint64_t last = mib;
  while (last < std::min(end, mib + most) && !untouched_[last]) ++last;
  *next = last;
  if (last == mib) return false;
  *out = {static_cast<uint32_t>(mib * kBlocksPerMib),
          static_cast<uint32_t>((last - mib) * kBlocksPerMib), place_};
  TERRACE_CHECK(map_.claim({out, 1}, out->bytes()).ok());
  return false;
}

void NvmeMap::end_trim(const Extent& extent, bool trimmed) {
  map_.free({&extent, 1}, extent.bytes());
  for (uint64_t mib = 0; trimmed && mib < extent.blocks / kBlocksPerMib; ++mib) {
    untouched_[extent.block / kBlocksPerMib + mib] = true;
  }
  if (freed_) freed_();
}

Status NvmeTier::may_trim(uint16_t place) const {
  TERRACE_ASSIGN_OR_RETURN(const Unit* const unit, asked_for(place));
  if (unit->resizing) return refused(*unit, "is being resized: it is trimmed afterwards");
  const DeviceHealth health = health_of(*unit);
  if (health == DeviceHealth::ok) return ok_status();
  return refused(*unit, std::string("is ") + name_of(health) + ": it is trimmed when it is ok");
}

bool NvmeTier::take_untrimmed(uint16_t place, uint64_t* next, Extent* out) {
  return unit_of(place)->map->take_untrimmed(next, out);
}

void NvmeTier::end_trim(const Extent& extent, const Status& result) {
  Unit* const unit = unit_of(extent.device);
  NvmeDeviceMetrics& counts = metrics_->devices[unit->index];
  if (result.ok()) counts.trimmed_bytes.add(extent.bytes());
  const bool refused = result.code() == StatusCode::kFailedPrecondition;  // as every file does
  if (!result.ok() && !refused) counts.failed_trims.add();
  unit->map->end_trim(extent, result.ok());
}

void NvmeTier::trim_hangs(const Extent& extent) {
  Unit* const unit = unit_of(extent.device);
  metrics_->devices[unit->index].failed_trims.add();
  unit->map->trim_hangs(extent);
}

void NvmeTier::hung_trim_ended(const Extent& extent) {
  unit_of(extent.device)->map->hung_trim_ended(extent);
}
}  // namespace terrace
