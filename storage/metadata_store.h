// storage/metadata_store.h - the durable form of the index: the only room that knows RocksDB.
//
// A thread of its own group-commits what loops hand it and answers through the loop's mailbox;
// RocksDB never runs on a loop thread. Rows are read only at recovery.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/chunk_key.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/status.h"
#include "storage/extent_map.h"
#include "storage/object_hints.h"

namespace rocksdb {
class Env;
}

namespace terrace {

/// What must be known of a durable object without touching its header. At most 160 bytes encoded;
/// extents that do not fit are in the header only (`extents_complete` false).
struct MetadataRow {
  ChunkKey key;
  NamespaceId ns{};
  uint64_t generation = 0;
  uint64_t logical_bytes = 0;
  uint64_t stored_bytes = 0;
  uint32_t sections = 0;
  uint32_t header_crc = 0;  // of the encoded object header
  uint32_t header_bytes = 0;
  bool extents_complete = true;
  std::vector<Extent> extents;  // the first ones, in object order; enough to read the header
  std::optional<Kept> kept;     // what holds now of its retention; nothing when that is plain
  uint32_t worth = 0;           // packed, as it was said: object_hints.h
  bool operator==(const MetadataRow&) const = default;
};
inline constexpr size_t kRowKeyBytes = 36;
inline constexpr size_t kRowExtentsMax = 10;
/// A row's key: ns u32be ‖ digest.
std::string row_key(NamespaceId ns, const ChunkKey& key);
/// A row's value, docs/formats.md. Extents past kRowExtentsMax, or for which the hints leave
/// no room, are left out, and `extents_complete` is then written as false.
std::string encode_row(const MetadataRow& row);
/// kDataLoss: wrong length, version, checksum or counts.
StatusOr<MetadataRow> decode_row(std::string_view key, std::string_view value);

struct NamespaceRow {
  NamespaceId id{};
  std::string tenant;
  std::string name;
  std::string fingerprint;  // canonical bytes
  bool operator==(const NamespaceRow&) const = default;
};

class MetadataStore {
 public:
  static constexpr uint64_t kCacheBytes = uint64_t{16} << 20;
  static constexpr uint64_t kWriteBufferBytes = uint64_t{8} << 20;
  struct Options {
    std::string path;                    // directory
    uint64_t cache_bytes = kCacheBytes;  // block cache
    uint64_t write_buffer_bytes = kWriteBufferBytes;
    uint32_t queue_max = 65536;   // operations waiting for the thread
    bool sync = true;             // false only in a canary test, which must lose data
    rocksdb::Env* env = nullptr;  // tests: a file system that loses what was not synced
  };
  /// Opens or creates. kDataLoss, kUnavailable (locked by another process), kFailedPrecondition
  /// (written by a newer format). `loop` outlives this; it may be null for a tool that neither puts
  /// nor erases.
  static StatusOr<std::unique_ptr<MetadataStore>> open(const Options& options, Loop* loop);
  /// Drains what was accepted, then closes. On the loop's thread: answers that were not given yet
  /// come with its next turn.
  virtual ~MetadataStore();
  MetadataStore(const MetadataStore&) = delete;
  MetadataStore& operator=(const MetadataStore&) = delete;

  /// Visits every row; runs on the calling thread, before anything else is started. Rows that do
  /// not decode are passed to `bad` with their key's bytes.
  Status recover(const std::function<void(MetadataRow)>& visit,
                 const std::function<void(std::string_view key, const Status& why)>& bad);
  StatusOr<std::vector<NamespaceRow>> namespaces();
  /// Highest generation ever reserved; generations above it are fresh. Reserves `count` more: the
  /// caller may use result + 1 .. result + count. Durable on return; any thread.
  StatusOr<uint64_t> reserve_generations(uint64_t count);
  /// What a run erases that takes no kept memory back is still in that memory. So it says that
  /// objects up to `generation` are not to be taken from there any more; 0: nobody has said so.
  /// Durable on return; before anything else is started.
  StatusOr<uint64_t> kept_after() const;
  Status set_kept_after(uint64_t generation);

  /// From the loop's thread. `op` is done on the loop when the row is in the store, and durable
  /// when `durable`. kResourceExhausted: the queue is full.
  virtual Status put(const MetadataRow& row, bool durable, Op* op);
  /// Done when the deletion is in the WAL and durable: only then may the extents be reused. Deletes
  /// the row only while it has this generation.
  Status erase(NamespaceId ns, const ChunkKey& key, uint64_t generation, Op* op);
  /// Blocking, from a control thread: durable on return.
  Status put_namespace(const NamespaceRow& row);
  /// Resident bytes of the database: caches, write buffers, table readers. Any thread.
  uint64_t memory_bytes() const;

 protected:
  /// For one that refuses on request, made from one that works, which is not used any more.
  explicit MetadataStore(MetadataStore&& other) noexcept;

 private:
  StatusOr<uint64_t> number(std::string_view key) const;
  Status set_number(std::string_view key, uint64_t number);
  class Core;
  explicit MetadataStore(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
