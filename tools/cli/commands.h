// tools/cli/commands.h - each command's way into the table of commands.cc.
#pragma once
#include "tools/cli/command.h"

namespace terrace {
void add_demo(CLI::App* app, Invocation* invocation);
void add_put(CLI::App* app, Invocation* invocation);
void add_get(CLI::App* app, Invocation* invocation);
void add_ls(CLI::App* app, Invocation* invocation);
void add_stat(CLI::App* app, Invocation* invocation);
void add_rm(CLI::App* app, Invocation* invocation);
void add_explain(CLI::App* app, Invocation* invocation);
void add_pin(CLI::App* app, Invocation* invocation);
void add_unpin(CLI::App* app, Invocation* invocation);
void add_move(CLI::App* app, Invocation* invocation);
void add_clear(CLI::App* app, Invocation* invocation);
void add_tier(CLI::App* app, Invocation* invocation);
void add_node(CLI::App* app, Invocation* invocation);
void add_bench(CLI::App* app, Invocation* invocation);
void add_replay(CLI::App* app, Invocation* invocation);
void add_sim(CLI::App* app, Invocation* invocation);
void add_fsck(CLI::App* app, Invocation* invocation);
void add_doctor(CLI::App* app, Invocation* invocation);
}  // namespace terrace
