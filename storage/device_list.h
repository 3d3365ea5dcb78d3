// storage/device_list.h - the file DEVICES of a data directory: which devices its nvme tier has, so
// that one that is missing, moved or replaced is recognised. docs/formats.md. Blocking.
//
// A directory whose only device is the file inside it has no such file. Places are never given out
// twice, so extents that name a device that is gone for good can never mean another one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "storage/data_file.h"

namespace terrace {

inline constexpr size_t kNvmeDevicesMax = 16;  // of a node at once, missing ones included
inline constexpr const char* kDeviceListFile = "DEVICES";

struct DeviceRecord {
  uint16_t place = 0;
  Uuid device{};
  std::string path;  // where it was last
  bool operator==(const DeviceRecord&) const = default;
};

struct DeviceList {
  uint16_t next_place = 0;  // all places below were given out
  std::vector<DeviceRecord> devices;
  bool operator==(const DeviceList&) const = default;
};

std::string encode_device_list(const DeviceList& list);
/// kDataLoss: damaged, another version, or its records contradict each other.
StatusOr<DeviceList> decode_device_list(std::string_view bytes);
Status write_device_list(const std::string& directory, const DeviceList& list);
/// kNotFound: there is none.
StatusOr<DeviceList> read_device_list(const std::string& directory);
}  // namespace terrace
