// base/prefix_rule.h - the rule of match_prefix: which prefixes can be restored from the chunks
// that are there. Pure; a node applies it to what it holds, a client to what several nodes hold.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace terrace {

/// Which chunks of one group are there.
struct GroupPresence {
  std::vector<bool> present;  // one per chunk
  uint32_t trailing = 0;      // 0: a prefix needs all its keys; n: only its last n
};

/// [i] is whether a prefix of i + 1 chunks can be restored: all groups hold what they need. The
/// groups have the same number of chunks.
std::vector<bool> restorable_prefixes(std::span<const GroupPresence> groups);
/// The length of the longest one; 0: none.
uint32_t longest_prefix(const std::vector<bool>& restorable);
}  // namespace terrace
