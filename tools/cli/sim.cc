// `terrace sim`: what a policy would be worth on a trace, two tiers of given sizes, nothing moved.
#include <cstdio>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/output.h"
#include "tools/cli/trace_option.h"
#include "tools/sim/tier_sim.h"

namespace terrace {
namespace {

struct SimArguments {
  TraceOption trace;
  uint64_t seed = 1;
  double dram_percent = 5;
  double nvme_percent = 20;
  std::vector<std::string> policies = {"lru", "value"};
  TierSimOptions options;
};

struct SimResult {
  std::string policy;
  TierSimCounts counts;
};

StatusOr<std::vector<SimResult>> simulate(const SimArguments& arguments, bool progress_wanted) {
  TERRACE_ASSIGN_OR_RETURN(const LoadedTrace trace, arguments.trace.load(arguments.seed));
  const auto unique = static_cast<double>(unique_blocks(trace.requests));
  TierSimOptions options = arguments.options;
  options.block_tokens = trace.block_tokens;
  options.dram_blocks = static_cast<uint64_t>(unique * arguments.dram_percent / 100);
  options.nvme_blocks = static_cast<uint64_t>(unique * arguments.nvme_percent / 100);
  if (options.dram_blocks == 0) {
    return error(StatusCode::kInvalidArgument,
                 "dram-percent=" + fixed(arguments.dram_percent, 3) + " of " +
                     human_count(static_cast<uint64_t>(unique)) + " blocks is none: raise it");
  }
  constexpr size_t kStep = 256;
  const std::span<const TraceRequest> all = trace.requests;
  Progress progress("simulate", all.size() * arguments.policies.size(), progress_wanted);
  std::vector<SimResult> results;
  for (const std::string& name : arguments.policies) {
    TERRACE_ASSIGN_OR_RETURN(const PolicyKind policy, policy_kind_of(name));
    TierSim sim(policy, options);
    for (size_t at = 0; at < all.size(); at += kStep) {
      sim.run(all.subspan(at, std::min(kStep, all.size() - at)));
      progress.show(results.size() * all.size() + at, name);
    }
    results.push_back({name, sim.counts()});
  }
  return results;
}

std::string percent(uint64_t part, uint64_t of) {
  return fixed(of == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(of), 2);
}

void print_text(const std::vector<SimResult>& results) {
  const TierSimCounts& first = results.front().counts;
  std::printf("%s requests, %s references to %s blocks\n", human_count(first.requests).c_str(),
              human_count(first.references).c_str(), human_count(first.unique).c_str());
  Table table({"policy", "dram hit %", "nvme hit %", "block hit %", "saved s", "of s",
               "dram writes %", "nvme writes %", "promotions"});
  for (const SimResult& result : results) {
    const TierSimCounts& c = result.counts;
    table.add({result.policy, fixed(c.prefix_percent(Tier::dram), 2),
               fixed(c.prefix_percent(Tier::nvme), 2), percent(c.block_hits, c.references),
               fixed(c.saved_s, 1), fixed(c.recompute_s, 1),
               percent(c.writes[static_cast<size_t>(Tier::dram)], c.references),
               percent(c.writes[static_cast<size_t>(Tier::nvme)], c.references),
               human_count(c.promotions)});
  }
  std::fputs(table.text().c_str(), stdout);
}

void print_all(const std::vector<SimResult>& results) {
  Json out = {{"command", "sim"}, {"ok", true}, {"policies", Json::array()}};
  for (const SimResult& result : results) {
    const TierSimCounts& c = result.counts;
    out["policies"].push_back({{"policy", result.policy},
                               {"requests", c.requests},
                               {"references", c.references},
                               {"unique_blocks", c.unique},
                               {"block_hits", c.block_hits},
                               {"dram_prefix_hits", c.prefix_hits[static_cast<size_t>(Tier::dram)]},
                               {"nvme_prefix_hits", c.prefix_hits[static_cast<size_t>(Tier::nvme)]},
                               {"recompute_s", c.recompute_s},
                               {"saved_s", c.saved_s},
                               {"dram_writes", c.writes[static_cast<size_t>(Tier::dram)]},
                               {"nvme_writes", c.writes[static_cast<size_t>(Tier::nvme)]},
                               {"promotions", c.promotions},
                               {"policy_memory_bytes", c.policy_bytes}});
  }
  print_json(out);
}

int run_sim(const SimArguments& arguments, const Globals& globals) {
  const StatusOr<std::vector<SimResult>> results = simulate(arguments, !globals.json);
  if (!results.ok()) return report_failure(globals, "sim", results.status());
  if (globals.json) {
    print_all(*results);
  } else {
    print_text(*results);
  }
  return kExitOk;
}

void add_options(CLI::App* command, SimArguments* arguments) {
  arguments->trace.add_to(command);
  command->add_option("--seed", arguments->seed, "Of a generated trace")->capture_default_str();
  command
      ->add_option("--dram-percent", arguments->dram_percent,
                   "Size of dram, in percent of the trace's different blocks")
      ->check(CLI::Range(0.001, 100.0))
      ->capture_default_str();
  command->add_option("--nvme-percent", arguments->nvme_percent, "The same of nvme; 0: none")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--policy", arguments->policies, "lru, value, or several")
      ->capture_default_str();
  TierSimOptions* const options = &arguments->options;
  command
      ->add_option("--promote-hits", options->promote_hits,
                   "Hits in nvme until a block comes into dram")
      ->check(CLI::Range(1u, 255u))
      ->capture_default_str();
  command
      ->add_option("--prefill-tokens-per-s", options->saving.prefill_tokens_per_s,
                   "How fast the engine computes at the beginning of a prompt")
      ->check(CLI::Range(1.0, 1e9))
      ->capture_default_str();
  command->add_option("--kv-bytes-per-token", options->saving.kv_bytes_per_token, "KV of one token")
      ->check(CLI::Range(1.0, 1e9))
      ->capture_default_str();
  command
      ->add_option("--dram-bytes-per-s",
                   options->saving.bytes_per_s[static_cast<size_t>(Tier::dram)],
                   "How fast dram is loaded")
      ->check(CLI::Range(1e3, 1e15))
      ->capture_default_str();
  command
      ->add_option("--nvme-bytes-per-s",
                   options->saving.bytes_per_s[static_cast<size_t>(Tier::nvme)],
                   "How fast nvme is loaded")
      ->check(CLI::Range(1e3, 1e15))
      ->capture_default_str();
}
}  // namespace

void add_sim(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("sim", "What each eviction policy would save on a trace; moves nothing");
  auto arguments = std::make_shared<SimArguments>();
  add_options(command, arguments.get());
  command->footer(
      examples("  terrace sim --trace conversation.kvt.zst\n"
               "  terrace sim --trace agents.kvt --dram-percent 1 --nvme-percent 5 --policy value\n"
               "  terrace sim --trace generated --requests 2000 --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) { return run_sim(*arguments, globals); };
  });
}
}  // namespace terrace
