// client/views.h - the views that an engine holds: where their bytes are mapped, and whether they
// may still be believed. Thread-safe.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "client/device_memory.h"
#include "client/terrace.h"
#include "transport/shm_memory.h"
#include "transport/transport.h"

namespace terrace {

class Views {
 public:
  /// What keeps a view readable, and what it must be checked against.
  struct Held {
    ChunkKey key;
    std::vector<std::shared_ptr<const ShmMapping>> mappings;
    std::shared_ptr<const OpenDevice> device;  // null: the sections lie in the mappings
    const std::byte* word = nullptr;           // inside the first mapping
    uint64_t generation = 0;
    uint64_t node_id = 0;  // the node's name for it
    std::shared_ptr<std::atomic<bool>> session_gone = std::make_shared<std::atomic<bool>>(false);
    PeerId peer{};
    std::vector<ViewedSection> sections;
    std::vector<uint32_t> crcs;
  };
  ViewId add(Held held);
  /// Whether what was read of the view before this call were the object's bytes.
  bool valid(ViewId view) const;
  /// Reads all of it. kDataLoss: a unit's checksum differs; kAborted: revoked; kNotFound;
  /// kUnavailable: the device says no.
  Status verify(ViewId view) const;
  /// The session is over: its views are not valid any more.
  void session_gone(PeerId peer);
  /// Forgets it; what to tell the node. Null: not held.
  std::shared_ptr<const Held> release(ViewId view);

  // As in Client.
  std::vector<ViewMemory> memory() const;
  uint64_t memory_version() const;

 private:
  /// Where views lie. Expires with the transport's use of it and the last view; what an engine
  /// holds does not count.
  struct Seen {
    uint64_t id = 0;
    std::weak_ptr<const ShmMapping> mapping;
  };
  void see(const Held& held);  // under mutex_
  void forget_gone() const;    // under mutex_
  std::shared_ptr<const Held> find(ViewId view) const;
  static bool valid(const Held& held);
  static Status check_units(const Held& held);

  mutable std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<const Held>> held_;  // guarded by mutex_
  uint64_t next_ = 1;                                     // guarded by mutex_
  uint64_t next_memory_ = 1;                              // guarded by mutex_
  mutable std::vector<Seen> seen_;                        // guarded by mutex_
  mutable uint64_t memory_version_ = 1;                   // guarded by mutex_
};
}  // namespace terrace
