// storage/policy/eviction_policy.h - who goes first when a tier is full. One instance per tier.
//
// Objects that make room for each other are in one list: all of nvme, those of a sharing domain in
// dram. Each list has an order of its own, so that looking for victims in one costs nothing for the
// others. A list exists while it has objects.
//
// A policy only orders objects; what is done to them (drop, demote) is a plan, policy/evict_plan.h,
// and its execution is the tier's. Objects are index ids. Thread-confined.
#pragma once
#include <cstdint>
#include <vector>

namespace terrace {

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// `id` came into the tier as the youngest object of `list`. It must not be there.
  virtual void inserted(uint32_t id, uint32_t list) = 0;
  /// `id` was used. Ids that are not there are ignored.
  virtual void touched(uint32_t id) = 0;
  /// `id` left the tier. Ids that are not there are ignored.
  virtual void removed(uint32_t id) = 0;
  /// Up to `max` ids of `list` in the order in which they should go, starting behind `after`
  /// (kNoEntry: from the first to go). Changes nothing.
  virtual void candidates(uint32_t list, uint32_t after, uint32_t max,
                          std::vector<uint32_t>* out) const = 0;
  virtual uint64_t size(uint32_t list) const = 0;
};
}  // namespace terrace
