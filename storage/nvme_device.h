// storage/nvme_device.h - the devices of a store's nvme tier, as they are given to it and as it
// reports on them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "storage/device.h"

namespace terrace {

/// One device of the tier; all of it is used, but at most config.nvme_bytes when that is set.
struct NvmeDevice {
  Device* device = nullptr;  // null: known, and not there
  uint16_t place = 0;        // what extents call it
  std::string path;          // for messages and metrics
};

enum class DeviceHealth : uint8_t {
  ok,
  slow,     // its writes take many times longer than its peers': it gets no new objects for a while
  fenced,   // it hangs or fails: nothing is read from it or written to it
  missing,  // it was not there at start
  draining,  // an admin wants it empty: it gets no new objects
};
inline const char* name_of(DeviceHealth health) {
  constexpr const char* kNames[] = {"ok", "slow", "fenced", "missing", "draining"};
  return kNames[static_cast<size_t>(health)];
}

struct DeviceStatus {
  uint16_t place = 0;
  std::string path;
  uint64_t bytes = 0;  // that objects can have; 0 of one that is missing
  uint64_t used = 0;
  uint64_t written_bytes = 0;  // since the store was opened
  uint64_t trimmed_bytes = 0;  // told the device to forget, since then
  DeviceHealth health = DeviceHealth::ok;
};
}  // namespace terrace
