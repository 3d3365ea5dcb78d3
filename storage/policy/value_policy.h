// storage/policy/value_policy.h - keeps what saves the most recomputing for its bytes. Value =
// expected uses per second (reuse_model.h) x seconds to recompute x importance / bytes.
//
// An object leaves a tier only when nothing that follows it is left there or in a faster one:
// without its parent a prefix chunk is no hit, so a parent is worth what its children are. Objects
// of equal use and density (powers of two) are in one list by their last use, of which only the
// oldest is looked at; so finding a victim costs the number of such lists and of what is in use,
// whatever the number of objects. When all of those are in use, the others leave too, the least
// recently used first.
// Thread-confined.
#pragma once
#include <array>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "storage/policy/lru_lists.h"
#include "storage/policy/placement_policy.h"
#include "storage/policy/reuse_model.h"

namespace terrace {

class ValuePolicy final : public PlacementPolicy {
 public:
  /// Null: GapHistogram.
  explicit ValuePolicy(std::unique_ptr<ReuseModel> model = nullptr);
  void known(uint32_t id, const ObjectWorth& worth, Nanos now) override;
  bool remembers() const override { return true; }
  bool recall(UseMemory memory, Nanos taken) override;
  void known_again(uint32_t id, const ObjectWorth& worth, Nanos now) override;
  void recall_over() override;
  std::optional<UseMemory> remember_step(UseScan* scan) const override;
  void forgotten(uint32_t id) override;
  void used(uint32_t id, Nanos now) override;
  void follows(uint32_t id, uint32_t parent) override;
  void entered(Tier tier, uint32_t list, uint32_t id) override;
  void left(Tier tier, uint32_t id) override;
  void walk(Tier tier, uint32_t list, Nanos now,
            const std::function<Visit(uint32_t id)>& visit) const override;
  double value(uint32_t id, Nanos now) const override;
  bool worth(uint32_t id, Tier tier, double price, Nanos now) const override;
  PolicyFacts facts(uint32_t id, Nanos now) const override;
  /// Whether an object in `tier` or in a faster one follows `id`: then it is worth its place there,
  /// whatever its own value.
  bool needed(Tier tier, uint32_t id) const;
  uint64_t size(Tier tier, uint32_t list) const override;
  uint64_t memory_bytes() const override;

 private:
  static constexpr uint32_t kDensityClasses = 20;
  static constexpr uint32_t kClasses = GapHistogram::kClasses * kDensityClasses;

  struct Object {
    Nanos last_use{0};
    uint64_t name = 0;
    float density = 0;  // seconds to recompute x importance, per byte
    uint32_t parent = kNoEntry;
    uint16_t parent_life = 0;  // of the parent, when it was named
    uint16_t life = 0;         // how many objects had this id
    UseHistory history{0, 0};  // no uses: nobody has this id
  };
  struct Copy {
    uint32_t list = 0;
    uint32_t children = 0;  // objects in this or a faster tier whose parent this is
    bool here = false;
  };
  struct List {
    uint64_t size = 0;
    std::array<uint32_t, kClasses> of_class{};  // copies
  };
  struct TierState {
    ChunkedArray<Copy> copies;
    LruLists order;                            // copies by list and class
    std::unordered_map<uint32_t, List> lists;  // those with copies
  };
  /// An object that left the store: so that one which comes again is not new.
  struct Ghost {
    uint64_t name = 0;
    Nanos last_use{0};
    UseHistory history{0, 0};
  };
  static constexpr size_t kGhosts = 1 << 18;  // of the last that left; newer ones take their place
  static constexpr size_t kRememberedPerStep = 8192;  // looked at
  /// What an earlier run knew, until recall_over().
  struct Recalled {
    static constexpr unsigned kShift = 64 - 18;  // names are hashes: a few per value of these bits
    UseMemory::Object* find(uint64_t name);      // null: none of that name is left
    std::vector<uint32_t> begins;                // by name >> kShift, and the end
    UseMemory memory;  // by name; those that were found again have no uses any more
    Nanos taken{0};
    Nanos oldest{0};  // last use of all of them
  };

  Object& add(uint32_t id, const ObjectWorth& worth, Nanos now);
  void sort_by_last_use();
  TierState& state(Tier tier) { return tiers_[static_cast<size_t>(tier)]; }
  const TierState& state(Tier tier) const { return tiers_[static_cast<size_t>(tier)]; }
  static uint32_t class_of(const Object& object);
  static uint64_t key_of(uint32_t list, uint32_t object_class);
  /// kNoEntry: it has none, or that one is gone.
  uint32_t parent_of(uint32_t id) const;
  bool leads_to(uint32_t from, uint32_t to) const;
  void link(TierState* tier, uint32_t id);
  void unlink(TierState* tier, uint32_t id, uint32_t its_class);
  void count_at_parent(uint32_t id, bool add);
  void walk_rest(const TierState& there, uint32_t list,
                 const std::function<Visit(uint32_t id)>& visit,
                 const std::unordered_set<uint32_t>& shown) const;

  std::unique_ptr<ReuseModel> model_;
  ChunkedArray<Object> objects_;
  std::array<TierState, kTierCount> tiers_;
  std::vector<Ghost> ghosts_;
  std::optional<Recalled> recalled_;
};
}  // namespace terrace
