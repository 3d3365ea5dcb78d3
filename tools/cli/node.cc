// `terrace node status`: what a node says of itself.
#include <cstdio>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
Json to_json(const proto::NodeStatusReply& status) {
  Json tiers = Json::array();
  for (const auto& tier : status.tiers()) {
    tiers.push_back({{"tier", tier.tier()},
                     {"capacity_bytes", tier.capacity_bytes()},
                     {"used_bytes", tier.used_bytes()},
                     {"objects", tier.objects()}});
  }
  Json counters = Json::object();
  for (const auto& name :
       std::map<std::string, uint64_t>(status.counters().begin(), status.counters().end())) {
    counters[name.first] = name.second;
  }
  return {
      {"command", "node status"},
      {"ok", true},
      {"node_id", status.node_id()},
      {"version", status.version()},
      {"boot_id", std::to_string(status.boot_id())},  // 64 bits do not fit a JSON reader's double
      {"uptime_ms", status.uptime_ms()},
      {"sessions", status.sessions()},
      {"operations_in_flight", status.operations_in_flight()},
      {"recovered_objects", status.recovered_objects()},
      {"recovery_us", status.recovery_us()},
      {"tiers", tiers},
      {"counters", counters},
      {"effective_config", status.effective_config()}};
}

void print_text(const proto::NodeStatusReply& status, const Globals& globals, bool all) {
  Table facts({"node", status.node_id() + " at " + globals.node}, true);
  facts.add({"version", status.version()});
  facts.add({"up", human_duration(milliseconds(status.uptime_ms()))});
  facts.add({"sessions", human_count(status.sessions())});
  facts.add({"operations", human_count(status.operations_in_flight()) + " in flight"});
  facts.add({"recovered", human_count(status.recovered_objects()) + " objects in " +
                              human_duration(microseconds(status.recovery_us()))});
  Table tiers({"tier", "used", "capacity", "full", "objects"});
  for (const auto& tier : status.tiers()) {
    const double full = tier.capacity_bytes() == 0
                            ? 0
                            : 100.0 * static_cast<double>(tier.used_bytes()) /
                                  static_cast<double>(tier.capacity_bytes());
    tiers.add({tier.tier(), human_bytes(tier.used_bytes()), human_bytes(tier.capacity_bytes()),
               fixed(full, 1) + " %", human_count(tier.objects())});
  }
  std::printf("%s\n%s", facts.text().c_str(), tiers.text().c_str());
  if (!all) return;
  Table counters({"counter", "value"});
  for (const auto& entry :
       std::map<std::string, uint64_t>(status.counters().begin(), status.counters().end())) {
    counters.add({entry.first, human_count(entry.second)});
  }
  std::printf("\n%s\n%s", counters.text().c_str(), status.effective_config().c_str());
}

int run_status(const Globals& globals, bool all) {
  const StatusOr<proto::NodeStatusReply> status = node_status(globals);
  if (!status.ok()) return report_failure(globals, "node status", status.status());
  if (globals.json) {
    print_json(to_json(*status));
  } else {
    print_text(*status, globals, all);
  }
  return kExitOk;
}
}  // namespace

void add_node(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("node", "Ask about a node");
  command->require_subcommand(1);
  CLI::App* status = command->add_subcommand("status", "Tiers, sessions, recovery, counters");
  auto all = std::make_shared<bool>(false);
  status->add_flag("--all", *all, "Counters and configuration too");
  status->footer(
      examples("  terrace node status\n"
               "  terrace --node 10.0.0.7:7410 node status --all\n"
               "  terrace node status --json\n"));
  command->footer(examples("  terrace node status\n"));
  status->callback([all, invocation] {
    invocation->run = [all](const Globals& globals) { return run_status(globals, *all); };
  });
}
}  // namespace terrace
