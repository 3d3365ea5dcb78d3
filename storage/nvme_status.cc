// What the nvme tier says of its devices.
#include <algorithm>
#include <utility>

#include "storage/nvme_tier.h"
#include "storage/nvme_unit.h"

namespace terrace {

std::vector<DeviceStatus> NvmeTier::status() const {
  std::vector<DeviceStatus> out;
  for (const auto& unit : units_) {
    DeviceStatus status;
    status.place = unit->given.place;
    status.path = unit->given.path;
    if (there(*unit)) {
      status.bytes = unit->map->capacity_bytes();
      status.used = unit->map->used_bytes();
    }
    status.written_bytes = metrics_->devices[unit->index].write_bytes.get();
    status.trimmed_bytes = metrics_->devices[unit->index].trimmed_bytes.get();
    status.health = health_of(*unit);
    out.push_back(std::move(status));
  }
  return out;
}

void NvmeTier::update_gauges() {
  for (const DeviceStatus& each : status()) {
    NvmeDeviceMetrics& counts = metrics_->devices[unit_of(each.place)->index];
    counts.capacity_bytes.set(each.bytes);
    counts.used_bytes.set(each.used);
    counts.health.set(static_cast<uint64_t>(each.health));
    const double days = static_cast<double>((loop_->now() - opened_).count()) * 1e-9 / 86'400;
    if (days <= 0) continue;
    const double a_day = static_cast<double>(each.written_bytes) / days;
    counts.written_per_day.set(static_cast<uint64_t>(std::min(a_day, 1e18)));
    if (each.bytes == 0) continue;
    const double milli = 1000 * a_day / static_cast<double>(each.bytes);
    counts.drive_writes_milli.set(static_cast<uint64_t>(std::min(milli, 1e18)));
  }
}
}  // namespace terrace
