// storage/metadata_db.h - RocksDB as the metadata store uses it: opened within its memory bound,
// its errors in our words. Included by storage/metadata_*.cc only. Thread-safe.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/metadata_store.h"

namespace rocksdb {
class Cache;
class DB;
}  // namespace rocksdb

namespace terrace {

class MetadataDb {
 public:
  /// Kept apart by their keys. Not column families: those make RocksDB 7.8 sync a finished WAL in
  /// the background, and abort when that fails twice (Debian builds it with its assertions).
  enum class Family : uint8_t {
    meta = 0,  // format, generations, namespaces: keys with kMetaPrefix in front
    rows = 1,  // objects: keys that start with a namespace, below kMetaPrefix
  };
  static constexpr char kMetaPrefix = '\xFF';
  /// The bytes live until write() returned.
  struct Change {
    Family family = Family::rows;
    std::string_view key;
    std::string_view value;
    bool erase = false;
  };
  /// As MetadataStore::open.
  static StatusOr<std::unique_ptr<MetadataDb>> open(const MetadataStore::Options& options);
  ~MetadataDb();

  /// kNotFound: no such key.
  Status get(Family family, std::string_view key, std::string* value);
  /// All or nothing; what failed may all the same be found after a restart. kResourceExhausted: no
  /// space. kDataLoss, kUnavailable: the medium.
  Status write(std::span<const Change> changes, bool sync);
  /// An error that RocksDB does not come back from by itself ends with opening the database again,
  /// here and in write(). Costs nothing while all is well.
  Status heal();
  /// Visits the keys that start with `prefix`, in order, without filling the cache; ends with the
  /// first error of `visit`.
  Status each(Family family, std::string_view prefix,
              const std::function<Status(std::string_view key, std::string_view value)>& visit);
  /// 0 while the database is being opened again.
  uint64_t memory_bytes() const;

 private:
  explicit MetadataDb(const MetadataStore::Options& options);
  Status reopen();
  void close();
  Status check_format();
  Status write_once(std::span<const Change> changes, bool sync);

  const MetadataStore::Options options_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  mutable std::shared_mutex mutex_;  // exclusive: the database is exchanged
  std::unique_ptr<rocksdb::DB> db_;  // null: the last try to open it failed
  std::atomic<bool> broken_{false};
};
}  // namespace terrace
