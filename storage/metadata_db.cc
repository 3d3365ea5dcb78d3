#include "storage/metadata_db.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace terrace {
namespace {

constexpr std::string_view kFormatKey = "format";
constexpr uint32_t kFormat = 1;
constexpr size_t kReadAheadBytes = 2 << 20;  // of a scan
constexpr size_t kBlockBytes = 16 * 1024;
constexpr uint64_t kWalBytesMax = uint64_t{64} << 20;
constexpr int kOpenFilesMax = 64;
static_assert(MetadataStore::kCacheBytes + 2 * MetadataStore::kWriteBufferBytes <= uint64_t{32}
                                                                                       << 20,
              "what the node promises for RocksDB");

Status from(const rocksdb::Status& s) {
  if (s.ok()) return ok_status();
  StatusCode code = StatusCode::kInternal;
  if (s.IsNotFound()) {
    return StatusCode::kNotFound;  // bare: a miss allocates nothing
  } else if (s.IsNoSpace() || s.IsMemoryLimit()) {
    code = StatusCode::kResourceExhausted;
  } else if (s.IsCorruption()) {
    code = StatusCode::kDataLoss;
  } else if (s.IsIOError() || s.IsBusy() || s.IsTimedOut() || s.IsTryAgain() || s.IsIncomplete() ||
             s.IsAborted() || s.IsShutdownInProgress()) {
    code = StatusCode::kUnavailable;
  } else if (s.IsNotSupported() || s.IsInvalidArgument()) {
    code = StatusCode::kFailedPrecondition;
  }
  return error(code, "index: " + s.ToString());
}

std::string full_key(MetadataDb::Family family, std::string_view key) {
  std::string out;
  out.reserve(key.size() + 1);
  if (family == MetadataDb::Family::meta) out += MetadataDb::kMetaPrefix;
  out += key;
  return out;
}

Status closed() {
  return error(StatusCode::kUnavailable, "index: closed after an error");
}

std::shared_ptr<rocksdb::Cache> make_cache(uint64_t bytes) {
  rocksdb::LRUCacheOptions cache;
  cache.capacity = bytes;
  cache.num_shard_bits = 2;
  return rocksdb::NewLRUCache(cache);
}

rocksdb::DBOptions db_options(const MetadataStore::Options& options) {
  rocksdb::DBOptions out;
  if (options.env != nullptr) out.env = options.env;
  out.create_if_missing = true;
  // A power cut leaves a WAL whose end is torn or was never written: what was synced is before it.
  out.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  out.max_bgerror_resume_count = 0;  // heal() does it, from the beginning
  out.max_open_files = kOpenFilesMax;
  out.table_cache_numshardbits = 2;
  out.max_background_jobs = 2;
  out.max_file_opening_threads = 1;
  out.db_write_buffer_size = options.write_buffer_bytes;
  out.max_total_wal_size = kWalBytesMax;
  out.stats_dump_period_sec = 0;
  out.stats_persist_period_sec = 0;
  out.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  out.keep_log_file_num = 2;
  out.max_log_file_size = 1 << 20;
  out.skip_stats_update_on_db_open = true;
  out.compaction_readahead_size = kReadAheadBytes;
  out.writable_file_max_buffer_size = 256 * 1024;
  return out;
}

rocksdb::ColumnFamilyOptions family_options(const MetadataStore::Options& options,
                                            const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.block_size = kBlockBytes;
  table.cache_index_and_filter_blocks = true;  // so that the cache bounds them too
  table.format_version = 5;
  rocksdb::ColumnFamilyOptions out;
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  out.compression = rocksdb::kNoCompression;  // digests do not compress
  out.write_buffer_size = options.write_buffer_bytes / 2;
  out.max_write_buffer_number = 2;
  out.arena_block_size = 64 * 1024;
  out.target_file_size_base = uint64_t{16} << 20;
  out.max_bytes_for_level_base = uint64_t{64} << 20;
  return out;
}
}  // namespace

MetadataDb::MetadataDb(const MetadataStore::Options& options)
    : options_(options), cache_(make_cache(options.cache_bytes)) {}

StatusOr<std::unique_ptr<MetadataDb>> MetadataDb::open(const MetadataStore::Options& options) {
  auto out = std::unique_ptr<MetadataDb>(new MetadataDb(options));
  TERRACE_RETURN_IF_ERROR(out->reopen());
  TERRACE_RETURN_IF_ERROR(out->check_format());
  return out;
}

MetadataDb::~MetadataDb() {
  close();
}

void MetadataDb::close() {
  if (db_ == nullptr) return;
  db_->Close().PermitUncheckedError();
  db_.reset();
}

Status MetadataDb::reopen() {
  const std::unique_lock lock(mutex_);
  close();
  // Column families end as InvalidArgument: this build knows none, so a newer one wrote them.
  rocksdb::DB* db = nullptr;
  const rocksdb::Options options(db_options(options_), family_options(options_, cache_));
  const rocksdb::Status opened = rocksdb::DB::Open(options, options_.path, &db);
  broken_ = !opened.ok();
  if (!opened.ok()) {
    const Status why = from(opened);
    return error(why.code(), "open " + options_.path + ": " + why.message());
  }
  db_.reset(db);
  return ok_status();
}

Status MetadataDb::heal() {
  return broken_ ? reopen() : ok_status();
}

Status MetadataDb::check_format() {
  std::string value;
  const Status read = get(Family::meta, kFormatKey, &value);
  if (read.code() == StatusCode::kNotFound) {
    ByteWriter out;
    out.u32(kFormat);
    const std::string format = out.take();
    const Change change{Family::meta, kFormatKey, format, false};
    return write({&change, 1}, options_.sync);
  }
  TERRACE_RETURN_IF_ERROR(read);
  ByteReader in(value);
  const uint32_t format = in.u32();
  if (!in.ok() || in.left() != 0 || format == 0) {
    return error(StatusCode::kDataLoss,
                 "index: format row of " + std::to_string(value.size()) + " bytes");
  }
  if (format > kFormat) {
    return error(StatusCode::kFailedPrecondition, "index: format " + std::to_string(format) +
                                                      "; this build reads up to " +
                                                      std::to_string(kFormat));
  }
  return ok_status();
}

Status MetadataDb::get(Family family, std::string_view key, std::string* value) {
  const std::shared_lock lock(mutex_);
  if (db_ == nullptr) return closed();
  return from(db_->Get(rocksdb::ReadOptions(), full_key(family, key), value));
}

Status MetadataDb::write(std::span<const Change> changes, bool sync) {
  TERRACE_RETURN_IF_ERROR(heal());
  Status written = write_once(changes, sync);
  if (!broken_) return written;
  // Every change can be made twice, so it does not matter how far the first try came.
  TERRACE_RETURN_IF_ERROR(heal());
  return write_once(changes, sync);
}

Status MetadataDb::write_once(std::span<const Change> changes, bool sync) {
  const std::shared_lock lock(mutex_);
  if (db_ == nullptr) return closed();
  rocksdb::WriteBatch batch;
  for (const Change& change : changes) {
    const std::string key = full_key(change.family, change.key);
    const rocksdb::Slice value(change.value.data(), change.value.size());
    const rocksdb::Status added = change.erase ? batch.Delete(key) : batch.Put(key, value);
    if (!added.ok()) return from(added);
  }
  rocksdb::WriteOptions options;
  options.sync = sync;
  const rocksdb::Status written = db_->Write(options, &batch);
  if (!written.ok()) broken_ = true;  // a WAL that failed takes nothing more
  return from(written);
}

Status MetadataDb::each(
    Family family, std::string_view prefix,
    const std::function<Status(std::string_view key, std::string_view value)>& visit) {
  const std::shared_lock lock(mutex_);
  if (db_ == nullptr) return closed();
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = kReadAheadBytes;
  const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(options));
  const std::string first = full_key(family, prefix);
  for (at->Seek(first); at->Valid(); at->Next()) {
    std::string_view key = at->key().ToStringView();
    if (!key.starts_with(first)) break;
    if (family == Family::rows && key.starts_with(kMetaPrefix)) break;
    if (family == Family::meta) key.remove_prefix(1);
    TERRACE_RETURN_IF_ERROR(visit(key, at->value().ToStringView()));
  }
  return from(at->status());
}

uint64_t MetadataDb::memory_bytes() const {
  const std::shared_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || db_ == nullptr) return 0;
  uint64_t buffers = 0;
  uint64_t readers = 0;
  db_->GetAggregatedIntProperty(rocksdb::DB::Properties::kSizeAllMemTables, &buffers);
  db_->GetAggregatedIntProperty(rocksdb::DB::Properties::kEstimateTableReadersMem, &readers);
  return buffers + readers + cache_->GetUsage();
}
}  // namespace terrace
