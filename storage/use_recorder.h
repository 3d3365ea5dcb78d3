// storage/use_recorder.h - takes what the policy has learned of uses over a restart: read at start,
// written now and then and at the end (storage/use_file.h). It is never worth a failed start or a
// turn that takes long: the loop takes it down in steps, a thread writes it. Thread-confined.
#pragma once
#include <cstdint>
#include <optional>

#include "base/loop.h"
#include "base/workers.h"
#include "storage/chunk_store.h"
#include "storage/policy/use_memory.h"

namespace terrace {

class UseRecorder {
 public:
  explicit UseRecorder(ChunkStore::Core& core);
  ~UseRecorder();
  /// Inside open(), before the policy hears of any object. What is wrong with the file is logged
  /// and counted, and then nothing is recalled.
  void recall();
  /// From now on it is written once per period of the configuration.
  void start();
  /// It is written once more, and then never. A write that takes longer than the configuration's
  /// patience, as on a disk that hangs, is given up: then the file stays as it was, whole.
  void stop();
  /// Nothing is taken down or written, or is about to be.
  bool idle() const { return !scan_ && !writing_ && !last_; }

 private:
  bool wanted() const;
  void arm();
  void begin();
  void tick();
  void watch();
  void give_up();
  void write(UseMemory memory);
  void written(const Status& result);

  ChunkStore::Core& core_;
  Timer timer_;  // the next period, the next step, or the next look at the last writes
  Workers workers_;
  std::optional<UseScan> scan_;
  int64_t taken_s_ = 0;  // when the scan began
  Nanos until_{0};       // a write that runs is given up then, once stopped
  bool writing_ = false;
  bool last_ = false;     // one more is to begin when this one is over
  bool stopped_ = true;   // none begins by itself
  bool failing_ = false;  // the last one could not be written
};
}  // namespace terrace
