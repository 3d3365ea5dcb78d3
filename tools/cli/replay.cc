// `terrace replay`: a trace through the real client and a real node, every fetched byte compared.
#include <cstdio>
#include <memory>
#include <optional>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/geometry_option.h"
#include "tools/cli/local_node.h"
#include "tools/cli/replay_driver.h"
#include "tools/trace/trace_generator.h"
#include "tools/trace/trace_reader.h"

namespace terrace {
namespace {

struct ReplayArguments {
  std::string trace;
  std::string geometry = "small";
  double scale = 1;
  uint64_t requests_max = 0;
  bool drop_partial_tail = false;
  uint32_t connections = 2;
  uint64_t dram_mib = 512;
  uint64_t nvme_mib = 0;
  std::string directory = "/var/tmp";
  std::vector<std::string> node_flags;
  ReplayOptions driver;
};

struct LoadedTrace {
  std::vector<TraceRequest> requests;
  uint32_t block_tokens = 0;
  std::string name;
};

/// The last id of a request is a partial block when its tokens do not fill it.
void drop_partial_tail(uint32_t block_tokens, TraceRequest* request) {
  if (request->input_tokens < request->block_ids.size() * uint64_t{block_tokens} &&
      !request->block_ids.empty()) {
    request->block_ids.pop_back();
  }
}

StatusOr<LoadedTrace> load_trace(const ReplayArguments& arguments) {
  LoadedTrace out;
  out.name = arguments.trace;
  if (arguments.trace == "generated") {
    TraceShape shape;
    if (arguments.requests_max > 0) shape.requests = static_cast<uint32_t>(arguments.requests_max);
    out.requests = generate_trace(shape, arguments.driver.seed);
    out.block_tokens = shape.block_tokens;
  } else {
    TERRACE_ASSIGN_OR_RETURN(TraceReader reader, TraceReader::open(arguments.trace));
    out.block_tokens = reader.block_tokens();
    TraceRequest request;
    while (arguments.requests_max == 0 || out.requests.size() < arguments.requests_max) {
      TERRACE_ASSIGN_OR_RETURN(const bool more, reader.next(&request));
      if (!more) break;
      out.requests.push_back(request);
    }
  }
  if (arguments.drop_partial_tail) {
    for (TraceRequest& request : out.requests) drop_partial_tail(out.block_tokens, &request);
  }
  return out;
}

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
  TERRACE_ASSIGN_OR_RETURN(const LoadedTrace trace, load_trace(arguments));
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
  facts->trace = trace.name;
  facts->speed = arguments.driver.speed;
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId ns,
                           client->open_namespace("replay-" + std::to_string(facts->block_bytes),
                                                  fingerprint_of(geometry)));
  ReplayOptions options = arguments.driver;
  options.deadline = milliseconds(globals.timeout_ms);
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
  command
      ->add_option("--trace", arguments->trace,
                   "Mooncake or Qwen-Bailian JSONL, or .kvt, plain or .zst; or: generated")
      ->required();
  command->add_option("--geometry", arguments->geometry, "KV of one block, preset or fields")
      ->capture_default_str();
  command->add_option("--scale", arguments->scale, "Block bytes, times this")
      ->capture_default_str();
  command->add_option("--speed", driver->speed, "Times as fast as the trace; 0: one by one")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--requests", arguments->requests_max, "At most so many; 0: all")
      ->check(CLI::Range(uint64_t{0}, uint64_t{100'000'000}))
      ->capture_default_str();
  command->add_option("--in-flight", driver->requests_in_flight, "Requests at once, at most")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  command->add_flag("--drop-partial-tail", arguments->drop_partial_tail,
                    "Leave out a request's last block when its tokens do not fill it");
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
