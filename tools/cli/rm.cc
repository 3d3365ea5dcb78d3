// `terrace rm`: erases objects.
#include <cstdio>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/files.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct RmArguments {
  std::vector<std::string> keys;
  std::string ns = kFilesNamespace;
};

int run_rm(const RmArguments& arguments, const Globals& globals) {
  StatusOr<FileMover> mover = FileMover::open(globals, arguments.ns);
  if (!mover.ok()) return report_failure(globals, "rm", mover.status());
  Json outcomes = Json::array();
  bool missing = false;
  for (const std::string& name : arguments.keys) {
    const StatusOr<ChunkKey> key = key_for(mover->client(), mover->ns(), name);
    const Status erased = key.ok() ? mover->erase(*key) : key.status();
    if (!erased.ok() && erased.code() != StatusCode::kNotFound) {
      return report_failure(globals, "rm", error(erased.code(), name + ": " + erased.message()));
    }
    missing |= !erased.ok();
    outcomes.push_back({{"name", name}, {"erased", erased.ok()}});
    if (!globals.json) std::printf("%s  %s\n", name.c_str(), erased.ok() ? "erased" : "not there");
  }
  if (globals.json) print_json({{"command", "rm"}, {"ok", !missing}, {"objects", outcomes}});
  return missing ? kExitNo : kExitOk;
}
}  // namespace

void add_rm(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("rm", "Erase objects");
  auto arguments = std::make_shared<RmArguments>();
  command->add_option("KEY", arguments->keys, "Names, or key: and 64 hex digits")->required();
  command->add_option("--namespace", arguments->ns, "Where they are")->capture_default_str();
  command->footer(
      examples("  terrace rm report.pdf\n"
               "  terrace rm a b c --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) { return run_rm(*arguments, globals); };
  });
}
}  // namespace terrace
