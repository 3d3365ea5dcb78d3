// tools/cli/demo_tiers.h - `terrace demo --tiers`: one set of objects through all tiers of a real
// node and back, through a kill, a ttl, a pin and an erase.
#pragma once
#include <string>

#include "tools/cli/command.h"

namespace terrace {
/// `directory`: where the node's files go, on a disk. Returns the exit code.
int run_tier_demo(const std::string& directory, const Globals& globals);
}  // namespace terrace
