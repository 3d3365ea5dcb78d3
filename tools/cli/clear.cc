// `terrace clear`: drops the objects of a namespace, in one tier or in all.
#include <cstdio>
#include <iostream>
#include <memory>

#include "base/limits.h"
#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"
#include "tools/cli/tier_objects.h"

namespace terrace {
namespace {
struct ClearArguments {
  std::string ns;
  std::string tier;  // empty: all
  std::string prefix;
  bool yes = false;
};

struct Cleared {
  uint64_t objects = 0;
  uint64_t bytes = 0;
  uint64_t kept = 0;
  uint64_t failed = 0;
};

/// Names that begin with the prefix, node after node; what only the shared tier has, has none.
StatusOr<TierObjects> with_prefix(const Globals& globals, const ClearArguments& arguments) {
  TierObjects out;
  out.tenant = globals.tenant;
  out.ns = arguments.ns;
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, connect(globals));
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId id,
                           open_existing(globals, client.get(), arguments.ns));
  std::string cursor;
  do {
    TERRACE_ASSIGN_OR_RETURN(
        const Completion page,
        finish(client.get(), client->list(id, cursor, kKeysPerRequestMax, {}), globals));
    TERRACE_RETURN_IF_ERROR(page.status);
    for (const ObjectEntry& entry : page.entries) {
      if (entry.raw_key.starts_with(arguments.prefix)) out.keys.push_back(entry.key);
    }
    cursor = page.cursor;
  } while (!cursor.empty());
  return out;
}

/// One call to one node; shows how far it is.
Status clear_on(const Globals& globals, const std::string& node, const proto::ClearRequest& request,
                Progress* progress, Cleared* total) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node, true));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  const auto stream = stub->Clear(call.context.get(), request);
  proto::ClearProgress step;
  Cleared here;
  while (stream->Read(&step)) {
    here = {step.cleared(), step.bytes(), step.kept(), step.failed()};
    progress->show(total->objects + here.objects, node);
  }
  total->objects += here.objects;
  total->bytes += here.bytes;
  total->kept += here.kept;
  total->failed += here.failed;
  return end_of_stream(stream->Finish(), step.over(), node);
}

StatusOr<Cleared> clear_all(const Globals& globals, const ClearArguments& arguments,
                            uint64_t expected) {
  TierObjects objects;
  objects.tenant = globals.tenant;
  objects.ns = arguments.ns;
  if (!arguments.prefix.empty()) {
    TERRACE_ASSIGN_OR_RETURN(objects, with_prefix(globals, arguments));
    if (objects.keys.empty()) return Cleared();  // no keys would mean all of them
    expected = objects.keys.size();
  }
  Cleared total;
  Progress progress("clear", std::max<uint64_t>(1, expected), !globals.json);
  for (const std::string& node : node_names(globals)) {
    for (size_t first = 0; first == 0 || first < objects.keys.size(); first += kKeysPerRequestMax) {
      const size_t count = std::min<size_t>(kKeysPerRequestMax, objects.keys.size() - first);
      proto::ClearRequest request;
      *request.mutable_objects() = objects.message(first, count);
      request.set_tier(arguments.tier);
      const Status done = clear_on(globals, node, request, &progress, &total);
      // A node that never opened the namespace has nothing of it.
      if (!done.ok() && done.code() != StatusCode::kNotFound) return done;
    }
  }
  return total;
}

bool agreed(const Globals& globals, const ClearArguments& arguments, uint64_t objects,
            uint64_t bytes) {
  if (arguments.yes) return true;
  if (globals.json) return false;
  const std::string where = arguments.tier.empty() ? "every tier, the shared one included"
                                                   : "the tier " + arguments.tier +
                                                         ", also those that have no other copy";
  std::printf("Clear %s of namespace \"%s\" (%s objects, %s) of tenant \"%s\" from %s? [y/N] ",
              arguments.prefix.empty() ? "all objects"
                                       : ("objects named " + arguments.prefix + "...").c_str(),
              arguments.ns.c_str(), human_count(objects).c_str(), human_bytes(bytes).c_str(),
              globals.tenant.c_str(), where.c_str());
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

int run_clear(const ClearArguments& arguments, const Globals& globals) {
  const auto namespaces = list_namespaces(globals);
  if (!namespaces.ok()) return report_failure(globals, "clear", namespaces.status());
  const auto known = std::find_if(namespaces->begin(), namespaces->end(),
                                  [&](const auto& ns) { return ns.name() == arguments.ns; });
  if (known == namespaces->end()) {
    return report_failure(
        globals, "clear",
        error(StatusCode::kNotFound,
              "no namespace \"" + arguments.ns + "\" of tenant \"" + globals.tenant + "\""));
  }
  if (!agreed(globals, arguments, known->objects(), known->bytes())) {
    return report_failure(globals, "clear",
                          error(StatusCode::kAborted, "nothing was cleared: answer y, or --yes"));
  }
  const auto cleared = clear_all(globals, arguments, known->objects());
  if (!cleared.ok()) return report_failure(globals, "clear", cleared.status());
  if (globals.json) {
    print_json({{"command", "clear"},
                {"ok", cleared->failed == 0},
                {"namespace", arguments.ns},
                {"tier", arguments.tier.empty() ? "all" : arguments.tier},
                {"cleared", cleared->objects},
                {"bytes", cleared->bytes},
                {"kept", cleared->kept},
                {"failed", cleared->failed}});
  } else {
    std::printf("%s objects cleared (%s), %s kept: pinned or in use, %s failed\n",
                human_count(cleared->objects).c_str(), human_bytes(cleared->bytes).c_str(),
                human_count(cleared->kept).c_str(), human_count(cleared->failed).c_str());
  }
  return cleared->failed == 0 ? kExitOk : kExitNo;
}
}  // namespace

void add_clear(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("clear", "Drop the objects of a namespace");
  auto arguments = std::make_shared<ClearArguments>();
  command->add_option("--namespace", arguments->ns, "Which one, of --tenant")->required();
  command->add_option("--tier", arguments->tier, "Only the copies there; default: all tiers")
      ->check(CLI::IsMember({"dram", "nvme", "shared"}));
  command->add_option("--prefix", arguments->prefix, "Only raw objects whose names begin so");
  command->add_flag("--yes", arguments->yes, "Do not ask");
  command->footer(
      examples("  terrace clear --namespace llama-8b\n"
               "  terrace clear --namespace llama-8b --tier dram --yes\n"
               "  terrace clear --namespace files --prefix reports/2024 --yes --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_clear(*arguments, globals);
    };
  });
}
}  // namespace terrace
