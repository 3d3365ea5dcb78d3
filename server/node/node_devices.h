// server/node/node_devices.h - the files and block devices of a node's nvme tier, open on its loop.
#pragma once
#include <memory>
#include <vector>

#include "base/loop.h"
#include "storage/device_files.h"
#include "storage/nvme_device.h"
#include "storage/store_config.h"
#include "storage/uring_device.h"

namespace terrace {

class NodeDevices {
 public:
  /// `uuid` is the data directory's; `loop` outlives this. Blocking: creates files that are not
  /// there. Errors: open_device_files'; kInvalidArgument: no size, and no file that has one.
  static StatusOr<std::unique_ptr<NodeDevices>> open(const StoreConfig& config, const Uuid& uuid,
                                                     Loop* loop);
  /// For the store; what it gets lives as long as this.
  std::vector<NvmeDevice> all() const;

 private:
  struct One {
    DeviceFile file;
    std::unique_ptr<UringDevice> device;  // null: missing
  };
  std::vector<One> devices_;
};
}  // namespace terrace
