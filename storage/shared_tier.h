// storage/shared_tier.h - the shared tier of a store: what it holds, loads into dram, publishes,
// and what becomes of copies that are bad. Thread-confined; all that blocks runs on the threads of
// storage/shared_calls.h.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "storage/chunk_store.h"
#include "storage/object_name.h"
#include "storage/shared_calls.h"
#include "storage/shared_object.h"
#include "storage/shared_set.h"

namespace terrace {

/// An object's bytes in memory that does not change, to be published.
struct SharedSource {
  NamespaceId ns{};
  ObjectHeader header;
  std::vector<iovec> data;                   // its sections, as publish_shared has them
  std::vector<std::shared_ptr<void>> holds;  // own that memory
};

class SharedTier {
 public:
  using Then = std::function<void(Status)>;
  SharedTier(ChunkStore::Core& core, std::shared_ptr<SharedMedium> medium);
  ~SharedTier();
  /// Begins to list. Nothing before.
  void start();
  /// Background work stops; loads that run end.
  void stop();
  /// Nothing runs but what hangs.
  bool idle() const { return calls_.idle(); }

  void know(NamespaceId ns, const NamespaceDigest& digest);
  /// As far as this node knows.
  std::optional<SharedGeneration> find(NamespaceId ns, const ChunkKey& key) const {
    return erasing_.contains({ns, key}) ? std::nullopt : set_.find(ns, key);
  }
  std::vector<ChunkKey> keys_of(NamespaceId ns, size_t limit) const {
    return set_.keys_of(ns, limit);
  }
  /// The namespace has a name that all nodes agree on, and the medium answers.
  bool works(NamespaceId ns) const { return !calls_.fenced() && knows(ns); }

  /// Has the object read into dram, verified. `then(OK)`: it is there at that moment. Loads of one
  /// key are one. Refused, counted as a miss: kNotFound (not known to be there), kUnavailable
  /// (fenced), kResourceExhausted. Ends with kNotFound, kDataLoss (quarantined), kUnavailable,
  /// kDeadlineExceeded, kResourceExhausted (no room in dram). Returns a number for cancel().
  StatusOr<uint64_t> load(NamespaceId ns, const ChunkKey& key, Then then);
  /// `then` runs with `why` on a later turn; the load goes on.
  void cancel(uint64_t waiter, StatusCode why);

  /// Publishes a new generation. `then(OK)`: it survives the loss of this node. Refused:
  /// kUnavailable, kResourceExhausted, kAborted (it is being erased: try again). One that is being
  /// published is not published twice, and only the key and the namespace of `source` are looked
  /// at. Errors: kDataLoss (this source is rotten), kAborted (it was erased meanwhile, or the
  /// source of another caller was rotten: try again), kResourceExhausted (the medium is full),
  /// kUnavailable, kDeadlineExceeded.
  Status publish(SharedSource source, SharedLane lane, Then then);
  /// It was seen to be there.
  void listed(NamespaceId ns, const ChunkKey& key, SharedGeneration generation) {
    if (!erasing_.contains({ns, key})) add_to_set({ns, key}, generation);
  }
  /// Its ttl is over here. So is that of the copy which this node published with it.
  void expired_here(NamespaceId ns, const ChunkKey& key);
  const NamespaceDigest* digest_of(NamespaceId ns) const { return set_.digest_of(ns); }
  /// As publish(), an object of this store from its fastest tier; always ends. One that is fresh
  /// and still there is not published again. kDataLoss: that copy was rotten, it is quarantined.
  void share(uint32_t id, SharedLane lane, Then then);
  bool publishing(NamespaceId ns, const ChunkKey& key) const {
    return publishing_.contains({ns, key});
  }
  bool knows(NamespaceId ns) const { return set_.digest_of(ns) != nullptr; }
  /// This node published it so short ago that no sweeper can have judged it, and knows of nobody
  /// who took it away.
  bool fresh(NamespaceId ns, const ChunkKey& key) const;
  /// For a namespace that it knows. Not known here from now on, and none of its generations is
  /// there any more when `then(OK)` runs. kNotFound: none was. Otherwise it is open whether one is
  /// left: kUnavailable, kDeadlineExceeded, kResourceExhausted.
  void erase(NamespaceId ns, const ChunkKey& key, SharedLane lane, Then then);

  /// A copy that was found damaged twice, of whichever namespace: from now on not known here, and
  /// out of everybody's sight, but kept for whoever wants to know what happened to it. `then` runs
  /// on a later turn. kNotFound: somebody else took it away. Other errors, the medium's and those
  /// of SharedCalls::start: it is still there, and the next listing knows it again.
  void set_aside(const SharedName& copy, Then then);

  /// Expected microseconds until an object is in dram.
  uint32_t load_us() const { return static_cast<uint32_t>(load_us_); }
  bool has_room(SharedLane lane) const { return calls_.has_room(lane); }
  size_t hanging() const { return calls_.hanging(); }
  SharedCalls& calls() { return calls_; }
  const std::shared_ptr<SharedMedium>& medium() const { return medium_; }
  void update_gauges();

 private:
  struct Load;
  struct Listing;
  struct Sharing;
  struct Waiter {
    uint64_t number = 0;
    Then then;
  };
  /// This node published it.
  struct Fresh {
    Nanos at{0};
    SharedGeneration generation;
    bool in_set = false;     // else the set was full
    uint32_t expires_s = 0;  // as Kept::expires_s
  };
  static constexpr size_t kLoadsMax = 256;
  static constexpr size_t kFreshMax = 65536;
  static constexpr size_t kFoldersPerCall = 32;
  static constexpr size_t kNamesPerFolderMax = 65536;
  /// Of a lane, so that demotion does not shut puts out; one object at least.
  static constexpr uint64_t kSourceBytesMax = uint64_t{256} << 20;

  // shared_loads.cc
  Status read_header(const std::shared_ptr<Load>& load);
  void header_read(const std::shared_ptr<Load>& load);
  void expired(const std::shared_ptr<Load>& load);
  void touch(const SharedName& copy, std::optional<Nanos> age);
  void bytes_read(const std::shared_ptr<Load>& load);
  void failed(const std::shared_ptr<Load>& load, const Status& why);
  void end(const std::shared_ptr<Load>& load, const Status& result);
  void miss(const Status& why);
  void forget(const SharedName& copy, DepartReason why);

  // shared_share.cc
  bool lasts(const Fresh& copy, uint32_t id) const;
  void look_again(const std::shared_ptr<Sharing>& sharing);
  void find_source(const std::shared_ptr<Sharing>& sharing);
  void read_source(const std::shared_ptr<Sharing>& sharing);
  void publish_source(const std::shared_ptr<Sharing>& sharing);
  void over_later(const std::shared_ptr<Sharing>& sharing, const Status& result);
  void shared_over(const std::shared_ptr<Sharing>& sharing, const Status& result);

  // shared_listing.cc
  void begin_pass();
  void list_namespace();
  void list_folders();
  void pass_over();

  void published(const ObjectName& name, SharedGeneration generation, uint64_t bytes,
                 const Status& said);
  bool add_to_set(const ObjectName& name, SharedGeneration generation);
  void trash_all(const ObjectName& name, SharedLane lane, Then then);
  /// As SharedCall::bytes, of a call that moves or touches an object of so many.
  uint64_t moved_bytes(uint64_t logical) const { return medium_->copies() ? logical : 0; }

  ChunkStore::Core& core_;
  const std::shared_ptr<SharedMedium> medium_;
  SharedSet set_;
  SharedCalls calls_;
  std::unordered_map<ObjectName, std::shared_ptr<Load>, ObjectNameHash> loads_;
  uint64_t next_waiter_ = 1;
  double load_us_ = 2000;
  using Erased = std::atomic<bool>;
  struct Publishing {
    std::shared_ptr<Erased> erased;  // meanwhile: its thread takes the copy away again
    uint32_t expires_s = 0;          // as Kept::expires_s
    std::vector<Then> waiting;       // the first one's source it is
    /// Begin when it is over.
    std::vector<std::function<void()>> erases;
  };
  std::unordered_map<ObjectName, Publishing, ObjectNameHash> publishing_;
  /// Publishes that were late: a thread that hangs may still bring the copy about.
  std::vector<std::pair<ObjectName, std::weak_ptr<Erased>>> late_;
  /// How many erases of it run.
  std::unordered_map<ObjectName, uint32_t, ObjectNameHash> erasing_;
  std::unordered_map<ObjectName, Fresh, ObjectNameHash> fresh_;
  std::deque<ObjectName> fresh_order_;
  uint64_t source_bytes_[2] = {0, 0};  // read from nvme to be published, by SharedLane
  std::unique_ptr<Listing> listing_;
  bool stopped_ = true;
  Timer next_pass_;
};

/// The reason that an error is counted under.
SharedFailure failure_of(const Status& why);
}  // namespace terrace
