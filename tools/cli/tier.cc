// `terrace tier`: the tiers of a node; kActions is the only list of what may be done about them.
#include <cstdio>
#include <map>
#include <memory>

#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"
#include "tools/cli/tier_actions.h"

namespace terrace {
namespace {
using TierStatus = proto::TierStatusReply::Tier;

Json json_of_counts(const google::protobuf::Map<std::string, uint64_t>& counts) {
  Json out = Json::object();
  for (const auto& [name, count] : std::map<std::string, uint64_t>(counts.begin(), counts.end())) {
    out[name] = count;
  }
  return out;
}

Json to_json(const TierStatus& tier) {
  Json out = {
      {"tier", tier.tier()},
      {"capacity_bytes", tier.capacity_bytes()},
      {"used_bytes", tier.used_bytes()},
      {"free_bytes", tier.capacity_bytes() - std::min(tier.capacity_bytes(), tier.used_bytes())},
      {"objects", tier.objects()},
      {"price", tier.price()},
      {"reads", tier.reads()},
      {"read_bytes", tier.read_bytes()},
      {"writes", tier.writes()},
      {"write_bytes", tier.write_bytes()},
      {"evictions", tier.evictions()},
      {"evicted_bytes", tier.evicted_bytes()},
      {"departures", json_of_counts(tier.departures())},
      {"failures", tier.failures()},
      {"health", tier.health()}};
  if (tier.tier() == "shared") {
    out["fenced"] = tier.fenced();
    out["sweeper"] = tier.sweeper();
    out["hanging_calls"] = tier.hanging_calls();
    out["misses"] = json_of_counts(tier.misses());
  }
  return out;
}

void print_text(const proto::TierStatusReply& status, const std::string& node) {
  Table tiers({"tier", "used", "free", "capacity", "objects", "price", "hits", "evicted",
               "failures", "health"});
  for (const TierStatus& tier : status.tiers()) {
    char price[32];
    std::snprintf(price, sizeof price, "%.3g", tier.price());
    const uint64_t free =
        tier.capacity_bytes() - std::min(tier.capacity_bytes(), tier.used_bytes());
    tiers.add({tier.tier(), human_bytes(tier.used_bytes()), human_bytes(free),
               human_bytes(tier.capacity_bytes()), human_count(tier.objects()),
               tier.price() == 0 ? "-" : price, human_count(tier.reads()),
               human_count(tier.evictions()), human_count(tier.failures()), tier.health()});
  }
  std::printf("%s at %s\n%s", status.node_id().c_str(), node.c_str(), tiers.text().c_str());
  std::string misses;
  for (const auto& [why, count] :
       std::map<std::string, uint64_t>(status.misses().begin(), status.misses().end())) {
    if (count > 0) misses += (misses.empty() ? "" : ", ") + why + " " + human_count(count);
  }
  std::printf("keys looked up %s, found %s; missed because: %s\n",
              human_count(status.keys_looked_up()).c_str(),
              human_count(status.keys_found()).c_str(), misses.empty() ? "-" : misses.c_str());
  for (const TierStatus& tier : status.tiers()) {
    if (tier.tier() != "shared") continue;
    std::printf("shared: %s, %s its sweeper, %s calls hang\n",
                tier.fenced() ? "skipped, it does not answer" : "answers",
                tier.sweeper() ? "this node is" : "this node is not",
                human_count(tier.hanging_calls()).c_str());
  }
}

using DeviceOfTier = proto::TierStatusReply::Device;

Json to_json(const DeviceOfTier& device) {
  return {{"device", device.place()},
          {"path", device.path()},
          {"capacity_bytes", device.capacity_bytes()},
          {"used_bytes", device.used_bytes()},
          {"written_bytes", device.written_bytes()},
          {"trimmed_bytes", device.trimmed_bytes()},
          {"health", device.health()}};
}

void print_devices(const proto::TierStatusReply& status) {
  if (status.devices().empty()) return;
  Table devices({"nvme device", "used", "capacity", "written", "health", "path"});
  for (const DeviceOfTier& device : status.devices()) {
    devices.add({std::to_string(device.place()), human_bytes(device.used_bytes()),
                 human_bytes(device.capacity_bytes()), human_bytes(device.written_bytes()),
                 device.health(), device.path()});
  }
  std::printf("%s", devices.text().c_str());
}

int run_status(const Globals& globals) {
  Json nodes = Json::array();
  for (const std::string& node : node_names(globals)) {
    const auto status = admin_call<proto::TierAdmin>(globals, node, proto::TierStatusRequest(),
                                                     &proto::TierAdmin::Stub::TierStatus);
    if (!status.ok()) return report_failure(globals, "tier status", status.status());
    if (!globals.json) {
      print_text(*status, node);
      print_devices(*status);
    }
    Json devices = Json::array();
    for (const DeviceOfTier& device : status->devices()) devices.push_back(to_json(device));
    Json tiers = Json::array();
    for (const TierStatus& tier : status->tiers()) tiers.push_back(to_json(tier));
    nodes.push_back({{"node_id", status->node_id()},
                     {"tiers", tiers},
                     {"devices", devices},
                     {"keys_looked_up", status->keys_looked_up()},
                     {"keys_found", status->keys_found()},
                     {"misses", json_of_counts(status->misses())}});
  }
  if (globals.json) print_json({{"command", "tier status"}, {"ok", true}, {"nodes", nodes}});
  return kExitOk;
}

void add_status(CLI::App* tier, Invocation* invocation) {
  CLI::App* status = tier->add_subcommand("status", "Bytes, objects, prices, hits and health");
  status->footer(
      examples("  terrace tier status\n"
               "  terrace --node a:7410,b:7410 tier status --json\n"));
  status->callback([invocation] { invocation->run = run_status; });
}

constexpr AddCommand kActions[] = {add_status, add_tier_verify, add_tier_drain, add_tier_trim,
                                   add_tier_resize};
}  // namespace

void add_tier(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("tier", "Look after the tiers of a node");
  command->require_subcommand(1);
  command->footer(examples("  terrace tier status\n"));
  for (const AddCommand action : kActions) action(command, invocation);
}
}  // namespace terrace
