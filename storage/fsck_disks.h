// storage/fsck_disks.h - the devices of a data directory for fsck: read-only, blocking.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/handle.h"
#include "storage/data_file.h"
#include "storage/device_list.h"
#include "storage/nvme_space.h"

namespace terrace {

struct FsckDisk {
  Fd fd;
  std::string path;
  uint64_t bytes = 0;
  std::unique_ptr<NvmeMap> map;  // what objects claimed so far
};

/// kDataLoss: it ends before.
Status read_all(const FsckDisk& disk, uint64_t offset, std::span<std::byte> into);

class FsckDisks {
 public:
  /// Those that `data_file` names (as the option of the node; empty: those that the directory
  /// knows). kNotFound: no data file, of a directory that has one; others may be missing.
  /// kDataLoss: a bad identity block, or of another directory.
  Status open(const std::string& directory, const std::string& data_file, const Uuid& uuid);
  /// Null: not there, or no extents.
  FsckDisk* of(std::span<const Extent> extents);
  /// They lie on a device that is known and not there.
  bool missing(std::span<const Extent> extents) const;
  const std::vector<DeviceRecord>& missing_devices() const { return missing_; }
  /// Part of a stored object.
  Status read(std::span<const Extent> extents, uint64_t offset, std::span<std::byte> into);
  std::map<uint16_t, FsckDisk>& all() { return disks_; }  // by place

 private:
  Status open(const std::string& path, const Uuid& uuid);
  std::map<uint16_t, FsckDisk> disks_;
  std::vector<DeviceRecord> missing_;
};
}  // namespace terrace
