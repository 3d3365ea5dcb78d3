#include "storage/metadata_store.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "storage/metadata_db.h"

namespace terrace {
namespace {

constexpr std::string_view kGenerationsKey = "generations";
constexpr std::string_view kKeptAfterKey = "kept_after";
constexpr std::string_view kNamespacePrefix = "ns/";
constexpr size_t kBatchMax = 4096;  // operations in one commit
constexpr std::chrono::milliseconds kMailboxRetry{1};
constexpr uint8_t kNamespaceVersion = 1;
constexpr size_t kNamespaceTextMax = 1 << 20;

std::string namespace_key(NamespaceId id) {
  ByteWriter out;
  out.raw(kNamespacePrefix);
  out.u32(static_cast<uint32_t>(id));
  return out.take();
}

std::string encode_namespace(const NamespaceRow& row) {
  ByteWriter out;
  out.u8(kNamespaceVersion);
  out.u32(static_cast<uint32_t>(row.id));
  out.text(row.tenant);
  out.text(row.name);
  out.text(row.fingerprint);
  return out.take();
}

StatusOr<NamespaceRow> decode_namespace(std::string_view value) {
  ByteReader in(value);
  if (in.u8() != kNamespaceVersion) return error(StatusCode::kDataLoss, "namespace row: version");
  NamespaceRow row;
  row.id = static_cast<NamespaceId>(in.u32());
  row.tenant = in.text(kNamespaceTextMax);
  row.name = in.text(kNamespaceTextMax);
  row.fingerprint = in.text(kNamespaceTextMax);
  if (!in.ok() || in.left() != 0) return error(StatusCode::kDataLoss, "namespace row: length");
  return row;
}

/// Results on their way to the loop. Outlives the store, because a task in the loop's mailbox may.
struct Answers {
  std::mutex mutex;
  std::vector<std::pair<Op*, Status>> ready;  // guarded by mutex
  bool posted = false;                        // guarded by mutex: a task is in the mailbox
};

void deliver(const std::shared_ptr<Answers>& answers) {
  std::vector<std::pair<Op*, Status>> ready;
  {
    const std::lock_guard lock(answers->mutex);
    ready.swap(answers->ready);
    answers->posted = false;
  }
  for (auto& [op, result] : ready) op->done(std::move(result));
}
}  // namespace

/// The database, the queue in front of it, and the thread between them.
class MetadataStore::Core {
 public:
  Core(const Options& options, std::unique_ptr<MetadataDb> db, Loop* loop)
      : options_(options), db_(std::move(db)), loop_(loop), thread_([this] { run(); }) {}

  ~Core() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
    // The mailbox was full to the last: the loop's own queue takes what is left.
    const std::lock_guard lock(answers_->mutex);
    if (answers_->posted) return;
    for (auto& [op, result] : answers_->ready) loop_->defer(op, std::move(result));
    answers_->ready.clear();
  }

  Status submit(std::string key, std::string value, uint64_t generation, bool durable, Op* op) {
    TERRACE_CHECK(loop_ != nullptr);
    {
      const std::lock_guard lock(mutex_);
      if (queue_.size() >= options_.queue_max) {
        return error(StatusCode::kResourceExhausted,
                     "index queue full at " + std::to_string(options_.queue_max));
      }
      queue_.push_back({std::move(key), std::move(value), generation, durable, op});
    }
    changed_.notify_one();
    return ok_status();
  }

  MetadataDb& db() { return *db_; }
  bool sync() const { return options_.sync; }
  std::mutex& generations_mutex() { return generations_mutex_; }

 private:
  /// A put, or an erase when `value` is empty.
  struct Change {
    std::string key;
    std::string value;
    uint64_t generation = 0;
    bool durable = false;
    Op* op = nullptr;
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      const auto due = [this] { return stopping_ || !queue_.empty(); };
      if (unposted_) {
        changed_.wait_for(lock, kMailboxRetry, due);
      } else {
        changed_.wait(lock, due);
      }
      std::vector<Change> group;
      if (queue_.size() <= kBatchMax) {
        group.swap(queue_);
      } else {
        const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(kBatchMax);
        group.assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
        queue_.erase(queue_.begin(), end);
      }
      const bool last = stopping_ && queue_.empty();
      lock.unlock();
      if (!group.empty()) commit(group);
      post();
      lock.lock();
      if (last && queue_.empty()) return;
    }
  }

  /// One write, and one sync when any of the group asked for it.
  void commit(std::vector<Change>& group) {
    using enum MetadataDb::Family;
    std::vector<MetadataDb::Change> batch;
    batch.reserve(group.size());
    std::unordered_map<std::string_view, uint64_t> pending;  // generations in this batch; 0: erased
    bool durable = false;
    (void)db_->heal();  // when it fails, so do the reads and the write
    std::vector<Status> results(group.size());
    std::vector<bool> writes(group.size(), true);
    for (size_t i = 0; i < group.size(); ++i) {
      Change& change = group[i];
      if (change.value.empty()) {
        const auto here = pending.find(change.key);
        StatusOr<uint64_t> generation = here != pending.end()
                                            ? StatusOr<uint64_t>(here->second)
                                            : generation_of(change.key, change.generation);
        if (!generation.ok()) {
          results[i] = generation.status();
          writes[i] = false;
          continue;
        }
        // Another generation's row stays; all the same what was read must be durable before the
        // extents of the old one are used again.
        if (*generation == change.generation) {
          batch.push_back({rows, change.key, {}, true});
          pending[change.key] = 0;
        }
        durable = true;
      } else {
        batch.push_back({rows, change.key, change.value, false});
        pending[change.key] = change.generation;
        durable = durable || change.durable;
      }
    }
    const Status written = db_->write(batch, durable && options_.sync);
    const std::lock_guard lock(answers_->mutex);
    for (size_t i = 0; i < group.size(); ++i) {
      answers_->ready.emplace_back(group[i].op, writes[i] ? written : results[i]);
    }
  }

  /// Generation of the row in the database; 0 when there is none. A row that does not decode must
  /// go as well, so it counts as the one that is `wanted`.
  StatusOr<uint64_t> generation_of(const std::string& key, uint64_t wanted) {
    std::string value;
    const Status read = db_->get(MetadataDb::Family::rows, key, &value);
    if (read.code() == StatusCode::kNotFound) return uint64_t{0};
    TERRACE_RETURN_IF_ERROR(read);
    const StatusOr<MetadataRow> row = decode_row(key, value);
    return row.ok() ? row->generation : wanted;
  }

  /// A full mailbox loses nothing: the answers wait here, and the thread comes back to them.
  void post() {
    const std::lock_guard lock(answers_->mutex);
    unposted_ = false;
    if (answers_->posted || answers_->ready.empty()) return;
    const std::shared_ptr<Answers> answers = answers_;
    answers_->posted = loop_->post([answers] { deliver(answers); }).ok();
    unposted_ = !answers_->posted;
  }

  const Options options_;
  const std::unique_ptr<MetadataDb> db_;
  Loop* const loop_;
  const std::shared_ptr<Answers> answers_ = std::make_shared<Answers>();
  std::mutex generations_mutex_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Change> queue_;  // guarded by mutex_
  bool stopping_ = false;      // guarded by mutex_
  bool unposted_ = false;      // the thread's own
  std::thread thread_;         // last: it uses all of the above
};

StatusOr<std::unique_ptr<MetadataStore>> MetadataStore::open(const Options& options, Loop* loop) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<MetadataDb> db, MetadataDb::open(options));
  return std::unique_ptr<MetadataStore>(
      new MetadataStore(std::make_unique<Core>(options, std::move(db), loop)));
}

MetadataStore::MetadataStore(std::unique_ptr<Core> core) : core_(std::move(core)) {}
MetadataStore::MetadataStore(MetadataStore&& other) noexcept : core_(std::move(other.core_)) {}
MetadataStore::~MetadataStore() = default;

Status MetadataStore::recover(
    const std::function<void(MetadataRow)>& visit,
    const std::function<void(std::string_view key, const Status& why)>& bad) {
  return core_->db().each(MetadataDb::Family::rows, {},
                          [&](std::string_view key, std::string_view value) {
                            StatusOr<MetadataRow> row = decode_row(key, value);
                            if (row.ok()) {
                              visit(std::move(*row));
                            } else {
                              bad(key, row.status());
                            }
                            return ok_status();
                          });
}

StatusOr<std::vector<NamespaceRow>> MetadataStore::namespaces() {
  std::vector<NamespaceRow> out;
  TERRACE_RETURN_IF_ERROR(core_->db().each(MetadataDb::Family::meta, kNamespacePrefix,
                                           [&](std::string_view, std::string_view value) {
                                             StatusOr<NamespaceRow> row = decode_namespace(value);
                                             if (row.ok()) out.push_back(std::move(*row));
                                             return row.status();
                                           }));
  return out;
}

StatusOr<uint64_t> MetadataStore::number(std::string_view key) const {
  std::string value;
  const Status read = core_->db().get(MetadataDb::Family::meta, key, &value);
  if (read.code() == StatusCode::kNotFound) return uint64_t{0};
  TERRACE_RETURN_IF_ERROR(read);
  ByteReader in(value);
  const uint64_t number = in.u64();
  if (!in.ok() || in.left() != 0) return error(StatusCode::kDataLoss, std::string(key));
  return number;
}

Status MetadataStore::set_number(std::string_view key, uint64_t number) {
  ByteWriter out;
  out.u64(number);
  const std::string bytes = out.take();
  const MetadataDb::Change change{MetadataDb::Family::meta, key, bytes, false};
  return core_->db().write({&change, 1}, core_->sync());
}

StatusOr<uint64_t> MetadataStore::reserve_generations(uint64_t count) {
  const std::lock_guard lock(core_->generations_mutex());
  TERRACE_ASSIGN_OR_RETURN(const uint64_t highest, number(kGenerationsKey));
  TERRACE_RETURN_IF_ERROR(set_number(kGenerationsKey, highest + count));
  return highest;
}

StatusOr<uint64_t> MetadataStore::kept_after() const {
  return number(kKeptAfterKey);
}

Status MetadataStore::set_kept_after(uint64_t generation) {
  return set_number(kKeptAfterKey, generation);
}

Status MetadataStore::put(const MetadataRow& row, bool durable, Op* op) {
  TERRACE_CHECK(static_cast<uint32_t>(row.ns) < 0xFF000000);  // MetadataDb::kMetaPrefix
  return core_->submit(row_key(row.ns, row.key), encode_row(row), row.generation, durable, op);
}

Status MetadataStore::erase(NamespaceId ns, const ChunkKey& key, uint64_t generation, Op* op) {
  return core_->submit(row_key(ns, key), {}, generation, true, op);
}

Status MetadataStore::put_namespace(const NamespaceRow& row) {
  const std::string key = namespace_key(row.id);
  const std::string bytes = encode_namespace(row);
  const MetadataDb::Change change{MetadataDb::Family::meta, key, bytes, false};
  return core_->db().write({&change, 1}, core_->sync());
}

uint64_t MetadataStore::memory_bytes() const {
  return core_->db().memory_bytes();
}
}  // namespace terrace
