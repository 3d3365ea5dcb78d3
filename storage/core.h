// storage/core.h - what the operations of a store share: the index, the tiers' space, and the life
// of an entry from publish to release. Each operation has a file of its own (reader.cc, puts,
// persister, mover, evictor, scrubber, verifier, slab_balancer, recovery.cc, take_back.cc).
// Thread-confined; not seen outside the room.
#pragma once
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/gate.h"
#include "storage/arena.h"
#include "storage/calls.h"
#include "storage/chunk_store.h"
#include "storage/departures.h"
#include "storage/dram_resizer.h"
#include "storage/evictor.h"
#include "storage/hbm_tier.h"
#include "storage/index.h"
#include "storage/mover.h"
#include "storage/nvme_admission.h"
#include "storage/nvme_resizer.h"
#include "storage/nvme_tier.h"
#include "storage/persister.h"
#include "storage/policy/placement_policy.h"
#include "storage/puts.h"
#include "storage/retainer.h"
#include "storage/row_queue.h"
#include "storage/scrubber.h"
#include "storage/shared_demoter.h"
#include "storage/shared_generations.h"
#include "storage/shared_sweeper.h"
#include "storage/shared_tier.h"
#include "storage/shared_verifier.h"
#include "storage/slab_balancer.h"
#include "storage/slab_registry.h"
#include "storage/staging.h"
#include "storage/trimmer.h"
#include "storage/use_recorder.h"
#include "storage/verifier.h"

namespace terrace {

/// What a published object is.
struct ObjectFacts {
  ChunkKey key;
  NamespaceId ns{};
  uint64_t generation = 0;
  uint64_t logical_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t header_bytes = 0;
  uint32_t sections = 0;
  uint32_t worth = 0;  // packed: object_hints.h
  std::optional<Kept> kept;
  bool found_again = false;  // an earlier run had it, too
};

class ChunkStore::Core {
 public:
  using Then = std::function<void(Status)>;

  Core(const StoreConfig& store_config, Loop* its_loop, std::vector<NvmeDevice> its_devices,
       MetadataStore* its_metadata);
  ~Core();
  /// Memory, recovery, background work. Errors: ChunkStore::open's.
  Status open(SlabKeeping keeping);
  void close(Op* op);

  bool has_nvme() const { return !devices.empty(); }
  /// An nvme tier is there and some device of it answers.
  bool nvme_works() const { return has_nvme() && nvme->works(); }
  bool closing() const { return gate.closed(); }
  void defer(Op* op, Status result) { loop->defer(op, std::move(result)); }
  /// Runs `task` on a later turn; the store stays until then.
  void later(std::function<void()> task);

  /// Whose slabs the objects of a namespace lie in.
  DomainId domain_of(NamespaceId ns) const;
  void assign_domain(NamespaceId ns, DomainId domain);

  // Entries.

  /// kNoEntry when it is not visible.
  uint32_t find(NamespaceId ns, const ChunkKey& key) const { return index.find(ns, key); }
  /// Makes an object visible; it lies nowhere yet.
  uint32_t publish(const ObjectFacts& facts);
  /// Writes `header` in front of the bytes that are in `space`, and makes the object visible. One
  /// of its name that nobody could read when those bytes began to come gives way, now that they are
  /// safe.
  uint32_t publish_in_dram(const ObjectHeader& header, uint64_t header_bytes,
                           const std::shared_ptr<ArenaSpace>& space);
  void attach_dram(uint32_t id, std::shared_ptr<ArenaSpace> space);
  /// Null when the object is not in dram.
  const std::shared_ptr<ArenaSpace>& dram_of(uint32_t id) const;
  void drop_dram(uint32_t id);
  /// The row is written; the index takes the extents over.
  void attach_nvme(uint32_t id, const NvmeCopy& copy);
  /// The nvme copy is bad and another one is in dram: forgets it and has it written anew.
  void detach_nvme(uint32_t id);
  /// The index knows no nvme copy any more, another one is in dram; its extents are the caller's.
  /// `then` when the row is gone, or could not be deleted; the object is still pinned then.
  void take_off_nvme(uint32_t id, Then then);
  ObjectInfo info_of(uint32_t id) const;
  /// The nvme copy goes to another device than the one it is on, by way of dram: there is one at
  /// any time. `then`, on a later turn: kNotFound, kFailedPrecondition (a write of it runs),
  /// kResourceExhausted (no room in dram or on the others), the device's errors.
  void relocate(uint32_t id, Then then);
  /// False: there is none, or its only copy lies on a device that is missing or does not answer.
  bool reachable(uint32_t id) const;

  void pin(uint32_t id) { ++index[id].pins; }
  void unpin(uint32_t id);
  /// The shared tier has it too, as far as this node knows.
  bool in_shared(const IndexEntry& entry) const {
    return shared != nullptr && shared->find(entry.ns, entry.key).has_value();
  }
  /// Invisible at once. The row is deleted, and when that is durable and the last pin is gone, the
  /// space is free; or, with `withhold`, is not used again. `gone` runs when it cannot come back.
  void doom(uint32_t id, bool withhold, Then gone);
  /// As ChunkStore::erase, for `reason`; always ends on a later turn.
  void remove(NamespaceId ns, const ChunkKey& key, DepartReason reason, Then then);
  /// A bounded step: `start` for each visible object that is `wanted`, at most `running_max` at
  /// once. True when all were looked at and nothing runs.
  bool pass_step(IndexPass* pass, uint32_t running_max,
                 const std::function<bool(uint32_t id)>& wanted,
                 const std::function<void(uint32_t id, Then then)>& start);
  /// rehome.cc: ChunkStore::move and clear, of a visible object.
  void rehome(uint32_t id, Tier to, Then then);
  void leave_faster(uint32_t id, Tier to, const Then& then);
  void clear_copy(uint32_t id, Tier tier, Then then);
  void leave_nvme(uint32_t id, Then then);
  /// A write of this entry to nvme ended: a doom that waited for it goes on.
  void settle(uint32_t id);
  /// A checksum of the copy in `tier` failed: that copy is never read again.
  void quarantine(uint32_t id, Tier tier);

  void touch(uint32_t id);
  /// The value of what would have to leave a list for something else; 0 while it has room.
  double price(Tier tier, uint32_t list) const;
  /// The least of a list, but for those in use; 0: it is empty.
  double least_value(Tier tier, uint32_t list) const;
  /// Of nvme: objects of one device, but pinned ones, which never leave, in one that nobody walks.
  static uint32_t nvme_list_of(const IndexEntry& entry) {
    return entry.kept_here ? kKeptList : entry.first_extent.device;
  }
  struct ListPrice {
    double value = 0;  // of the least in it
    uint32_t list = 0;
    auto operator<=>(const ListPrice&) const = default;
  };
  /// Those whose objects make room for one of `bytes` when they leave, the least valuable first.
  std::vector<ListPrice> nvme_lists(uint64_t bytes = 0) const;
  /// It was pinned or unpinned, or went to another device.
  void relist(uint32_t id);
  struct Room {
    uint64_t free = 0;  // bytes
    uint64_t capacity = 0;
  };
  /// What the objects of a list have to themselves; a tier that is there.
  Room room_in(Tier tier, uint32_t list) const;
  /// Whether an object should get a copy in a tier at this price.
  bool worth(uint32_t id, Tier tier, double price_there) const;
  /// Its copy in `tier` is about to go, for people: before it does. `last`: no other copy is on
  /// this node; `price`: of its place, when that is why.
  void departs(uint32_t id, Tier tier, DepartReason reason, bool last, double price = 0);
  void departs_shared(NamespaceId ns, const ChunkKey& key, uint64_t bytes, DepartReason reason);
  /// What the index and the policy say of a visible object.
  void explain_local(uint32_t id, Explanation* out) const;
  /// Eviction drops the last local copy: counts what the shared tier has not got.
  void leaves(uint32_t id);
  void update_gauges();
  /// Of the shared tier: over at once.
  Status resize_shared(const std::shared_ptr<ResizePass>& pass);
  /// The pass of any tier, which has `bytes` now, is over.
  void end_resize(const std::shared_ptr<ResizePass>& pass, uint64_t bytes, const Status& result);
  uint64_t next_generation() { return ++generation_; }
  uint32_t load_us(TierMask tiers) const;

  const StoreConfig config;
  Loop* const loop;
  const std::vector<NvmeDevice> devices;
  MetadataStore* const metadata;
  StoreMetrics metrics;
  Departures departures;
  Index index;
  uint64_t shared_bytes_max = 0;                       // config's, until it is changed
  std::unordered_map<uint32_t, Usage> usage;           // by namespace: what is visible
  std::unordered_map<uint32_t, uint64_t> putting;      // by namespace: stored bytes of running puts
  uint64_t promoting_bytes = 0;                        // on their way into dram beneath readers
  uint32_t highest_namespace = 0;                      // of the rows that recovery saw
  std::function<void(const ChunkKey&)> on_quarantine;  // may be empty, as the next two
  std::function<void(uint64_t loan)> on_device_recall;
  std::function<void(const ResizePass&)> on_resized;
  Gate gate;
  Calls calls;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<NvmeTier> nvme;  // null without an nvme tier, like the next three
  std::unique_ptr<Staging> staging;
  std::unique_ptr<RowQueue> rows;
  std::unique_ptr<Persister> persister;
  std::unique_ptr<HbmTier> hbm;        // null without device memory
  std::unique_ptr<SharedTier> shared;  // null without a shared tier, like the next four
  std::unique_ptr<SharedDemoter> demoter;
  std::unique_ptr<SharedSweeper> sweeper;
  std::unique_ptr<SharedGenerations> generations;
  std::unique_ptr<SharedVerifier> verifying_shared;
  /// Lists: of dram, sharing domains; of nvme, nvme_list_of; of hbm, HbmTier::kList.
  std::unique_ptr<PlacementPolicy> policy;
  NvmeAdmission admission;  // to nvme
  Evictor evictor;
  Mover mover;
  Scrubber scrubber;
  Scrubber verifying;  // for passes that somebody asked for
  Verifier verifier;
  Trimmer trimmer;
  DramResizer dram_resizer;
  NvmeResizer nvme_resizer;
  Puts puts;
  Retainer retainer;
  SlabRegistry registry;
  SlabBalancer balancer;
  UseRecorder use_recorder;
  static constexpr uint32_t kNvmeList = 0;  // for price(): all of nvme has one
  static constexpr uint32_t kKeptList = 1 << 16;

 private:
  friend class Recovery;
  friend class TakeBack;
  struct Fate {
    bool withhold = false;
    std::vector<Then> gone;
  };
  class Closing;
  void row_gone(uint32_t id, const Status& result);
  void write_elsewhere(uint32_t id, const Then& then);
  Status swap_nvme(uint32_t id, const StatusOr<NvmeCopy>& copy);
  void free_moved(uint32_t id);
  void keep_moved(uint32_t id);
  void try_release(uint32_t id);
  Status open_memory(SlabKeeping* keeping);
  Status open_media(const SlabKeeping& keeping);

  std::vector<std::shared_ptr<ArenaSpace>> residents_;  // dram copies, by IndexEntry::resident
  std::vector<uint32_t> residents_free_;
  std::unordered_map<uint32_t, Fate> fates_;  // of doomed entries
  /// Where pinned entries were on nvme before: somebody may still read there.
  std::unordered_map<uint32_t, std::vector<Extent>> moved_from_;
  uint64_t generation_ = 0;
  std::shared_ptr<Closing> closing_;
  std::unordered_map<uint32_t, DomainId> domains_;  // by namespace, those assigned
};
}  // namespace terrace
