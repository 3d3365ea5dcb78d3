// storage/dram_resizer.h - gives the dram tier more or fewer slabs while it runs. Thread-confined.
//
// It grows by slabs of zeros that belong to nobody, as far as the machine says that it has the
// memory. It shrinks by slabs that are emptied by evicting what lies there, as when another tenant
// takes them; what is in use is waited for, and a slab that stays in use is passed by for another.
// Every step leaves a tier that is whole; nothing of it outlives the process.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/tier_pass.h"

namespace terrace {

class DramResizer {
 public:
  explicit DramResizer(ChunkStore::Core& core);
  /// Begins; it ends with pass->over. kInvalidArgument: the target is less than a slab, or more
  /// than there are addresses for; kResourceExhausted: another one runs, or the machine has not the
  /// memory (pass->result, when that shows later); kUnavailable: the memory of the start is not
  /// populated yet, so try again. Ends with kUnavailable when what lies there stays in use.
  Status run(std::shared_ptr<ResizePass> pass);
  /// The pass is over.
  void stop();

 private:
  static constexpr Nanos kLook = milliseconds(10);
  static constexpr Nanos kPatience = seconds(30);  // without a slab that comes or goes
  static constexpr uint64_t kAddingMax = 4;
  void look();
  Status grow();
  Status shrink();
  void end(const Status& result);

  ChunkStore::Core& core_;
  std::shared_ptr<ResizePass> pass_;  // null: none
  Nanos progress_{0};
  uint64_t failures_ = 0;  // of the arena, before
  Timer timer_;
};
}  // namespace terrace
