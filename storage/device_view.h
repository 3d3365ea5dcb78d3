// storage/device_view.h - where an object's copy lies in device memory, for processes of its tenant
// on this host: they open the memory by its handle (Accelerator::open_slab) and read there.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/accelerator.h"

namespace terrace {

/// The hbm tier's memory as it is lent. It is given back to the device only when all who hold one
/// of these have let go; whoever opened the handle closes it before that.
struct DeviceLoan {
  uint64_t id = 0;  // no other loan of this store ever has it
  uint64_t bytes = 0;
  DeviceSlabHandle handle;
  std::shared_ptr<const void> keeps;  // for the tier to count
};

struct DeviceView {
  struct Piece {
    uint64_t offset = 0;  // in the memory
    uint64_t bytes = 0;
  };
  std::shared_ptr<const DeviceLoan> loan;
  std::vector<Piece> pieces;         // of the sections' bytes in order; none lies in two sections
  std::shared_ptr<const void> hold;  // nothing else gets the space while a copy of this lives
};
}  // namespace terrace
