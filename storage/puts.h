// storage/puts.h - the puts that run: who writes which key, and who waits for whom.
// Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "storage/chunk_store.h"
#include "storage/object_name.h"
#include "storage/persister.h"

namespace terrace {

/// One put, from its admission to its commit. Shared by its writer and the steps that run for it,
/// so that a writer may go at any time.
struct Put {
  PutSpec spec;
  ObjectHeader header;
  uint64_t header_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t logical_bytes = 0;
  std::shared_ptr<ArenaSpace> space;  // null while it waits for another put of its key
  std::shared_ptr<EarlyWrite> early;  // of a durable put, when the device has room at once
  std::vector<bool> landed;           // by unit of the object
  uint32_t missing = 0;
  Op* op = nullptr;      // of open_writer or commit, while it runs
  bool counted = false;  // among the puts in flight
  bool committing = false;
};

class Puts {
 public:
  explicit Puts(ChunkStore::Core& core) : core_(core) {}
  /// As ChunkStore::open_writer.
  StatusOr<std::shared_ptr<Put>> open(PutSpec spec, Op* op);
  Status landed(Put& put, uint32_t section, uint32_t first_unit, std::span<const uint32_t> crcs);
  Status commit(const std::shared_ptr<Put>& put, Op* op);
  /// Out of its line, when it waits in one: its op is done with kCancelled.
  void cancel_wait(const std::shared_ptr<Put>& put);
  /// The writer is gone: a put that does not commit yet is over.
  void abandon(const std::shared_ptr<Put>& put);
  uint32_t in_flight() const { return in_flight_; }
  /// A put of this object is under way, and may make it visible.
  bool writing(const ObjectName& name) const { return lines_.contains(name); }

 private:
  struct Line {  // one key
    std::shared_ptr<Put> first;
    std::deque<std::shared_ptr<Put>> waiting;
  };
  Status validate(const PutSpec& spec) const;
  uint32_t readable(const PutSpec& spec) const;
  Durability durability_of(const PutSpec& spec) const;
  Status check_durability(const PutSpec& spec) const;
  Status check_quota(const Put& put) const;
  Status take_space(Put& put);
  Status no_room(const Put& put) const;
  /// Zeroes between the end of the section and the next sector.
  static void pad(const Put& put, const ObjectLayout& layout, uint32_t section);
  /// The object is visible: what does that mean for this put?
  void answer_duplicate(const std::shared_ptr<Put>& put, uint32_t id);
  void commit_shared(const std::shared_ptr<Put>& put);
  void publish(const std::shared_ptr<Put>& put, const NvmeCopy* copy);
  /// The first of a line is over: those behind it are answered, or the next takes over.
  void over(const std::shared_ptr<Put>& put);
  void finish(const std::shared_ptr<Put>& put, Status result);
  void forget(Put& put);

  ChunkStore::Core& core_;
  std::unordered_map<ObjectName, Line, ObjectNameHash> lines_;
  uint32_t in_flight_ = 0;
};
}  // namespace terrace
