// storage/nvme_admission.h - which objects get into nvme while its write budget runs short.
// Thread-confined.
#pragma once
#include <cstdint>

#include "storage/chunk_store.h"
#include "storage/policy/write_budget.h"

namespace terrace {

class NvmeAdmission {
 public:
  explicit NvmeAdmission(ChunkStore::Core& core);
  /// Whether an object may be copied there at this price; what only the budget refuses is counted.
  /// Durable puts are not asked: they are written, and spend.
  bool admits(uint32_t id, double price);
  /// Looks at what was written.
  void update();

 private:
  static constexpr double kForget = 1.0 / 256;
  ChunkStore::Core& core_;
  WriteBudget budget_;
  uint64_t seen_bytes_ = 0;   // of all that was written
  double typical_value_ = 0;  // of the candidates, lately
};
}  // namespace terrace
