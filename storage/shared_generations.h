// storage/shared_generations.h - single flight over all nodes: who computes a chunk that nobody
// has. One caller gets the right, as a lease in the shared tier; the others wait until the chunk is
// published, or until the holder is gone. Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/object_name.h"
#include "storage/shared_lease.h"
#include "storage/shared_tier.h"

namespace terrace {

class SharedGenerations {
 public:
  explicit SharedGenerations(ChunkStore::Core& core);
  ~SharedGenerations();
  /// ChunkStore::generate_or_wait.
  Status wait(NamespaceId ns, const ChunkKey& key, Nanos patience, Nanos hold_max,
              GenerationRight* right, Op* op);
  /// The op that `right` was given to is done with `why` on a later turn; nothing when it is not
  /// waiting.
  void cancel(const GenerationRight* right, StatusCode why);
  /// A right is given back.
  void drop(NamespaceId ns, const ChunkKey& key, uint64_t token);
  /// This node published it.
  void published(NamespaceId ns, const ChunkKey& key);
  /// Everybody who waits ends with kUnavailable, and nobody may wait any more.
  void stop();

 private:
  static constexpr size_t kWaitersMax = 16384;
  static constexpr size_t kPollsMax = 8;  // calls that look whether it is there, at once
  static constexpr Nanos kTick = milliseconds(10);
  static constexpr Nanos kPollFirst = milliseconds(20);
  static constexpr Nanos kPollLongest = milliseconds(500);
  struct Waiter {
    Nanos until{0};
    Nanos hold_max{0};
    GenerationRight* right = nullptr;
    Op* op = nullptr;
  };
  struct Key {
    std::deque<Waiter> waiters;
    Nanos poll_at{0};
    Nanos pause = kPollFirst;
    bool polling = false;
    uint64_t token = 0;  // of the right that a caller of this node holds; 0: none
    SharedLease lease;
    Nanos lease_until{0};  // by our clock
    Nanos hold_until{0};
    bool renewing = false;
  };
  struct Poll;
  using Keys = std::unordered_map<ObjectName, Key, ObjectNameHash>;
  void tick();
  void expire(Key* key);
  void poll(const ObjectName& name, Key* key);
  void polled(const ObjectName& name, const Poll& poll, const Status& result);
  void grant(const ObjectName& name, Key* key, SharedLease lease, Nanos since);
  void renew(const ObjectName& name, Key* key);
  void give_up(Key* key, const Status& why);
  void found(Key* key);
  void release(Key* key);
  static std::string lease_name(const NamespaceDigest& ns, const ChunkKey& key);

  ChunkStore::Core& core_;
  Keys keys_;
  size_t waiters_ = 0;
  size_t polls_ = 0;
  bool stopped_ = false;
  Timer timer_;
};
}  // namespace terrace
