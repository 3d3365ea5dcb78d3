// storage/hbm_tier.h - copies of the hottest objects in device memory (kernels/accelerator.h).
//
// A copy here is never the only one: it is made from verified bytes in dram when an object is used
// and worth more than what would have to leave, and goes with the object. So dropping one costs
// nothing, nothing here has to survive anything, and whatever fails here - a checksum, a copy, the
// device - costs the copy: the reader gets its bytes from nvme. What is here spares a read from
// nvme once dram has dropped the object. All tenants share the space by value; or it is one
// tenant's alone, and then processes of that tenant may read it for themselves.
// Thread-confined.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/limits.h"
#include "base/loop.h"
#include "kernels/accelerator.h"
#include "storage/arena.h"
#include "storage/chunk_store.h"
#include "storage/device_view.h"
#include "storage/extent_map.h"
#include "storage/hbm_transfers.h"
#include "storage/tier_pass.h"

namespace terrace {

class HbmSpace;  // storage/hbm_space.h

class HbmTier {
 public:
  using Then = std::function<void(Status)>;

  HbmTier(ChunkStore::Core& core, std::shared_ptr<Accelerator> accelerator);
  /// Copies of a device that hangs are left to it: what they touch must then rest for ever. So is
  /// memory that is lent.
  ~HbmTier();
  /// Takes config.hbm_bytes of the device. kResourceExhausted: it has not so much; says what to do.
  Status open();
  /// Takes pass->target of the device instead, in units of 2 MiB; ends with pass->over. All copies
  /// go, as they may at any time, and come back as they are used; the loop waits while the device
  /// makes the memory. What is lent of it is called back, and waited for. kInvalidArgument: not 2
  /// MiB to 1 TiB; kResourceExhausted: another one runs, or (in pass->result; the tier is as large
  /// as before) the device has not so much; kUnavailable: the tier does not work.
  Status resize(std::shared_ptr<ResizePass> pass);
  /// Starts nothing any more.
  void stop();
  /// No copy runs, but those that hang.
  bool idle() const { return transfers_.running() == hanging(); }
  /// Copies past their deadline that may still touch memory.
  size_t hanging() const { return transfers_.hanging(); }
  /// False after a device error that will not pass, or while a copy hangs.
  bool works() const { return transfers_.works(); }

  bool has(uint32_t id) const { return copies_.contains(id); }
  /// How much of the stored object lies here, from its start; 0: nothing.
  uint64_t bytes_of(uint32_t id) const;
  bool has_all(uint32_t id) const;
  /// A read that ends at byte `end` of the stored object may be started: that lies here, and not so
  /// many run that a device which hangs could keep more than a quarter of the staging buffers.
  bool serves(uint32_t id, uint64_t end) const;
  /// `id` was used: gets a copy here when it is worth it and its bytes are in dram. When there is
  /// no room for all of it, of its first sections: these are needed first, and while they are
  /// fetched the rest comes from nvme.
  void used(uint32_t id);
  /// The object goes, or another copy of it was bad: nobody reads this one any more.
  void drop(uint32_t id);
  /// The bytes of this copy failed a check: drops it, and uses its space no more.
  void damaged(uint32_t id);
  /// [offset, offset + all of `into`) of the stored object, unverified; `hold` keeps `into` alive,
  /// for longer than `then` when the device hangs. serves() all of it. `then`, on a later turn: OK,
  /// or kUnavailable, kDeadlineExceeded: the copy was dropped, read another.
  void read(uint32_t id, uint64_t offset, std::span<const iovec> into, std::shared_ptr<void> hold,
            Then then);
  /// As ChunkStore::keep_hbm_for.
  void keep_for(DomainId domain);
  /// As ChunkStore::device_view. `header`, `layout`: the object's.
  StatusOr<DeviceView> view(uint32_t id, const ObjectHeader& header, const ObjectLayout& layout);
  /// What is lent is called back. Nothing new is lent of that loan.
  void take_back();
  /// Host memory that copies will touch, when it comes and before it goes.
  void host_memory(std::span<std::byte> memory, bool present);

  uint64_t capacity_bytes() const { return map_ == nullptr ? 0 : map_->capacity_bytes(); }
  uint64_t free_bytes() const { return map_ == nullptr ? 0 : map_->free_bytes(); }
  uint64_t objects() const { return copies_.size(); }

  static constexpr uint32_t kList = 0;  // of the policy

 private:
  static constexpr uint32_t kCopiesInMax = 4;
  static constexpr size_t kVictimsMax = 1024;       // of one copy that comes
  static constexpr uint64_t kFirstBytesMin = kMiB;  // of first sections: less is no help

  void drop_all();
  /// For all of `id` or, from what is free, its first sections. Null: there is none.
  std::shared_ptr<HbmSpace> room_for(uint32_t id, const ArenaSpace& source);
  /// Evicts what is worth less than `id`. Null: there is not enough of that.
  std::shared_ptr<HbmSpace> room_for_all(uint32_t id);
  std::shared_ptr<HbmSpace> room_for_first(uint32_t id, const ArenaSpace& source);
  Status make_slab(uint64_t bytes);
  void resize_when_idle();
  void end_resize(const Status& result);
  Status make_loan();
  void came(uint32_t id, uint64_t generation, const std::shared_ptr<HbmSpace>& space,
            const Status& result);

  ChunkStore::Core& core_;
  std::shared_ptr<Accelerator> accelerator_;
  std::unique_ptr<DeviceSlab> slab_;
  std::shared_ptr<ExtentMap> map_;  // spaces of hanging copies may outlive this
  std::unordered_map<uint32_t, std::shared_ptr<HbmSpace>> copies_;  // by object
  std::unordered_map<uint32_t, bool> coming_;                       // false: dropped on its way
  HbmTransfers transfers_;
  size_t reading_ = 0;
  bool stopped_ = false;
  std::shared_ptr<ResizePass> resizing_;  // null: it keeps its size; else no copies come in
  Timer resize_timer_;
  DomainId only_for_ = kNobody;             // kNobody: copies of all
  std::shared_ptr<const DeviceLoan> loan_;  // null: nothing is lent, or it was called back
  uint64_t last_loan_ = 0;
  const std::shared_ptr<const void> lent_ = std::make_shared<int>();  // each loan holds one
};
}  // namespace terrace
