// tools/cli/tier_actions.h - what `terrace tier` can do besides showing its status. Each adds its
// subcommand to the one for `tier`.
#pragma once
#include "tools/cli/command.h"

namespace terrace {
void add_tier_trim(CLI::App* tier, Invocation* invocation);
void add_tier_verify(CLI::App* tier, Invocation* invocation);
void add_tier_drain(CLI::App* tier, Invocation* invocation);
void add_tier_resize(CLI::App* tier, Invocation* invocation);
}  // namespace terrace
