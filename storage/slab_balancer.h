// storage/slab_balancer.h - lets sharing domains have their fair share of the slabs: who may take
// one, from whom; empties it and has it handed over. Thread-confined.
//
// The rule. A domain's fair share is the number of slabs divided by the number of domains that are
// active: used within kActiveFor, and having slabs or asking for them. One that finds no room, and
// no slab that belongs to nobody, and has fewer slabs than its share, takes one over: from the
// domain with the most, when that keeps as many as the taker then has; else from the one that was
// not used for longest, when it is not active. Any domain under pressure may take a slab that is
// empty, of one that is not active or has more than its share. Everybody else makes room among its
// own objects.
// So slabs move towards equal numbers and then rest: no two domains take from each other in turn.
#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"

namespace terrace {

class SlabBalancer {
 public:
  static constexpr Nanos kActiveFor = seconds(10);

  explicit SlabBalancer(ChunkStore::Core& core);
  void stop();
  /// The domain's objects are used, or it puts new ones.
  void used(DomainId domain);
  /// The domain finds no room. True: more comes by itself, the evictor is kicked then.
  bool want(DomainId domain);
  /// Its slabs, and those that are on their way to it.
  size_t held(DomainId domain) const;
  /// Slabs that the domain may have now at the cost of others.
  size_t share() const;
  /// The memory of a slab was replaced, or it was added or taken away.
  void replaced(uint32_t slab);

  // When dram becomes smaller. All slabs are populated.

  /// Begins to empty a slab whose memory the machine gets back: one that belongs to nobody, else an
  /// empty one, else of the domain with the most. False: as many as may are on their way already,
  /// or none can be emptied now.
  bool shed();
  /// Of the arena's capacity, what is on its way out.
  uint64_t shedding_bytes() const;
  /// Those stay after all.
  void stop_shedding();

 private:
  static constexpr size_t kRunningMax = 4;         // slabs on their way at once
  static constexpr size_t kBatch = 256;            // objects looked at per step and slab
  static constexpr Nanos kPatience = seconds(10);  // with a slab whose objects stay in use
  static constexpr Nanos kRest = seconds(30);      // before such a slab is tried again
  struct Use {
    Nanos last{0};       // used
    Nanos asked{0};      // for more
    Nanos ask_again{0};  // until then the answer is no
    bool wants = false;  // `asked` is meant
  };
  struct Move {
    uint32_t slab = 0;
    DomainId to{};
    Nanos since{0};
    size_t next = 0;        // of the slab's objects to look at
    bool progress = false;  // in this pass over them
    bool replacing = false;
  };
  bool active(DomainId domain) const;
  std::optional<uint32_t> choose(DomainId taker) const;
  std::optional<uint32_t> empty_slab_for(DomainId taker) const;
  std::optional<uint32_t> least_used_of(DomainId victim) const;
  std::optional<uint32_t> slab_to_shed() const;
  bool may_move(uint32_t slab) const;
  void begin(uint32_t slab, DomainId to);
  void start_move(uint32_t retired, DomainId to);
  void step();
  void empty(Move* move);
  void forget_idle();

  ChunkStore::Core& core_;
  std::unordered_map<uint32_t, Use> uses_;  // by domain, those used lately
  Nanos forgot_{0};
  std::vector<Move> moves_;
  std::unordered_map<uint32_t, Nanos> resting_;  // slabs that could not be emptied: until when
  Timer timer_;
};
}  // namespace terrace
