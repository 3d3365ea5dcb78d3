#include "base/prefix_rule.h"

#include <algorithm>
#include <cstddef>

namespace terrace {

std::vector<bool> restorable_prefixes(std::span<const GroupPresence> groups) {
  if (groups.empty()) return {};
  std::vector<bool> restorable(groups[0].present.size(), true);
  for (const GroupPresence& group : groups) {
    size_t run = 0;  // keys present without a gap, up to and with this one
    for (size_t i = 0; i < group.present.size(); ++i) {
      run = group.present[i] ? run + 1 : 0;
      const size_t all = i + 1;
      const size_t needed = group.trailing == 0 ? all : std::min<size_t>(group.trailing, all);
      if (run < needed) restorable[i] = false;
    }
  }
  return restorable;
}

uint32_t longest_prefix(const std::vector<bool>& restorable) {
  size_t longest = restorable.size();
  while (longest > 0 && !restorable[longest - 1]) --longest;
  return static_cast<uint32_t>(longest);
}
}  // namespace terrace
