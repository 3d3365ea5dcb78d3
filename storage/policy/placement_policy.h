// storage/policy/placement_policy.h - what an object is worth, and who leaves a tier first when it
// is full. One instance per store, linked by the node and by the simulator alike, so that what was
// simulated is what runs.
//
// Objects that make room for each other are in one list of their tier: all of nvme, those of a
// sharing domain in dram. A policy only orders and values; what is done to an object (drop, demote,
// promote) is a plan, policy/evict_plan.h, and its execution is the tier's. Objects are index ids.
// Times are of one monotone clock and never go back. Thread-confined.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/chunk_key.h"
#include "base/clock.h"
#include "storage/policy/use_memory.h"

namespace terrace {

/// What is said of an object when it comes.
struct ObjectWorth {
  /// The same for the same object whenever it comes again; collisions cost accuracy only.
  uint64_t name = 0;
  uint64_t bytes = 0;      // that it takes
  double recompute_s = 0;  // to compute it again; 0: nobody said, a guess by its size is made
  float importance = 1;    // 0 to 1
  float weight = 1;        // what its owner's priority makes of that (base/retention.h)
};

/// What a policy knows of an object, for people.
struct PolicyFacts {
  Nanos last_use{0};
  uint32_t uses = 0;               // 0: it does not count them
  double uses_per_s = 0;           // expected of holding it further; 0: it does not know
  double density = 0;              // seconds to recompute x weight, per byte; 0: it does not care
  std::optional<uint32_t> parent;  // the object that it follows
  std::array<uint32_t, kTierCount> children{};  // by tier: in it or a faster one; they keep it
};

class PlacementPolicy {
 public:
  /// What a walk is to do after an object: it leaves; it stays, and whatever must outlive it; end.
  enum class Visit : uint8_t { taken, passed, stop };

  virtual ~PlacementPolicy() = default;
  /// `id` is a new object of the store, used now.
  virtual void known(uint32_t id, const ObjectWorth& worth, Nanos now) = 0;

  // Over a restart: recall(), known_again() of what is found, recall_over(); then all else.

  /// Whether there is anything that a later run could recall.
  virtual bool remembers() const = 0;
  /// What an earlier run took down at `taken`, by this clock: it may lie before its zero. False,
  /// and nothing happens: this policy never takes down such a thing.
  virtual bool recall(UseMemory memory, Nanos taken) = 0;
  /// `id` is an object of the store that an earlier run had, too, not used now: its uses are those
  /// of recall(). Without them, as known().
  virtual void known_again(uint32_t id, const ObjectWorth& worth, Nanos now) = 0;
  virtual void recall_over() = 0;
  /// Takes down what was learned of uses, in bounded steps, well below a millisecond each: nullopt
  /// until the last one. A use meanwhile may be in it or not.
  virtual std::optional<UseMemory> remember_step(UseScan* scan) const = 0;

  /// It is gone from the store, and from all tiers before; the id may come again.
  virtual void forgotten(uint32_t id) = 0;
  /// `id` was used. Uses that follow each other closely are one.
  virtual void used(uint32_t id, Nanos now) = 0;
  /// Whoever uses `id` uses `parent` before it: it should not be there without its parent. The last
  /// word counts; one that would make a circle does not.
  virtual void follows(uint32_t id, uint32_t parent) = 0;
  /// A copy of `id`, which is known, is in `tier` from now on, among those of `list`.
  virtual void entered(Tier tier, uint32_t list, uint32_t id) = 0;
  /// Copies that are not there are ignored.
  virtual void left(Tier tier, uint32_t id) = 0;
  /// Shows the objects of a list in the order in which they should leave, until `visit` says stop.
  /// Changes nothing; nothing may change meanwhile.
  virtual void walk(Tier tier, uint32_t list, Nanos now,
                    const std::function<Visit(uint32_t id)>& visit) const = 0;
  /// Seconds of recomputing that a second of holding one byte of `id` is expected to save. Only to
  /// be compared with others of the same policy.
  virtual double value(uint32_t id, Nanos now) const = 0;
  /// Whether `id` should get a copy in `tier`, where something of the value `price` would have to
  /// leave for it; 0: nothing has to.
  virtual bool worth(uint32_t id, Tier tier, double price, Nanos now) const = 0;
  virtual PolicyFacts facts(uint32_t id, Nanos now) const = 0;
  /// Copies in a list of a tier.
  virtual uint64_t size(Tier tier, uint32_t list) const = 0;
  /// Of the policy's own records.
  virtual uint64_t memory_bytes() const = 0;
};
}  // namespace terrace
