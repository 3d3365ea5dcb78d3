// storage/trimmer.h - passes that tell the devices of nvme which of their space is free, so that
// their garbage collection does not carry it along. Thread-confined.
//
// One piece at a time: whole free MiBs are taken out of the free space, discarded, and given back,
// so no write can be given what the device is just forgetting. Space is free only when the row that
// named it is gone for good and nobody reads it, so a power cut at any moment costs nothing. A
// piece that takes as long as a device that hangs ends the pass on that device; its space rests
// until the device answers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/tier_pass.h"

namespace terrace {

class Trimmer {
 public:
  explicit Trimmer(ChunkStore::Core& core);
  ~Trimmer();
  /// Passes of their own from now on, when the configuration asks for them.
  void start();
  /// Begins a pass; it ends with pass->over, when all was trimmed that was used since it was the
  /// last time, or when each device has a `result` that says why not. kResourceExhausted: another
  /// one runs. kNotFound, kUnavailable: pass->place is no device, or one that is not ok.
  Status run(std::shared_ptr<TrimPass> pass);
  /// The pass is over and no other one begins by itself; a piece that runs goes on.
  void stop();
  /// No device is asked anything, but for those that hang.
  bool idle() const { return piece_ == nullptr; }

 private:
  struct Piece;
  void tick();
  void step();
  void begin(const Extent& extent);
  void run_by_itself();
  void end_pass();
  void ended(Piece* piece, const Status& result);
  void hangs();
  void next_device(const Status& result);
  bool hangs_at(uint16_t place) const;

  ChunkStore::Core& core_;
  Timer interval_;                  // to the next pass of its own
  Timer timer_;                     // the next step, or the end of patience with a piece
  std::shared_ptr<TrimPass> pass_;  // null: none
  size_t device_ = 0;               // of the pass
  uint64_t next_mib_ = 0;           // of that device
  std::unique_ptr<Piece> piece_;    // null: none runs
  std::vector<std::unique_ptr<Piece>> hanging_;  // at most one per device
};
}  // namespace terrace
