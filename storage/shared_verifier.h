// storage/shared_verifier.h - the passes over the shared tier that an administrator asks for: their
// pace, their end, and what becomes of what they find. Thread-confined; the reading runs on the
// tier's threads, one call at a time, behind everything that clients wait for.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/shared_verify.h"
#include "storage/tier_pass.h"

namespace terrace {

class SharedVerifier {
 public:
  explicit SharedVerifier(ChunkStore::Core& core);
  ~SharedVerifier();
  /// Not while one runs. It ends with pass->over: also when the tier is fenced meanwhile, or a call
  /// is late, because its thread may still have the pass.
  void run(std::shared_ptr<VerifyPass> pass);
  /// A pass that runs is over, and none begins. Calls that run still end.
  void stop();
  bool running() const { return pass_ != nullptr; }

 private:
  void tick();
  void start_step();
  void stepped(const std::shared_ptr<SharedVerify>& verify, const Status& result);
  void set_aside();
  void was_set_aside(const Status& result);
  void end(Status result);
  void let_go(std::shared_ptr<SharedVerify> verify);
  void close_left();
  void arm(Nanos pause);

  ChunkStore::Core& core_;
  Timer timer_;
  bool stopped_ = false;
  std::shared_ptr<VerifyPass> pass_;      // null: none runs
  std::shared_ptr<SharedVerify> verify_;  // its reading; who gets another one back is late
  bool reading_ = false;                  // a call of it runs
  Nanos pause_{0};                        // what the last step's bytes cost
  std::optional<SharedName> damaged_;     // is being set aside
  int tries_ = 0;                         // of that
  uint64_t unmoved_ = 0;                  // damaged copies that are still where they were
  Status unmoved_why_;
  std::vector<std::shared_ptr<SharedVerify>> left_;  // of passes that are over: a copy still open
};
}  // namespace terrace
