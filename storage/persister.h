// storage/persister.h - writes an object from the arena to the device: space, data, flush, row, in
// this order, so that a row never names data that a power cut could take. Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "storage/arena.h"
#include "storage/chunk_store.h"
#include "storage/device_queue.h"
#include "storage/nvme_space.h"
#include "storage/object_format.h"

namespace terrace {

/// Where an object lies on the device, its row written.
struct NvmeCopy {
  std::shared_ptr<NvmeSpace> space;
  uint32_t header_crc = 0;
  bool durable = false;
};

/// The data of an object that goes to the device while the rest of it still arrives. Shared by its
/// put and the writes that run; space that no row names is free again when the last lets go.
struct EarlyWrite {
  std::shared_ptr<NvmeSpace> space;
  std::shared_ptr<ArenaSpace> source;
  uint32_t running = 0;
  Status status;               // the first error
  bool withheld = false;       // the medium refused some of its space
  std::function<void()> idle;  // runs once, when nothing runs any more
};

struct PersistSpec {
  ObjectHeader header;  // its extents are filled in here
  uint64_t header_bytes = 0;
  uint64_t logical_bytes = 0;
  std::shared_ptr<ArenaSpace> source;
  std::shared_ptr<EarlyWrite> early;  // all of the data was given to it; null: none was
  bool durable = false;
  /// A row of this generation names a copy that is good, and is not to go when the new one cannot
  /// be written: then either is right, and the new copy's space rests until a restart.
  bool has_row = false;
  std::optional<Kept> kept;  // of its retention now; nullopt: what its header says
  /// Asked just before the row is queued; empty: always. An object that was erased meanwhile must
  /// not write its row over that of a younger one of the same name. Rows are written in the order
  /// in which they are queued, so one that was queued before the erase does no harm.
  std::function<bool()> wanted;
  IoPriority priority = IoPriority::background;
  /// Runs once, on a later turn. Errors: kResourceExhausted (no space now, or on no device however
  /// much is evicted), kNotFound (not wanted any
  /// more), the device's, the metadata store's.
  std::function<void(StatusOr<NvmeCopy>)> done;
};

class Persister {
 public:
  static constexpr size_t kWaitingMax = 4096;
  explicit Persister(ChunkStore::Core& core) : core_(core) {}

  void start(PersistSpec spec);
  /// Space on the device for what will be in `source`, to be written piece by piece before start().
  /// Null when there is none now, or others wait for it.
  std::shared_ptr<EarlyWrite> begin_early(const std::shared_ptr<ArenaSpace>& source);
  /// [offset, offset + bytes) of the source is in place and will not change; multiples of 4 KiB.
  void write_early(const std::shared_ptr<EarlyWrite>& early, uint64_t offset, uint64_t bytes);
  /// Space became free, or may have, or there is less: those who wait for it try again.
  void retry();
  /// Eviction has nothing to give: the first in line ends with kResourceExhausted.
  void give_up_first();
  /// Bytes that the first in line waits for; 0 when nobody does.
  uint64_t wanted_bytes() const;
  bool idle() const { return running_ == 0; }

 private:
  struct Job;
  /// No device that takes objects could hold it, were it empty: nothing is to leave for it.
  bool too_large(const Job& job) const;
  void refuse(const std::shared_ptr<Job>& job);
  void write(const std::shared_ptr<Job>& job);
  void written(const std::shared_ptr<Job>& job, const Status& result);
  /// A device failed: another one gets the object, or the job ends with `why`.
  void elsewhere(const std::shared_ptr<Job>& job, const Status& why);
  void give_up_space(const std::shared_ptr<NvmeSpace>& space, const Status& why);
  void put_row(const std::shared_ptr<Job>& job);
  void take_back(const std::shared_ptr<Job>& job, const Status& why);
  void end(const std::shared_ptr<Job>& job, StatusOr<NvmeCopy> result);

  ChunkStore::Core& core_;
  std::deque<std::shared_ptr<Job>> waiting_;  // for space
  size_t running_ = 0;
};
}  // namespace terrace
