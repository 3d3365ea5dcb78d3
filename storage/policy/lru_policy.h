// storage/policy/lru_policy.h - least recently used leaves first, whatever it is worth. A chain
// that is used tail first (see ChunkStore::touch) therefore loses its tail before its head. What
// others are measured against. Thread-confined.
#pragma once
#include <array>

#include "storage/policy/lru_lists.h"
#include "storage/policy/placement_policy.h"

namespace terrace {

class LruPolicy final : public PlacementPolicy {
 public:
  void known(uint32_t id, const ObjectWorth& worth, Nanos now) override;
  /// What others are measured against has no memory: after a restart the order is that of coming.
  bool remembers() const override { return false; }
  bool recall(UseMemory, Nanos) override { return false; }
  void known_again(uint32_t id, const ObjectWorth& worth, Nanos now) override {
    known(id, worth, now);
  }
  void recall_over() override {}
  std::optional<UseMemory> remember_step(UseScan*) const override { return UseMemory(); }
  void forgotten(uint32_t) override {}
  void used(uint32_t id, Nanos now) override;
  void follows(uint32_t, uint32_t) override {}
  void entered(Tier tier, uint32_t list, uint32_t id) override;
  void left(Tier tier, uint32_t id) override;
  void walk(Tier tier, uint32_t list, Nanos now,
            const std::function<Visit(uint32_t id)>& visit) const override;
  /// The younger the more; in no unit.
  double value(uint32_t id, Nanos now) const override;
  bool worth(uint32_t, Tier, double, Nanos) const override { return true; }
  PolicyFacts facts(uint32_t id, Nanos now) const override;
  uint64_t size(Tier tier, uint32_t list) const override;
  uint64_t memory_bytes() const override;

 private:
  std::array<LruLists, kTierCount> tiers_;
  ChunkedArray<Nanos> last_use_;
};
}  // namespace terrace
