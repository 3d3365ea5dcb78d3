// storage/chunk_store.h - the front door of a node's tiers: find, pin, read, write, erase chunks.
//
// Everything runs on one loop's thread. Long operations are caller-owned objects (ChunkReader,
// ChunkWriter) and Ops; a non-OK return means refused and the Op untouched. What lies where, when
// it is demoted, promoted or dropped, and what a device does when it fails, ends behind this page.
#pragma once
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/counter.h"
#include "base/geometry.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/retention.h"
#include "base/status.h"
#include "storage/device_view.h"
#include "storage/domain.h"
#include "storage/generation_right.h"
#include "storage/metadata_store.h"
#include "storage/nvme_device.h"
#include "storage/object_format.h"
#include "storage/object_hints.h"
#include "storage/shared_medium.h"
#include "storage/shared_names.h"
#include "storage/slab_keeper.h"
#include "storage/slab_place.h"
#include "storage/store_config.h"
#include "storage/store_metrics.h"

namespace terrace {

/// What is known of an object without touching its bytes.
struct ObjectInfo {
  TierMask tiers = 0;
  uint32_t sections = 0;
  uint64_t logical_bytes = 0;
  uint64_t generation = 0;
  Durability durability = Durability::memory;
};

class Accelerator;
struct ClearScan;  // storage/clear_scan.h
struct DrainPass;  // storage/tier_pass.h
struct EmptyPass;
struct IndexPass;
struct ResizePass;
struct TrimPass;
struct VerifyPass;
struct Explanation;  // storage/explanation.h
class ChunkStore;

/// Holds one object's bytes: eviction passes it by, an erase waits for it. Move-only; released on
/// destruction. Must not outlive the store.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&& other) noexcept;
  Pin& operator=(Pin&& other) noexcept;
  ~Pin();
  explicit operator bool() const { return store_ != nullptr; }

 private:
  friend class ChunkStore;
  Pin(ChunkStore* store, uint32_t entry) : store_(store), entry_(entry) {}
  ChunkStore* store_ = nullptr;
  uint32_t entry_ = 0;
};

/// Verified bytes of one read; they stay in place until release() or destruction. Move-only.
class ReadBuffer {
 public:
  ReadBuffer();
  ReadBuffer(ReadBuffer&&) noexcept;
  ReadBuffer& operator=(ReadBuffer&&) noexcept;
  ~ReadBuffer();
  std::span<const iovec> pieces() const { return pieces_; }  // the units asked for, in order
  Tier tier() const { return tier_; }
  void release();

 private:
  friend class ChunkStore;
  struct Hold;  // staging buffers, or nothing for resident bytes (the reader's pin holds those)
  std::vector<iovec> pieces_;
  Tier tier_ = Tier::dram;
  std::unique_ptr<Hold> hold_;
};

/// An object opened for reading. The caller owns it and keeps it in place; it pins the object until
/// it is destroyed, which must not happen while a read of it is in flight.
class ChunkReader {
 public:
  ChunkReader();
  ~ChunkReader();
  const ObjectHeader& header() const { return *header_; }
  const ObjectLayout& layout() const { return *layout_; }
  Tier tier() const { return tier_; }

 private:
  friend class ChunkStore;
  struct State;
  std::shared_ptr<const ObjectHeader> header_;
  std::optional<ObjectLayout> layout_;
  Tier tier_ = Tier::dram;
  std::unique_ptr<State> state_;
  uint64_t waits_ = 0;  // for the shared tier: the number of its wait
};

struct PutSpec {
  NamespaceId ns{};
  ChunkKey key;
  std::string raw_key;
  std::string user_meta;
  std::vector<SectionSpec> sections;
  Durability durability = Durability::memory;
  uint64_t namespace_bytes_max = 0;  // quota of the namespace, as Usage::bytes; 0: none
  WorthHint worth;                   // of a duplicate: ignored, as the next
  Retention retention;
  uint64_t pinned_bytes_max = ~uint64_t{0};  // quota of the namespace, when it is to be pinned
};

/// An object being written; invisible until its commit is done. The caller owns it and keeps it in
/// place; destroying it without a commit abandons the put and frees its space.
class ChunkWriter {
 public:
  ChunkWriter();
  ~ChunkWriter();
  const ObjectLayout& layout() const { return *layout_; }

 private:
  friend class ChunkStore;
  struct State;
  std::optional<ObjectLayout> layout_;
  std::unique_ptr<State> state_;
};

class ChunkStore {
 public:
  /// No `devices` and no `metadata` go together: a store without an nvme tier. They outlive the
  /// store. Objects on a device that is missing are in the index, and misses. `shared` is null for
  /// a store without a shared tier. Recovers what they hold before it returns; `report` gets a line
  /// per quarter of the way. With a keeper, which needs an nvme tier, the dram tier outlives the
  /// store, and what an earlier one left there is taken back; its namespaces are assigned to their
  /// domains here. `accelerator`: whose memory is the hbm tier, with config.hbm_bytes; null: no
  /// such tier. kInvalidArgument (config), kResourceExhausted (memory), kDataLoss (metadata
  /// unreadable).
  static StatusOr<std::unique_ptr<ChunkStore>> open(const StoreConfig& config, Loop* loop,
                                                    std::vector<NvmeDevice> devices,
                                                    MetadataStore* metadata,
                                                    std::shared_ptr<SharedMedium> shared = nullptr,
                                                    SlabKeeping keeping = {},
                                                    std::shared_ptr<Accelerator> accelerator = {});
  ~ChunkStore();
  /// Stops background work and new operations, lets running ones end, writes back what memory-only
  /// objects may be kept (config.demote_on_close); `op` is done when the store can be destroyed.
  void close(Op* op);

  // Sharing domains.

  /// The namespace's objects lie in slabs of `domain`: a tenant's number, from 1, the same for all
  /// of its namespaces, below kOwnDomainBit. Before its first object comes into dram; what lies
  /// there already stays in the slabs of its former domain. A namespace that was never assigned is
  /// a domain of its own.
  void assign_domain(NamespaceId ns, DomainId domain);
  /// The name of the namespace that all nodes of a shared tier agree on (shared_namespace_digest).
  /// What lies in a namespace without one is not shared. Nothing without a shared tier.
  void name_namespace(NamespaceId ns, const NamespaceDigest& digest);
  /// Which slab an address of resident bytes (ReadBuffer::pieces, memory()) lies in. O(1). Holds as
  /// long as the bytes are pinned: then neither slab, epoch nor domain changes. nullopt: the
  /// address is not the arena's (a staging buffer), or the slab belongs to nobody now.
  std::optional<SlabPlace> place_of(const std::byte* address) const;
  /// A descriptor for readers of the slab's domain outside the process: they map `bytes` at
  /// `file_offset` read-only; nobody with another user id than ours can get write access through
  /// it. Before the slab may hold objects of another domain its memory is replaced: what was mapped
  /// then shows zeros from there on, so unmap it when the epoch of a place differs.
  /// kInvalidArgument: no such slab; kFailedPrecondition: it belongs to nobody; kUnavailable: no
  /// /proc; kResourceExhausted: no descriptors.
  StatusOr<SlabDescriptor> export_slab(uint32_t slab);
  using SlabListener =
      std::function<void(uint32_t slab, std::span<std::byte> memory, bool present)>;
  /// `listener` is called for every slab populated so far, inside this call, and later as they come
  /// (present), and before a slab's memory is replaced (not present): then it must have let go of
  /// the memory when it returns. No object lies there at that time. One listener; nullptr unsets.
  void on_slab_memory(SlabListener listener);
  /// All staging buffers in one run, for registration; it never moves. Empty without nvme.
  std::span<std::byte> staging_memory();

  // Finding.

  /// A probe: never extends a life, never logs. An object that only the shared tier has (as far as
  /// this node knows) has 0 sections, for nobody has read its header.
  std::optional<ObjectInfo> find(NamespaceId ns, const ChunkKey& key) const;
  /// A use of these keys, in prefix order: they are touched tail first, so the head outlives it,
  /// and each is taken to follow the one before it.
  void touch(NamespaceId ns, std::span<const ChunkKey> keys);
  /// Somebody wanted the key's bytes and it is not there: counted by why it went, as far as that
  /// is remembered (config.departures_bytes).
  void count_miss(NamespaceId ns, const ChunkKey& key);
  /// Where it is and why, or when it went and why: for people. O(1).
  Explanation explain(NamespaceId ns, const ChunkKey& key) const;
  /// kNotFound when it is not there (or being erased), or only in the shared tier.
  StatusOr<Pin> pin(NamespaceId ns, const ChunkKey& key);
  struct Listed {
    ChunkKey key;
    ObjectInfo info;
  };
  /// A listing of up to `limit` objects of `ns` in key order after `after` (nullopt: from the
  /// start). The index has no such order, so all of it is looked at, step by step.
  struct ListScan {
    NamespaceId ns{};
    std::optional<ChunkKey> after;
    uint32_t limit = 0;
    std::vector<Listed> found;  // in order once the scan is over
    uint32_t next = 0;          // of the index
  };
  /// A bounded step, well under a millisecond; true when the scan is over. Objects that come or go
  /// meanwhile may be in it or not.
  bool list_step(ListScan* scan) const;
  /// What is visible in a namespace.
  struct Usage {
    uint64_t bytes = 0;  // stored, with headers and padding
    uint64_t objects = 0;
  };
  Usage usage(NamespaceId ns) const;
  /// Highest namespace number of the objects that were there at open; 0: there were none.
  uint32_t highest_namespace() const;

  // Reading.

  /// Pins the object and makes its header available; done(OK) then. One that only the shared tier
  /// has is read into dram first. Refused: kNotFound, kUnavailable (closing, or the shared tier
  /// hangs), kResourceExhausted (too many loads). Done with kResourceExhausted: no room in dram for
  /// an object of the shared tier; kNotFound, kDeadlineExceeded, kUnavailable: of that tier, too;
  /// kDataLoss: its header failed its checksum or names another object, or the medium failed; it
  /// was quarantined. `owner`: whose reads share staging buffers; one owner never has all of them.
  Status open_reader(NamespaceId ns, const ChunkKey& key, uint64_t owner, ChunkReader* reader,
                     Op* op);
  /// An open_reader that waits for the shared tier waits no longer: done with `why`. Nothing when
  /// it does not wait for that.
  void cancel_open(ChunkReader* reader, StatusCode why);
  /// Reads units [first_unit, first_unit + units) of `section`, at most kFramePayloadBytesMax, from
  /// the fastest tier that has them, and verifies what did not come from resident memory. When the
  /// staging buffers are all lent, the read waits for one. Done with kDataLoss: a unit's checksum
  /// or the medium failed, the object was quarantined. kDeadlineExceeded, kUnavailable: the device
  /// hangs or is gone.
  Status read(ChunkReader* reader, uint32_t section, uint32_t first_unit, uint32_t units,
              ReadBuffer* into, Op* op);
  /// `listener` hears of every object whose bytes fail a checksum from here on, or whose medium
  /// fails: what was shown of them unverified must not be believed. One listener; nullptr unsets.
  void on_quarantine(std::function<void(const ChunkKey& key)> listener);
  /// Appends where the bytes of `section` lie in dram, in order; they stay there as long as the
  /// reader lives, but are not verified again. False: the object is not in dram, or was quarantined
  /// or erased.
  bool resident(const ChunkReader& reader, uint32_t section, std::vector<iovec>* memory) const;

  // Device memory, for processes of this host.

  /// hbm holds copies of this domain's objects only, and device_view() says where. Once, before any
  /// object is used.
  void keep_hbm_for(DomainId domain);
  /// Where the copy in hbm lies; not verified again. kFailedPrecondition: there is none, or hbm is
  /// not kept for one domain; kUnavailable: the device cannot share its memory.
  StatusOr<DeviceView> device_view(const ChunkReader& reader) const;
  /// What is lent shall come back, as before a resize.
  void call_device_back();
  /// `listener` hears that a loan ends: no view of it is to be believed any more, and the tier
  /// waits for those who hold the DeviceLoan. One listener; nullptr unsets.
  void on_device_recall(std::function<void(uint64_t loan)> listener);

  // Writing.

  /// Admits a put and takes its space. Refused: kResourceExhausted (space, quota, too many puts:
  /// the message says which and each is counted), kInvalidArgument (bad section table),
  /// kUnavailable (closing, or durability nvme or shared without a working tier of that name).
  /// Done with OK: write; kAlreadyExists: the object is there with the durability asked for. A put
  /// of a key that another put is writing waits for it, and takes over if that one fails. kAborted:
  /// the copy that was there is gone; again.
  Status open_writer(PutSpec spec, ChunkWriter* writer, Op* op);
  /// A put that waits for another one of its key waits no longer: done with kCancelled. Nothing
  /// when it does not wait for one.
  void cancel_open(ChunkWriter* writer);
  /// Where [offset, offset + bytes) of `section` must be put, in order. Valid until the commit.
  std::vector<iovec> memory(ChunkWriter* writer, uint32_t section, uint64_t offset, uint64_t bytes);
  /// Units [first_unit, ...) of `section` are in place and must have these CRCs. kDataLoss names
  /// the unit when one differs; kInvalidArgument for units that do not exist.
  Status landed(ChunkWriter* writer, uint32_t section, uint32_t first_unit,
                std::span<const uint32_t> crcs);
  /// All units landed: makes the object durable as asked, then visible; done then. kInvalidArgument
  /// when units are missing. Done with the device's error otherwise; the object is then absent.
  Status commit(ChunkWriter* writer, Op* op);

  /// Invisible at once; done when it cannot come back after a restart, and is not in the shared
  /// tier any more. kNotFound: nowhere, said at once or, with a shared tier, in the end.
  /// kUnavailable, kDeadlineExceeded: the shared tier does not answer; the local copy is gone, and
  /// one there may come back. Other nodes may serve what they have loaded.
  Status erase(NamespaceId ns, const ChunkKey& key, Op* op);

  // Administration (rehome.cc). `then` runs once, on a later turn.

  using Then = std::function<void(Status)>;
  /// A pinned object is not evicted from this node; it may leave dram for nvme. Durable where its
  /// object is, or may become so. kNotFound: not on this node; kResourceExhausted: `quota` bytes
  /// are pinned in the namespace.
  void set_pin(NamespaceId ns, const ChunkKey& key, bool pin, uint64_t quota, Then then);
  uint64_t pinned_bytes(NamespaceId ns) const;
  /// dram: a copy there, slower ones stay. nvme, shared: a copy there, faster ones go. kNotFound;
  /// kFailedPrecondition: the copy is made, but faster ones are in use, or it is pinned here;
  /// kResourceExhausted (no room), kUnavailable (no such tier), or the tier's own error.
  void move(NamespaceId ns, const ChunkKey& key, Tier to, Then then);
  /// The copy in `tier` goes, wanted or not; nullopt: all copies. kNotFound: there is none;
  /// kFailedPrecondition: it is pinned, or in use while another copy could serve.
  void clear(NamespaceId ns, const ChunkKey& key, std::optional<Tier> tier, Then then);
  /// A bounded step of clearing a whole namespace; true when it is over.
  bool clear_step(ClearScan* scan);
  /// Begins to read and check all of dram, nvme or shared (whoever published it); damaged copies
  /// are quarantined. kResourceExhausted: a pass runs; kUnavailable: no such tier, or closing.
  Status verify(std::shared_ptr<VerifyPass> pass);
  /// A bounded step of writing what lies only in dram to nvme; true when it is over.
  bool drain_step(DrainPass* pass);
  /// As DramResizer::run or NvmeResizer::run. shared: what all nodes together may keep, from the
  /// next sweep on until this node ends; kInvalidArgument: below 1 MiB. kUnavailable: no such tier.
  Status resize(std::shared_ptr<ResizePass> pass);
  /// Called when a resize is over, also one that came to nothing. One listener; nullptr unsets.
  void on_resized(std::function<void(const ResizePass&)> listener);

  // Single flight.

  /// For a chunk that nobody has: gives the right to compute it to one of all callers of all nodes,
  /// and lets the others wait for it, at most `patience`. Done with OK and `*right` set: compute
  /// it, put it with durability shared, drop the right; it is lost after `hold_max`. OK without:
  /// the chunk is there, read it (it may be gone again: ask anew). kDeadlineExceeded: still
  /// computed by somebody; kUnavailable: the tier does not answer, or the store closes: compute it.
  /// A holder that dies is succeeded after its lease ran out, and nobody computes what is
  /// published; but a right is a promise of the others, not a lock: a holder that was late may
  /// compute beside its successor, which costs time and harms nothing. `right` stays in place until
  /// done. Refused: kUnavailable (no shared tier, or it hangs), kResourceExhausted.
  Status generate_or_wait(NamespaceId ns, const ChunkKey& key, Nanos patience, Nanos hold_max,
                          GenerationRight* right, Op* op);
  /// A caller of generate_or_wait that waits, waits no longer: done with `why`.
  void cancel_wait(const GenerationRight* right, StatusCode why);

  // The devices of the nvme tier, by place.

  std::vector<DeviceStatus> devices() const;
  /// From now on the device gets no new objects; what is there stays and is served. Not remembered
  /// over a restart. kNotFound: no such device, or no nvme tier. kUnavailable: missing.
  Status drain_device(uint16_t place);
  Status undrain(uint16_t place);
  /// A bounded step; true when all that was on the device was looked at and nothing runs.
  bool empty_step(EmptyPass* pass);
  /// As Trimmer::run; kUnavailable also when it is closing, or without an nvme tier.
  Status trim(std::shared_ptr<TrimPass> pass);

  const StoreMetrics& metrics() const;
  /// Capacity and use of a tier, in bytes.
  struct TierUse {
    uint64_t capacity = 0;
    uint64_t used = 0;
    uint64_t objects = 0;
  };
  TierUse tier_use(Tier tier) const;
  /// An nvme tier is there and answers.
  bool nvme_works() const;
  bool hbm_works() const;
  /// Expected microseconds until the first byte of an object in `tier`, its queue included.
  uint32_t load_us(TierMask tiers) const;

  class Core;

 private:
  friend class Pin;
  friend class ReadBuffer;
  friend class ChunkReader;
  friend class ChunkWriter;
  struct ReaderOpening;
  void clear_one(ClearScan* scan, const ChunkKey& key, uint64_t bytes);
  Status open_local(uint32_t id, uint64_t owner, ChunkReader* reader, Op* op);
  Status open_shared(NamespaceId ns, const ChunkKey& key, uint64_t owner, ChunkReader* reader,
                     Op* op);
  explicit ChunkStore(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
