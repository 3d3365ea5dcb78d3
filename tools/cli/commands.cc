#include "tools/cli/commands.h"

#include <array>
#include <cstdio>

#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr AddCommand kCommands[] = {add_demo,  add_put,     add_get,   add_ls,    add_stat,
                                    add_rm,    add_explain, add_pin,   add_unpin, add_move,
                                    add_clear, add_tier,    add_node,  add_bench, add_replay,
                                    add_sim,   add_fsck,    add_doctor};
}  // namespace

std::span<const AddCommand> all_commands() {
  return kCommands;
}

int report_failure(const Globals& globals, const std::string& command, const Status& status) {
  if (globals.json) {
    print_json({{"command", command}, {"ok", false}, {"error", json_of(status)}});
  } else {
    std::fprintf(stderr, "terrace %s: %s\n", command.c_str(), status.to_string().c_str());
  }
  switch (status.code()) {
    case StatusCode::kNotFound:
    case StatusCode::kAlreadyExists:
    case StatusCode::kDataLoss:
    case StatusCode::kAborted:
      return kExitNo;
    default:
      return kExitError;
  }
}

std::string examples(const std::string& lines) {
  return "Examples:\n" + lines +
         "\nExit codes: 0 done, 1 the answer is no or a check failed, 2 wrong usage or it could "
         "not "
         "run\n";
}
}  // namespace terrace
