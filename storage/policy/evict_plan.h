// storage/policy/evict_plan.h - what to do with which object to win space. A pure function from
// values to a value; nothing moves here.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace terrace {

/// One object of the tier, in the order in which the policy would let it go.
struct EvictCandidate {
  uint32_t id = 0;
  uint64_t bytes = 0;   // that the tier wins
  bool pinned = false;  // somebody uses its bytes
  bool has_slower_copy = false;
  bool may_demote = false;  // a slower tier exists and works
};

struct EvictPlan {
  std::vector<uint32_t> drop;    // their bytes here go now
  std::vector<uint32_t> demote;  // must be written to the slower tier first; they win space later
  uint64_t dropped_bytes = 0;
  uint64_t demoted_bytes = 0;
  bool operator==(const EvictPlan&) const = default;
};

/// Takes candidates in order until what is dropped or demoted reaches `need_bytes`. Pinned ones are
/// passed by. One with a slower copy, or with nowhere to go, is dropped; the others are demoted.
inline EvictPlan plan_eviction(std::span<const EvictCandidate> candidates, uint64_t need_bytes) {
  EvictPlan plan;
  for (const EvictCandidate& candidate : candidates) {
    if (plan.dropped_bytes + plan.demoted_bytes >= need_bytes) break;
    if (candidate.pinned) continue;
    if (candidate.has_slower_copy || !candidate.may_demote) {
      plan.drop.push_back(candidate.id);
      plan.dropped_bytes += candidate.bytes;
    } else {
      plan.demote.push_back(candidate.id);
      plan.demoted_bytes += candidate.bytes;
    }
  }
  return plan;
}
}  // namespace terrace
