// `terrace stat`: what a node knows of one object, without touching its bytes.
#include <cstdio>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/files.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct StatArguments {
  std::string key;
  std::string ns = kFilesNamespace;
};

int run_stat(const StatArguments& arguments, const Globals& globals) {
  StatusOr<FileMover> mover = FileMover::open(globals, arguments.ns);
  if (!mover.ok()) return report_failure(globals, "stat", mover.status());
  const StatusOr<ChunkKey> key = key_for(mover->client(), mover->ns(), arguments.key);
  if (!key.ok()) return report_failure(globals, "stat", key.status());
  const StatusOr<KeyInfo> info = mover->find(*key);
  if (!info.ok()) {
    const bool missing = info.status().code() == StatusCode::kNotFound;
    return report_failure(
        globals, "stat",
        missing ? error(StatusCode::kNotFound,
                        "no object \"" + arguments.key + "\" in namespace \"" + arguments.ns + "\"")
                : info.status());
  }
  if (globals.json) {
    print_json({{"command", "stat"},
                {"ok", true},
                {"name", arguments.key},
                {"namespace", arguments.ns},
                {"key", key->hex()},
                {"bytes", info->bytes},
                {"sections", info->sections},
                {"tiers", tiers_text(info->tiers)},
                {"load_us", info->load_us}});
    return kExitOk;
  }
  Table table({"name", arguments.key}, true);
  table.add({"key", key->hex()});
  table.add({"bytes", human_count(info->bytes) + " (" + human_bytes(info->bytes) + ")"});
  table.add({"sections", human_count(info->sections)});
  table.add({"tiers", tiers_text(info->tiers)});
  table.add({"first byte", "in about " + human_duration(microseconds(info->load_us))});
  std::printf("%s", table.text().c_str());
  return kExitOk;
}
}  // namespace

void add_stat(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("stat", "Show size and tiers of an object");
  auto arguments = std::make_shared<StatArguments>();
  command->add_option("KEY", arguments->key, "Its name, or key: and 64 hex digits")->required();
  command->add_option("--namespace", arguments->ns, "Where to look")->capture_default_str();
  command->footer(
      examples("  terrace stat report.pdf\n"
               "  terrace stat report.pdf --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) { return run_stat(*arguments, globals); };
  });
}
}  // namespace terrace
