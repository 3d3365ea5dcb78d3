// `terrace replay`: a trace through the real client and a real node, every fetched byte compared.
#include <cstdio>
#include <memory>
#include <optional>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/geometry_option.h"
#include "tools/cli/local_node.h"
#include "tools/cli/replay_driver.h"
#include "tools/cli/trace_option.h"

namespace terrace {
namespace {

struct ReplayArguments {
  TraceOption trace;
  std::string geometry = "small";
  double scale = 1;
  uint32_t connections = 2;
  uint64_t dram_mib = 512;
  uint64_t nvme_mib = 0;
  std::string directory = "/var/tmp";
  std::vector<std::string> node_flags;
  ReplayOptions driver;
};

/// A node of our own with its directory; both end with it.
struct OwnNode {
  TemporaryDirectory directory;
  LocalNode node;
};

StatusOr<std::unique_ptr<OwnNode>> start_node(const ReplayArguments& arguments) {
  TERRACE_ASSIGN_OR_RETURN(TemporaryDirectory directory,
                           TemporaryDirectory::create("replay", arguments.directory));
  LocalNodeOptions options;
  options.dram_bytes = arguments.dram_mib << 20;
  options.nvme_bytes = arguments.nvme_mib << 20;
  if (options.nvme_bytes > 0) options.data_directory = directory.path() + "/data";
  options.log_file = directory.path() + "/log";
  options.flags = arguments.node_flags;
  TERRACE_ASSIGN_OR_RETURN(LocalNode node, LocalNode::start(options));
  return std::unique_ptr<OwnNode>(new OwnNode{std::move(directory), std::move(node)});
}

Fingerprint fingerprint_of(const Geometry& geometry) {
  Fingerprint fingerprint;
  fingerprint.model_id = "replay";
  fingerprint.geometry = geometry;
  return fingerprint;
}

StatusOr<ReplayCounts> replay(const ReplayArguments& arguments, Globals globals,
                              ReplayFacts* facts) {
  TERRACE_ASSIGN_OR_RETURN(Geometry geometry, parse_geometry(arguments.geometry));
  TERRACE_ASSIGN_OR_RETURN(geometry, scale_geometry(std::move(geometry), arguments.scale));
  TERRACE_ASSIGN_OR_RETURN(const LoadedTrace trace, arguments.trace.load(arguments.driver.seed));
  std::unique_ptr<OwnNode> own;
  if (!globals.node_given) {
    TERRACE_ASSIGN_OR_RETURN(own, start_node(arguments));
    globals.node = own->node.endpoint();
  }
  TERRACE_ASSIGN_OR_RETURN(ClientConfig config, client_config(globals));
  config.data_connections = arguments.connections;
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::open(config));
  facts->geometry = describe(geometry);
  facts->block_bytes = total_bytes(sections_of(geometry, geometry.tokens_per_chunk));
  facts->trace = arguments.trace.name;
  facts->speed = arguments.driver.speed;
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId ns,
                           client->open_namespace("replay-" + std::to_string(facts->block_bytes),
                                                  fingerprint_of(geometry)));
  ReplayOptions options = arguments.driver;
  options.deadline = milliseconds(globals.timeout_ms);
  options.block_tokens = trace.block_tokens;
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<ReplayDriver> driver,
                           ReplayDriver::create(client.get(), ns, facts->block_bytes, options));
  Progress progress("replay", trace.requests.size(), !globals.json);
  return driver->run(trace.requests, [&](uint64_t done) {
    progress.show(done, human_count(done) + " of " + human_count(trace.requests.size()));
  });
}

int run_replay(const ReplayArguments& arguments, const Globals& globals) {
  ReplayFacts facts;
  const StatusOr<ReplayCounts> counts = replay(arguments, globals, &facts);
  if (!counts.ok()) return report_failure(globals, "replay", counts.status());
  if (globals.json) {
    Json out = {{"command", "replay"}, {"ok", counts->held()}};
    out.update(to_json(*counts, facts));
    print_json(out);
  } else {
    std::fputs(to_text(*counts, facts).c_str(), stdout);
    if (!counts->held()) std::fputs("FAILED: see wrong bytes, failures, refusals\n", stdout);
  }
  return counts->held() ? kExitOk : kExitNo;
}

void add_options(CLI::App* command, ReplayArguments* arguments) {
  ReplayOptions* const driver = &arguments->driver;
  arguments->trace.add_to(command);
  command->add_option("--geometry", arguments->geometry, "KV of one block, preset or fields")
      ->capture_default_str();
  command->add_option("--scale", arguments->scale, "Block bytes, times this")
      ->capture_default_str();
  command->add_option("--speed", driver->speed, "Times as fast as the trace; 0: one by one")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--in-flight", driver->requests_in_flight, "Requests at once, at most")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  const std::map<std::string, Durability> durabilities = {
      {"memory", Durability::memory}, {"nvme", Durability::nvme}, {"shared", Durability::shared}};
  command->add_option("--durability", driver->durability, "Of what is stored (default memory)")
      ->transform(CLI::CheckedTransformer(durabilities).description(""))
      ->type_name("memory|nvme|shared");
  command->add_option("--seed", driver->seed, "Of the contents and keys")->capture_default_str();
  command->add_option("--connections", arguments->connections, "Data connections")
      ->check(CLI::Range(1u, 15u))
      ->capture_default_str();
  command->add_option("--dram-mib", arguments->dram_mib, "Of its own node: dram tier")
      ->capture_default_str();
  command->add_option("--nvme-mib", arguments->nvme_mib, "Of its own node: nvme tier; 0: none")
      ->capture_default_str();
  command->add_option("--directory", arguments->directory, "Where its own node's files go")
      ->capture_default_str();
  command->add_option("--node-flag", arguments->node_flags,
                      "More flags of its own node, e.g. --node-flag=--promote-hits=1");
}
}  // namespace

void add_replay(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("replay", "Replay a trace against a node, every byte compared");
  auto arguments = std::make_shared<ReplayArguments>();
  add_options(command, arguments.get());
  command->footer(
      examples("  terrace replay --trace generated --requests 500\n"
               "  terrace replay --trace conversation.jsonl.zst --speed 100 --nvme-mib 4096\n"
               "  terrace replay --trace agents.kvt --geometry llama-8b --scale 0.01 --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_replay(*arguments, globals);
    };
  });
}
}  // namespace terrace
