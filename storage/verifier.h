// storage/verifier.h - looks at every byte of an object that came back from an earlier run, once,
// before it is used: a bounded step per turn, readers before the background. Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "storage/arena.h"
#include "storage/chunk_store.h"

namespace terrace {

class Verifier {
 public:
  using Then = std::function<void(Status)>;
  explicit Verifier(ChunkStore::Core& core) : core_(core) {}

  /// The entry has a dram copy that is not verified. `then` runs once, on a later turn. OK: the
  /// copy is as good as one that was put. kDataLoss: it is not, and was quarantined.
  /// `urgent`: somebody waits for the bytes. The entry is pinned meanwhile.
  void verify(uint32_t id, bool urgent, Then then);
  /// All of the entry's dram copy was looked at, here or by the scrubber, and was `good`.
  void looked_at(uint32_t id, bool good);

 private:
  struct Job;
  using Line = std::deque<std::shared_ptr<Job>>;
  void step();
  Status check(Job* job);
  void end(const std::shared_ptr<Job>& job, const Status& result);

  ChunkStore::Core& core_;
  std::unordered_map<uint32_t, std::shared_ptr<Job>> jobs_;  // by entry
  Line urgent_, background_;                                 // each takes turns
  bool stepping_ = false;
};
}  // namespace terrace
