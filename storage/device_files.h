// storage/device_files.h - finds, opens and creates the files and block devices of a data
// directory's nvme tier. Blocking; runs before a store is opened.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "storage/data_file.h"
#include "storage/device_list.h"

namespace terrace {

struct DeviceFilesOptions {
  std::string directory;           // the data directory
  std::vector<std::string> paths;  // of its devices, in any order
  bool named = true;               // by the admin: they may lie on mounts that can be missing
  bool index_there = false;        // the directory has a durable index, which names a device
  uint64_t bytes = 0;              // of each that is created; 0: none is created without a size
  bool format_block_device = false;
  bool forget_missing = false;  // what is not there is given up, with all that lies on it
  DataFile::Progress progress;
};

/// A device of the tier. `file` is null for one that is known and not there.
struct DeviceFile {
  uint16_t place = 0;
  std::string path;
  std::unique_ptr<DataFile> file;
};

/// All devices of the directory, by place. A device is who its identity block says, whatever its
/// path; one that the directory knows and that no path leads to is missing, and nothing is created
/// at its old path. Without the file DEVICES nobody knows who is missing: then a device that cannot
/// be opened is an error, and so is a named one that is not there although there is an index, but
/// for `forget_missing`. kFailedPrecondition, kResourceExhausted: as DataFile::open, of any of
/// them; kFailedPrecondition also when two devices claim one place. kUnavailable: none is there, or
/// the first is not and there is no DEVICES. kDataLoss: the file DEVICES is damaged, or the only
/// device is. kInvalidArgument: no paths, one twice, too many.
StatusOr<std::vector<DeviceFile>> open_device_files(const DeviceFilesOptions& options,
                                                    const Uuid& directory);
}  // namespace terrace
