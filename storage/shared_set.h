// storage/shared_set.h - what the shared tier holds, as far as this node knows: filled from
// listings, and by what the node does itself. About 70 bytes for each object. Thread-confined.
//
// It may be behind what other nodes do. Whoever relies on an entry finds out by opening the copy.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/chunk_key.h"
#include "storage/shared_names.h"

namespace terrace {

class SharedSet {
 public:
  /// One folder of a namespace, built from its listing on whatever thread.
  struct Folder {
    std::unordered_map<ChunkKey, SharedGeneration, ChunkKeyHash> names;  // the highest of each
    uint64_t bytes = 0;
    void add(const ChunkKey& key, SharedGeneration generation);
    /// True when exactly this generation was there.
    bool remove(const ChunkKey& key, SharedGeneration generation);
  };
  explicit SharedSet(uint64_t objects_max) : objects_max_(objects_max) {}

  /// From now on the set knows this namespace.
  void know(NamespaceId ns, const NamespaceDigest& digest);
  /// Null: not known.
  const NamespaceDigest* digest_of(NamespaceId ns) const;
  /// The other way round, by looking at all: not for every read.
  std::vector<NamespaceId> namespaces_of(const NamespaceDigest& digest) const;
  std::vector<NamespaceId> namespaces() const;

  std::optional<SharedGeneration> find(NamespaceId ns, const ChunkKey& key) const;
  /// At most `limit`, in no order.
  std::vector<ChunkKey> keys_of(NamespaceId ns, size_t limit) const;
  /// False: the set is full, and does not know the copy; or it does not know the namespace.
  bool add(NamespaceId ns, const ChunkKey& key, SharedGeneration generation);
  /// Exactly this generation; an other one stays.
  void remove(NamespaceId ns, const ChunkKey& key, SharedGeneration generation);

  /// A listing begins: what add() and remove() do from here on is done once more to what it brings.
  void listing_begins() { changes_.clear(); }
  /// The folder is what was listed, with later changes. False: more than objects_max, and it stayed
  /// as it was.
  bool replace(NamespaceId ns, uint32_t folder, Folder listed);
  /// Only these folders of the namespace exist; sorted.
  void keep_only(NamespaceId ns, const std::vector<uint32_t>& folders);

  uint64_t objects() const { return objects_; }
  uint64_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kChangesMax = 16384;  // older ones wait for the next listing
  struct Names {
    NamespaceDigest digest;
    std::unordered_map<uint32_t, Folder> folders;
  };
  struct Change {
    NamespaceId ns{};
    ChunkKey key;
    SharedGeneration generation;
    bool added = false;
  };
  void count(const Folder& folder, bool in);
  void record(const Change& change);

  const uint64_t objects_max_;
  uint64_t objects_ = 0;
  uint64_t bytes_ = 0;
  std::unordered_map<uint32_t, Names> namespaces_;
  std::deque<Change> changes_;  // since the listing that runs began
};
}  // namespace terrace
