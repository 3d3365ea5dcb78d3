// storage/nvme_resizer.h - makes a device of the nvme tier larger or smaller while it runs.
// Thread-confined.
//
// It grows first as a file or device, then as space that objects get. It shrinks the other way
// round: nothing new goes to what will be cut off, what lies there is written elsewhere by way of
// dram, as when a device is emptied, or evicted when there is no room for all, or at once when it
// is larger than what is left of any device; when nothing is
// left and nobody reads there, it is cut. So a power cut at any moment leaves every object where
// its row says. A device that is not emptied in time stays as it is.
#pragma once
#include <cstdint>
#include <memory>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/tier_pass.h"

namespace terrace {

class NvmeResizer {
 public:
  explicit NvmeResizer(ChunkStore::Core& core);
  ~NvmeResizer();
  /// Begins; it ends with pass->over. The target becomes a multiple of 64 MiB. kInvalidArgument:
  /// it is less than that, or more than 16 TiB; kResourceExhausted: another one runs; kNotFound,
  /// kUnavailable: pass->place is no device, or one that does not answer. Ends with
  /// kUnavailable when what lies at the end of the device stays in use, or with the device's error.
  Status run(std::shared_ptr<ResizePass> pass);
  /// The pass is over; a change of the device that runs is called off, and idle() when it ended.
  void stop();
  /// No device is being changed.
  bool idle() const { return change_ == nullptr; }

 private:
  static constexpr uint32_t kRunningMax = 4;  // objects on their way at once
  static constexpr Nanos kLook = milliseconds(2);
  static constexpr Nanos kPatience = seconds(30);  // without a byte that left
  struct Change;
  void look();
  void look_at_change();
  bool emptied();
  void change_device();
  void changed(const Status& result);
  void call_off(const Status& why);
  void end(const Status& result);

  ChunkStore::Core& core_;
  std::shared_ptr<ResizePass> pass_;  // null: none
  std::shared_ptr<IndexPass> moving_;
  std::unique_ptr<Change> change_;  // null: the device is not being changed
  Nanos progress_{0};
  Timer timer_;
};
}  // namespace terrace
