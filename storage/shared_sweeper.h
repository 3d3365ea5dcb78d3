// storage/shared_sweeper.h - the node's candidacy for the one sweeper of the shared tier, and its
// passes when it is elected. Thread-confined; the work itself runs on the tier's threads.
#pragma once
#include <memory>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/shared_sweep.h"

namespace terrace {

class SharedSweeper {
 public:
  explicit SharedSweeper(ChunkStore::Core& core);
  ~SharedSweeper();
  void start();
  void stop();

 private:
  struct Pass;
  void begin();
  void claim();
  void go_on(const std::shared_ptr<Pass>& pass);
  void stepped(const std::shared_ptr<Pass>& pass, const Status& result);
  void wait();

  ChunkStore::Core& core_;
  Timer timer_;
  bool stopped_ = true;
  /// Held from pass to pass, renewed by each; null: another node has it, or nobody.
  std::shared_ptr<SharedLease> lease_;
};
}  // namespace terrace
