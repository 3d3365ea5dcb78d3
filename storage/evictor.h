// storage/evictor.h - keeps a little of each tier free, and makes room when an allocation fails. In
// dram a sharing domain makes room among its own objects; that it gets slabs of others is up to
// storage/slab_balancer.h. Thread-confined.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "storage/arena.h"
#include "storage/chunk_store.h"
#include "storage/policy/evict_plan.h"

namespace terrace {

class Evictor {
 public:
  explicit Evictor(ChunkStore::Core& core) : core_(core) {}

  /// Arena space of the domain, won by eviction of its own objects if need be; null when what is
  /// left is in use, must be written to nvme first (which then begins), or is not enough until the
  /// domain gets another slab (which then begins, if it may have one). For a `put` the oldest of
  /// those to be written are dropped all the same while the device does not keep up: it must not
  /// refuse what is new for what is old.
  std::shared_ptr<ArenaSpace> dram_space(DomainId domain, uint64_t bytes, bool put);
  /// These leave dram, whatever their age: dropped, or written to nvme first; not those in use.
  void evict_from_dram(std::span<const uint32_t> ids);
  /// The object leaves nvme, and this node with it, whatever its value. `then` when its space is
  /// free or withheld, on a later turn; kFailedPrecondition: it is in use or pinned, and stays.
  void evict_from_nvme(uint32_t id, std::function<void(Status)> then);
  /// Objects over objects_max less the watermark's share of it, at least one.
  uint64_t surplus_objects() const;
  /// What of a tier, or of a domain's part of it, is kept free.
  uint64_t watermark(uint64_t capacity) const;
  /// Looks at the watermarks on a later turn.
  void kick();
  /// Somebody who waited for room in `tier` has it.
  void freed_after(Tier tier, Nanos since) const;

 private:
  static constexpr uint32_t kScanMax = 4096;     // candidates looked at per step
  static constexpr uint32_t kPinnedMax = 32768;  // passed by per step: leases pin many at once
  static constexpr uint32_t kRowsMax = 2048;     // deletions that nvme eviction waits for

  void step();
  void tell_prices();
  bool step_dram();
  bool step_domain(DomainId domain);
  bool step_nvme();
  /// `nvme_price`: what is worth less is not demoted; below 0: nothing is.
  EvictCandidate dram_candidate(uint32_t id, double nvme_price) const;
  EvictCandidate nvme_candidate(uint32_t id) const;
  /// Below 0 when nothing may be demoted, or cannot be now.
  double demotion_price(bool may_demote) const;
  /// Plans over the policy's order of a list, at most kScanMax candidates, until they are worth
  /// `need` bytes or `victims_max` of them could go.
  EvictPlan plan(Tier tier, uint32_t list, uint64_t need, uint64_t victims_max,
                 bool may_demote) const;
  double price_of(const std::vector<uint32_t>& ids) const;
  void carry_out_in_dram(const EvictPlan& victims, uint64_t victims_max);
  /// Return the bytes that are won, at once or when the rows are gone. Without `may_demote` what
  /// nvme has not got is dropped.
  uint64_t evict_dram(DomainId domain, uint64_t need, bool may_demote,
                      uint64_t victims_max = ~uint64_t{0});
  /// Objects, of the domains with the most of them first.
  void evict_surplus_from_dram(uint64_t objects);
  /// `whole`: of them that one object needs, 0: none waits for room.
  uint64_t evict_nvme(uint64_t need, uint64_t whole, uint64_t victims_max);
  /// Returns the bytes that are free when `gone` runs.
  uint64_t drop_from_nvme(uint32_t id, double price, std::function<void(Status)> gone);
  /// Free bytes that the domain lacks for its watermark. Slabs of nobody are free for everybody.
  uint64_t lacking(DomainId domain) const;
  /// Bytes that the domain could have without taking anything from another one.
  uint64_t reach(DomainId domain) const;

  ChunkStore::Core& core_;
  bool kicked_ = false;
  /// By domain: an allocation of this size failed; evict until one succeeds.
  struct Wanted {
    uint64_t bytes = 0;
    Nanos since{0};
  };
  std::unordered_map<uint32_t, Wanted> dram_wanted_;
  uint64_t nvme_pending_ = 0;  // bytes whose rows are being deleted
  uint64_t nvme_goal_ = 0;     // grows while freed bytes do not fit who waits
  uint32_t rows_pending_ = 0;
};
}  // namespace terrace
