// storage/policy/eviction_policy.h - who goes first when a tier is full. One instance per tier.
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
  /// `id` came into the tier as its youngest object. It must not be there.
  virtual void inserted(uint32_t id) = 0;
  /// `id` was used. Ids that are not there are ignored.
  virtual void touched(uint32_t id) = 0;
  /// `id` left the tier. Ids that are not there are ignored.
  virtual void removed(uint32_t id) = 0;
  /// Up to `max` ids in the order in which they should go, starting behind `after` (kNoEntry: from
  /// the first to go). Changes nothing.
  virtual void candidates(uint32_t after, uint32_t max, std::vector<uint32_t>* out) const = 0;
  virtual uint64_t size() const = 0;
};
}  // namespace terrace
