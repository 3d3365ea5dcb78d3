// Another size of a device of the nvme tier: what is free of it, and what is to leave.
#include <algorithm>
#include <string>

#include "storage/nvme_tier.h"
#include "storage/nvme_unit.h"

namespace terrace {

void NvmeMap::bar_from(uint64_t device_bytes) {
  map_.bar_from(device_bytes);
  if (freed_) freed_();  // or there is less: who watches what is free looks again
}

bool NvmeMap::barred(std::span<const Extent> extents) const {
  return std::any_of(extents.begin(), extents.end(),
                     [this](const Extent& extent) { return map_.barred(extent); });
}

void NvmeMap::resize(uint64_t device_bytes) {
  map_.resize(device_bytes);
  untouched_.resize(device_bytes / kMiB);
  if (freed_) freed_();
}

Status NvmeTier::may_resize(uint16_t place) const {
  TERRACE_ASSIGN_OR_RETURN(const Unit* const unit, asked_for(place));
  if (there(*unit) && readable(*unit)) return ok_status();
  return refused(*unit, std::string("is ") + name_of(health_of(*unit)) +
                            ": it can be resized when it answers");
}

uint64_t NvmeTier::device_bytes(uint16_t place) const {
  return unit_of(place)->map->device_bytes();
}

void NvmeTier::bar_from(uint16_t place, uint64_t bytes) {
  Unit* const unit = unit_of(place);
  unit->resizing = true;
  unit->map->bar_from(bytes);
}

void NvmeTier::unbar(uint16_t place) {
  Unit* const unit = unit_of(place);
  unit->resizing = false;
  unit->map->bar_from(unit->map->device_bytes());
}

uint64_t NvmeTier::barred_used_bytes(uint16_t place) const {
  return unit_of(place)->map->barred_used_bytes();
}

bool NvmeTier::barred(std::span<const Extent> extents) const {
  const Unit* const unit = unit_of(extents);
  return unit != nullptr && there(*unit) && unit->map->barred(extents);
}

void NvmeTier::resized(uint16_t place, uint64_t bytes) {
  Unit* const unit = unit_of(place);
  unit->resizing = false;
  unit->map->resize(bytes);
}
}  // namespace terrace
