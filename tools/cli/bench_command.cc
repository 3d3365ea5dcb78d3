// `terrace bench`: its options, and which benchmark they start.
#include <map>
#include <memory>

#include "tools/cli/bench.h"
#include "tools/cli/commands.h"

namespace terrace {
namespace {
const std::map<std::string, Tier> kTiers = {{"dram", Tier::dram}, {"nvme", Tier::nvme}};

void add_common(CLI::App* command, BenchOptions* options) {
  command->add_option("--rounds", options->rounds, "Rounds; figures are their medians")
      ->check(CLI::Range(1u, 1000u))
      ->capture_default_str();
  command->add_option("--seconds-per-round", options->seconds_per_round, "Length of each part")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  command->add_flag("--check", options->check, "Exit 1 when a bar does not hold");
  command
      ->add_option("--directory", options->directory,
                   "Where the node and fio get their files, on the disk to measure")
      ->capture_default_str();
  command->add_option("--node-cpus", options->node_cpus, "CPUs of the node's data loop, as in 0-3");
  command->add_option("--client-cpus", options->client_cpus, "CPUs of the client's data thread");
  command
      ->add_option("--poll-us", options->poll_us,
                   "How long both look for work before they sleep; 0: event wait")
      ->check(CLI::Range(0u, 1'000'000u))
      ->capture_default_str();
}

template <class Options>
using Bench = StatusOr<BenchReport> (*)(const Options&, const Globals&);

/// Runs `bench` when `command` was chosen.
template <class Options>
void run_when_chosen(CLI::App* command, Invocation* invocation, std::shared_ptr<Options> options,
                     Bench<Options> bench) {
  const std::string name = "bench " + command->get_name();
  command->callback([=] {
    invocation->run = [=](const Globals& globals) {
      const StatusOr<BenchReport> report = bench(*options, globals);
      if (report.ok()) return print_report(*report, globals, *options);
      report_failure(globals, name, report.status());
      return kExitError;  // it could not be measured, whatever the reason
    };
  });
}

void add_chunk_options(CLI::App* command, ChunkBenchOptions* options) {
  add_common(command, options);
  command->add_option("--chunk-mib", options->chunk_mib, "Size of a chunk")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1024}))
      ->capture_default_str();
  command->add_option("--layers", options->layers, "Layers of a chunk")
      ->check(CLI::Range(1u, 512u))
      ->capture_default_str();
  command->add_option("--connections", options->connections, "Data connections")
      ->check(CLI::Range(1u, 15u))
      ->capture_default_str();
  command->add_option("--depth", options->depth, "Operations in flight")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  command->add_option("--working-set-mib", options->working_set_mib, "Bytes of all chunks")
      ->check(CLI::Range(uint64_t{1}, uint64_t{65536}))
      ->capture_default_str();
}

void add_tier(CLI::App* command, ChunkBenchOptions* options) {
  command->add_option("--tier", options->tier, "Where the chunks lie (default dram)")
      ->transform(CLI::CheckedTransformer(kTiers).description(""))
      ->type_name("dram|nvme");
}

void add_transport(CLI::App* command, ChunkBenchOptions* options,
                   const std::vector<std::string>& transports) {
  command
      ->add_option("--transport", options->transport,
                   "How bytes travel; rdma needs a device, and perftest for its ceiling")
      ->check(CLI::IsMember(transports))
      ->capture_default_str();
}

void add_fetch(CLI::App* bench, Invocation* invocation) {
  CLI::App* command = bench->add_subcommand("fetch", "Chunks from a tier into registered memory");
  auto options = std::make_shared<ChunkBenchOptions>();
  add_chunk_options(command, options.get());
  add_tier(command, options.get());
  add_transport(command, options.get(), {"tcp", "shm", "view", "rdma"});
  command
      ->add_option("--block-tokens", options->block_tokens,
                   "Tokens per block of the paged cache that is also fetched into")
      ->check(CLI::Range(1u, 65536u))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Chunks of one fetch")
      ->check(CLI::Range(1u, 512u))
      ->capture_default_str();
  command->add_flag("!--no-redis", options->redis, "Leave out the comparison with Redis");
  command->footer(
      examples("  terrace bench fetch --transport tcp --tier dram --check\n"
               "  terrace bench fetch --transport shm --check\n"
               "  terrace bench fetch --transport view --check\n"
               "  terrace bench fetch --transport rdma --chunk-mib 8 --working-set-mib 64\n"
               "  terrace bench fetch --tier nvme --directory /mnt/nvme --json\n"));
  run_when_chosen(command, invocation, options, &bench_fetch);
}

void add_put_bench(CLI::App* bench, Invocation* invocation) {
  CLI::App* command = bench->add_subcommand("put", "Chunks out of registered memory into a tier");
  auto options = std::make_shared<ChunkBenchOptions>();
  add_chunk_options(command, options.get());
  add_tier(command, options.get());
  command->footer(
      examples("  terrace bench put --tier nvme --check\n"
               "  terrace bench put --tier dram --depth 4 --json\n"));
  run_when_chosen(command, invocation, options, &bench_put);
}

void add_pressure(CLI::App* bench, Invocation* invocation) {
  CLI::App* command =
      bench->add_subcommand("pressure", "Puts at line rate into a node whose tiers are all full");
  auto options = std::make_shared<ChunkBenchOptions>();
  options->seconds_per_round = 12;
  options->chunk_mib = 4;
  add_chunk_options(command, options.get());
  command->footer(
      examples("  terrace bench pressure --check\n"
               "  terrace bench pressure --rounds 10 --seconds-per-round 60 --json\n"));
  run_when_chosen(command, invocation, options, &bench_pressure);
}

void add_promotion(CLI::App* bench, Invocation* invocation) {
  CLI::App* command = bench->add_subcommand(
      "promotion", "Chunks from nvme while every one of them becomes a dram copy");
  auto options = std::make_shared<ChunkBenchOptions>();
  options->chunk_mib = 8;
  options->working_set_mib = 1024;
  add_chunk_options(command, options.get());
  command->footer(
      examples("  terrace bench promotion --check\n"
               "  terrace bench promotion --directory /mnt/nvme --json\n"));
  run_when_chosen(command, invocation, options, &bench_promotion);
}

void add_lookup(CLI::App* bench, Invocation* invocation) {
  CLI::App* command = bench->add_subcommand("lookup", "Batches of keys, alone and beside a fetch");
  auto options = std::make_shared<LookupBenchOptions>();
  add_common(command, options.get());
  command->add_option("--objects", options->objects, "Objects in the index")
      ->check(CLI::Range(uint64_t{1}, uint64_t{4'000'000}))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Keys of one lookup")->capture_default_str();
  command->add_option("--depth", options->depth, "Lookups in flight")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  command->add_option("--connections", options->connections, "Data connections")
      ->check(CLI::Range(1u, 15u))
      ->capture_default_str();
  command->add_option("--paced", options->paced_per_second, "Lookups per second beside the fetch")
      ->check(CLI::Range(1u, 100'000u))
      ->capture_default_str();
  command->footer(
      examples("  terrace bench lookup --check\n"
               "  terrace bench lookup --objects 1000000 --json\n"));
  run_when_chosen(command, invocation, options, &bench_lookup);
}

void add_index(CLI::App* bench, Invocation* invocation) {
  CLI::App* command =
      bench->add_subcommand("index", "Memory per object, and recovery after SIGKILL");
  auto options = std::make_shared<IndexBenchOptions>();
  add_common(command, options.get());
  command->add_option("--objects", options->objects, "Objects of 4 KiB to store")
      ->check(CLI::Range(uint64_t{1}, uint64_t{10'000'000}))
      ->capture_default_str();
  command->add_option("--depth", options->depth, "Puts of 128 objects in flight")
      ->check(CLI::Range(1u, 64u))
      ->capture_default_str();
  command->footer(
      examples("  terrace bench index --check\n"
               "  terrace bench index --objects 100000 --json\n"));
  run_when_chosen(command, invocation, options, &bench_index);
}

void add_restart(CLI::App* bench, Invocation* invocation) {
  CLI::App* command =
      bench->add_subcommand("restart", "DRAM hits after SIGKILL, the memory kept meanwhile");
  auto options = std::make_shared<RestartBenchOptions>();
  options->rounds = 3;
  add_common(command, options.get());
  command->add_option("--chunk-mib", options->chunk_mib, "Size of a chunk")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1024}))
      ->capture_default_str();
  command->add_option("--working-set-mib", options->working_set_mib, "Bytes of all chunks")
      ->check(CLI::Range(uint64_t{1024}, uint64_t{1048576}))
      ->capture_default_str();
  command->footer(
      examples("  terrace bench restart --check\n"
               "  terrace bench restart --working-set-mib 8192 --check\n"));
  run_when_chosen(command, invocation, options, &bench_restart);
}
}  // namespace

void add_bench(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("bench", "Measure a node beside this machine's own ceilings");
  command->require_subcommand(1);
  add_fetch(command, invocation);
  add_put_bench(command, invocation);
  add_pressure(command, invocation);
  add_promotion(command, invocation);
  add_lookup(command, invocation);
  add_index(command, invocation);
  add_restart(command, invocation);
  command->footer(
      examples("  terrace bench fetch --tier dram --check\n"
               "  terrace bench put --tier nvme --json\n"
               "  terrace bench lookup\n"
               "  terrace bench index --objects 100000\n"));
}
}  // namespace terrace
