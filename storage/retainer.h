// storage/retainer.h - the objects of which somebody said how long they are to be kept: few, so
// they are in tables beside the index. Ends those whose time is over, and counts pinned bytes
// against their namespace's quota. Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/retention_record.h"

namespace terrace {

class Retainer {
 public:
  explicit Retainer(ChunkStore::Core& core);
  /// Begins to end objects; before that none expires.
  void start();
  void stop();

  /// A new object. Plain ones are not remembered.
  void known(uint32_t id, const Kept& kept);
  /// It is gone from the index's hash.
  void forgotten(uint32_t id);
  /// Null: plain.
  const Kept* find(uint32_t id) const;
  bool pinned(uint32_t id) const;

  /// Logical bytes that the namespace has pinned, and that its running puts will.
  uint64_t pinned_bytes(NamespaceId ns) const;
  /// kResourceExhausted: `bytes` more would be over the quota; names both.
  Status check_quota(NamespaceId ns, uint64_t bytes, uint64_t quota) const;
  /// For a running put, until release().
  void reserve(NamespaceId ns, uint64_t bytes) { pinned_[static_cast<uint32_t>(ns)] += bytes; }
  void release(NamespaceId ns, uint64_t bytes);

  /// Pins or unpins a visible object, durably where it has a durable copy, or may have one.
  /// `then(OK)`: done. It is not evicted from this call on. One after the other for each object.
  /// When it fails the object is as it was, but after a restart it may be as was asked.
  /// kResourceExhausted: the namespace would have more than `quota` bytes pinned.
  void set_pin(uint32_t id, bool pin, uint64_t quota, std::function<void(Status)> then);

 private:
  static constexpr size_t kBatch = 256;  // ended per turn
  void arm();
  void tick();
  void expire(uint32_t id);
  struct Change {
    uint64_t generation = 0;
    bool pin = false;
    uint64_t quota = 0;
    std::function<void(Status)> then;
  };
  void begin_change(uint32_t id);
  void end_change(uint32_t id, Status result);
  void set_kept(uint32_t id, bool pin);
  void write_row(uint32_t id, std::function<void(Status)> then);

  ChunkStore::Core& core_;
  std::unordered_map<uint32_t, Kept> kept_;         // by index id
  std::set<std::pair<Nanos, uint32_t>> deadlines_;  // of the store's clock
  std::unordered_map<uint32_t, Nanos> deadline_of_;
  std::unordered_map<uint32_t, uint64_t> pinned_;             // by namespace
  std::unordered_map<uint32_t, std::deque<Change>> changes_;  // by index id; the first one runs
  Timer timer_;
  bool stopped_ = true;
};
}  // namespace terrace
