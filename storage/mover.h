// storage/mover.h - objects between tiers in the background: write-back to nvme, promotion to dram.
// Thread-confined.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/limits.h"
#include "storage/chunk_store.h"
#include "storage/object_io.h"
#include "storage/persister.h"

namespace terrace {

class Mover {
 public:
  explicit Mover(ChunkStore::Core& core) : core_(core) {}

  /// Has a memory-only object written to nvme; nothing when that is done or under way. `urgent`:
  /// before those that wait.
  void write_back(uint32_t id, bool urgent);
  /// The same, not urgent, for an object that just came: when it is worth it.
  void write_through(uint32_t id);
  /// What writes an object that lies in dram, verified, to nvme; `done` is the caller's. kDataLoss:
  /// its header is damaged.
  StatusOr<PersistSpec> write_of(uint32_t id, bool durable, IoPriority priority) const;
  /// `then(OK)` when the object survives a power cut.
  void make_durable(uint32_t id, std::function<void(Status)> then);
  /// The object was dropped: nobody waits for it any longer.
  void gone(uint32_t id);
  /// Has an object read into dram, if there is room for it.
  void promote(uint32_t id);
  /// The same; `then(OK)`: it is in dram. Errors: kResourceExhausted (no room), kNotFound,
  /// kUnavailable (closing), the device's.
  void promote(uint32_t id, std::function<void(Status)> then);
  /// Its row is gone, and it may get another one: who waits for that is served.
  void may_write(uint32_t id);
  /// Queues every memory-only object, once; for close.
  void write_back_all();
  /// It came into dram, or will not: those who wait for that hear of it.
  void arrived(uint32_t id, const Status& result);
  void stop_promotions();
  /// Write-back has not caught up for a while: the device is slower than the puts.
  bool behind() const;
  bool idle() const { return writing_ == 0 && promoting_ == 0 && write_queue_.empty(); }

 private:
  static constexpr uint32_t kWritesMax = 8;  // jobs: an object, or a batch of small ones
  static constexpr uint64_t kSmallBytes = 256 * kKiB;
  static constexpr uint64_t kBatchBytes = kMiB;
  static constexpr uint32_t kPromotionsMax = 2;
  static constexpr size_t kPromotionQueueMax = 1024;
  static constexpr Nanos kBehindAfter = milliseconds(200);
  struct Item {
    uint32_t id = 0;
    uint64_t generation = 0;
  };
  struct Promotion;
  struct Batch;

  void pump_writes();
  bool still_wanted(const Item& item);
  void pump_promotions();
  void start_write(uint32_t id, bool durable, IoPriority priority);
  void write(uint32_t id, bool durable, IoPriority priority);
  void write_done(uint32_t id, StatusOr<NvmeCopy> result);
  /// One object is written, or could not be, alone or in a batch.
  void written(uint32_t id, StatusOr<NvmeCopy> result);
  bool small(const Item& item) const;
  size_t batch_size() const;
  bool start_batch(size_t count);
  void gather(Batch* batch);
  void write_batch(const std::shared_ptr<Batch>& batch);
  void batch_failed(const std::shared_ptr<Batch>& batch, const Status& why);
  void put_rows(const std::shared_ptr<Batch>& batch);
  void row_put(uint32_t id, uint64_t generation, const std::shared_ptr<NvmeSpace>& space,
               uint32_t header_crc, const Status& result);
  void start_promotion(uint32_t id);
  void check_promoted(const std::shared_ptr<Promotion>& promotion);
  void end_promotion(const std::shared_ptr<Promotion>& promotion, const Status& result);

  ChunkStore::Core& core_;
  std::deque<Item> write_queue_;
  Nanos caught_up_{0};  // when the write queue was empty last
  std::deque<Item> promotions_;
  uint32_t running_ = 0;  // jobs that write
  uint32_t writing_ = 0;  // their objects, until their rows are there
  std::vector<std::shared_ptr<SectorMemory>> batch_memory_;  // of batches that are over
  bool pump_pending_ = false;
  uint32_t promoting_ = 0;
  std::unordered_map<uint32_t, std::vector<std::function<void(Status)>>> waiting_;   // for a write
  std::unordered_map<uint32_t, std::vector<std::function<void(Status)>>> arriving_;  // in dram
};
}  // namespace terrace
