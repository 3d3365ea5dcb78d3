// `terrace pin`, `unpin` and `move`: what is kept on a node, and in which tier.
#include <memory>

#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/tier_objects.h"

namespace terrace {
namespace {
struct KeepArguments {
  std::vector<std::string> keys;
  std::string ns = kFilesNamespace;
  std::string to;
};

int run_pin(const KeepArguments& arguments, bool pin, const Globals& globals) {
  const std::string command = pin ? "pin" : "unpin";
  const auto objects = TierObjects::name(globals, arguments.ns, arguments.keys);
  if (!objects.ok()) return report_failure(globals, command, objects.status());
  const auto results = on_owners(globals, *objects, [&](const std::string& node, const auto& of) {
    proto::SetPinRequest request;
    *request.mutable_objects() = of;
    request.set_pin(pin);
    return admin_call<proto::TierAdmin>(globals, node, request, &proto::TierAdmin::Stub::SetPin);
  });
  if (!results.ok()) return report_failure(globals, command, results.status());
  return report_objects(globals, command, arguments.keys, *results, pin ? "pinned" : "unpinned");
}

int run_move(const KeepArguments& arguments, const Globals& globals) {
  const auto objects = TierObjects::name(globals, arguments.ns, arguments.keys);
  if (!objects.ok()) return report_failure(globals, "move", objects.status());
  const auto results = on_owners(globals, *objects, [&](const std::string& node, const auto& of) {
    proto::MoveRequest request;
    *request.mutable_objects() = of;
    request.set_to(arguments.to);
    return admin_call<proto::TierAdmin>(globals, node, request, &proto::TierAdmin::Stub::Move);
  });
  if (!results.ok()) return report_failure(globals, "move", results.status());
  return report_objects(globals, "move", arguments.keys, *results, "now in " + arguments.to);
}

CLI::App* add_keys(CLI::App* app, const char* name, const char* what,
                   const std::shared_ptr<KeepArguments>& arguments) {
  CLI::App* command = app->add_subcommand(name, what);
  command->add_option("KEY", arguments->keys, "Names, or key: and 64 hex digits")->required();
  command->add_option("--namespace", arguments->ns, "Where they are")->capture_default_str();
  return command;
}
}  // namespace

void add_pin(CLI::App* app, Invocation* invocation) {
  const auto arguments = std::make_shared<KeepArguments>();
  CLI::App* command =
      add_keys(app, "pin", "Keep objects on their node, within the namespace's quota", arguments);
  command->footer(
      examples("  terrace pin system-prompt.bin\n"
               "  terrace pin --namespace llama-8b key:5f0c... --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_pin(*arguments, true, globals);
    };
  });
}

void add_unpin(CLI::App* app, Invocation* invocation) {
  const auto arguments = std::make_shared<KeepArguments>();
  CLI::App* command = add_keys(app, "unpin", "Let pinned objects be evicted again", arguments);
  command->footer(examples("  terrace unpin system-prompt.bin\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_pin(*arguments, false, globals);
    };
  });
}

void add_move(CLI::App* app, Invocation* invocation) {
  const auto arguments = std::make_shared<KeepArguments>();
  CLI::App* command = add_keys(app, "move", "Move objects to another tier", arguments);
  command
      ->add_option("--to", arguments->to,
                   "dram: a copy there, slower ones stay; nvme, shared: a copy, faster ones go")
      ->required()
      ->check(CLI::IsMember({"dram", "nvme", "shared"}));
  command->footer(
      examples("  terrace move report.pdf --to nvme\n"
               "  terrace move a b c --to shared --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) { return run_move(*arguments, globals); };
  });
}
}  // namespace terrace
