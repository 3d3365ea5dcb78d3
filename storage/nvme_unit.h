// storage/nvme_unit.h - what the nvme tier knows of one of its devices. For its own files only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "storage/nvme_tier.h"
#include "storage/object_io.h"

namespace terrace {

struct NvmeTier::Unit {
  NvmeDevice given;
  size_t index = 0;
  std::unique_ptr<NvmeMap> map;  // null when it is missing, like the queue
  std::unique_ptr<DeviceQueue> queue;
  bool draining = false;
  bool resizing = false;
  bool fenced = false;  // by errors; one that hangs is known by its queue
  uint32_t read_errors = 0;
  uint32_t write_errors = 0;
  uint32_t probes_good = 0;
  bool probing = false;
  Nanos rests_until{0};  // no new objects before
  bool rests_slow = false;
  std::shared_ptr<SectorMemory> probe_memory;
};
}  // namespace terrace
