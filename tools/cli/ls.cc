// `terrace ls`: lists the objects of a namespace, or the namespaces.
#include <cstdio>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct LsArguments {
  std::string ns = kFilesNamespace;
  bool namespaces = false;
  uint64_t limit = 1000;
};

struct Listing {
  std::vector<ObjectEntry> entries;
  bool more = false;
};

StatusOr<Listing> list_objects(const Globals& globals, const LsArguments& arguments) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, connect(globals));
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId ns,
                           open_existing(globals, client.get(), arguments.ns));
  Listing listing;
  std::string cursor;
  do {
    const uint64_t left = arguments.limit - listing.entries.size();
    const auto page = static_cast<uint32_t>(std::min<uint64_t>(left, kKeysPerRequestMax));
    TERRACE_ASSIGN_OR_RETURN(Completion done,
                             finish(client.get(), client->list(ns, cursor, page, {}), globals));
    TERRACE_RETURN_IF_ERROR(done.status);
    for (ObjectEntry& entry : done.entries) listing.entries.push_back(std::move(entry));
    cursor = done.cursor;
    listing.more = !cursor.empty();
  } while (listing.more && listing.entries.size() < arguments.limit);
  return listing;
}

std::string shown_name(const ObjectEntry& entry) {
  return entry.raw_key.empty() ? "key:" + entry.key.hex() : entry.raw_key;
}

int ls_objects(const LsArguments& arguments, const Globals& globals) {
  const StatusOr<Listing> listing = list_objects(globals, arguments);
  if (!listing.ok()) return report_failure(globals, "ls", listing.status());
  if (globals.json) {
    Json objects = Json::array();
    for (const ObjectEntry& entry : listing->entries) {
      objects.push_back({{"name", entry.raw_key},
                         {"key", entry.key.hex()},
                         {"bytes", entry.info.bytes},
                         {"sections", entry.info.sections},
                         {"tiers", tiers_text(entry.info.tiers)}});
    }
    print_json({{"command", "ls"},
                {"ok", true},
                {"namespace", arguments.ns},
                {"objects", objects},
                {"more", listing->more}});
    return kExitOk;
  }
  Table table({"name", "bytes", "tiers"}, true);
  for (const ObjectEntry& entry : listing->entries) {
    table.add({shown_name(entry), human_bytes(entry.info.bytes), tiers_text(entry.info.tiers)});
  }
  std::printf("%s%zu objects in \"%s\"%s\n", listing->entries.empty() ? "" : table.text().c_str(),
              listing->entries.size(), arguments.ns.c_str(),
              listing->more ? "; there are more: raise --limit" : "");
  return kExitOk;
}

int ls_namespaces(const Globals& globals) {
  const auto namespaces = list_namespaces(globals);
  if (!namespaces.ok()) return report_failure(globals, "ls", namespaces.status());
  Table table({"name", "model", "objects", "bytes", "quota"});
  Json entries = Json::array();
  for (const auto& entry : *namespaces) {
    table.add({entry.name(), entry.model_id(), human_count(entry.objects()),
               human_bytes(entry.bytes()),
               entry.bytes_max() == 0 ? "none" : human_bytes(entry.bytes_max())});
    entries.push_back({{"name", entry.name()},
                       {"tenant", entry.tenant()},
                       {"model", entry.model_id()},
                       {"objects", entry.objects()},
                       {"bytes", entry.bytes()},
                       {"bytes_max", entry.bytes_max()}});
  }
  if (globals.json) {
    print_json({{"command", "ls"}, {"ok", true}, {"namespaces", entries}});
  } else {
    std::printf("%s", table.text().c_str());
  }
  return kExitOk;
}
}  // namespace

void add_ls(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("ls", "List the objects of a namespace");
  auto arguments = std::make_shared<LsArguments>();
  command->add_option("--namespace", arguments->ns, "Which one")->capture_default_str();
  command->add_flag("--namespaces", arguments->namespaces, "List the namespaces instead");
  command->add_option("--limit", arguments->limit, "Objects to list at most")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000}))
      ->capture_default_str();
  command->footer(
      examples("  terrace ls\n"
               "  terrace ls --namespaces\n"
               "  terrace ls --namespace llama-8b --limit 20 --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return arguments->namespaces ? ls_namespaces(globals) : ls_objects(*arguments, globals);
    };
  });
}
}  // namespace terrace
