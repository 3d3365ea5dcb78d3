// storage/recovery.h - takes back what the device and the durable index hold. Runs once, inside
// ChunkStore::open, on the loop's thread.
#pragma once
#include <cstdint>
#include <vector>

#include "storage/core.h"

namespace terrace {

class Recovery {
 public:
  explicit Recovery(ChunkStore::Core& core) : core_(core) {}
  /// kDataLoss: the metadata store cannot be read. kDeadlineExceeded, kUnavailable and others: of a
  /// device that has to be read now; nothing is dropped for it.
  Status run();

 private:
  void take(const MetadataRow& row);
  void drop(const MetadataRow& row, const Status& why);
  /// Reads the header of a row that could not hold all extents.
  StatusOr<std::vector<Extent>> extents_from_header(const MetadataRow& row);
  Status check_shape(const MetadataRow& row) const;

  ChunkStore::Core& core_;
  uint64_t seen_ = 0;
  std::vector<MetadataRow> incomplete_;
};
}  // namespace terrace
