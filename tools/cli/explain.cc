// `terrace explain`: where an object is and why, or when and why it went.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "proto/message_kind.h"
#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/files.h"
#include "tools/cli/output.h"
#include "tools/cli/tier_objects.h"

namespace terrace {
namespace {
struct ExplainArguments {
  std::string key;
  std::string ns = kFilesNamespace;
};

/// What is decided by values is said with three digits: only their order means something.
std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string ago(uint64_t ms) {
  return human_duration(milliseconds(ms)) + " ago";
}

Json to_json(const proto::ExplainReply::Copy& copy) {
  Json out = {{"tier", copy.tier()},         {"bytes", copy.bytes()},
              {"price", copy.price()},       {"kept_by_children", copy.needed()},
              {"children", copy.children()}, {"load_us", copy.load_us()}};
  if (copy.has_age_ms()) out["age_ms"] = copy.age_ms();
  return out;
}

Json to_json(const proto::ExplainReply::Departure& gone) {
  return {{"tier", gone.tier()},
          {"reason", gone.reason()},
          {"last_copy", gone.last()},
          {"age_ms", gone.age_ms()},
          {"bytes", gone.bytes()},
          {"value", gone.value()},
          {"price", gone.price()},
          {"misses", gone.misses()},
          {"last_miss_age_ms", gone.last_miss_age_ms()}};
}

/// Kept in steps of half a percent.
double importance_of(const proto::ExplainReply& said) {
  return std::round(static_cast<double>(said.importance()) * 200) / 200;
}

Json to_json(const proto::ExplainReply& said) {
  Json copies = Json::array();
  for (const auto& each : said.copies()) copies.push_back(to_json(each));
  Json departures = Json::array();
  for (const auto& each : said.departures()) departures.push_back(to_json(each));
  Json out = {{"node_id", said.node_id()},
              {"here", said.here()},
              {"bytes", said.logical_bytes()},
              {"durable", said.durable()},
              {"copies", copies},
              {"policy", said.policy()},
              {"value", said.value()},
              {"uses", said.uses()},
              {"uses_per_s", said.uses_per_s()},
              {"recompute_s", said.recompute_s()},
              {"recompute_us", said.recompute_us()},
              {"importance", importance_of(said)},
              {"since_use_ms", said.since_use_ms()},
              {"in_use_by", said.uses_now()},
              {"departures", departures}};
  out["priority"] = said.priority();
  out["pinned"] = said.pinned();
  out["expires_unix_s"] = said.expires_unix_s();
  out["type"] = said.type();
  out["turn"] = said.turn();
  out["session"] = said.session();
  out["namespace_pinned_bytes"] = said.namespace_pinned_bytes();
  out["namespace_pinned_bytes_max"] = said.namespace_pinned_bytes_max();
  if (!said.parent().empty()) out["parent"] = hex_of(said.parent());
  Json prices = Json::object();
  for (const char* tier : {"dram", "nvme", "shared"}) {
    const auto found = said.prices().find(tier);
    if (found != said.prices().end()) prices[tier] = found->second;
  }
  out["prices"] = prices;
  return out;
}

/// Why a copy stays where it is, in words.
std::string why_here(const proto::ExplainReply& said, const proto::ExplainReply::Copy& copy) {
  if (copy.tier() == "shared") return "published; its sweeper keeps the youngest";
  if (said.pinned()) return "pinned";
  if (said.uses_now() > 0) return "in use by " + human_count(said.uses_now());
  if (copy.needed()) return human_count(copy.children()) + " that follow it keep it";
  if (copy.price() == 0) return "there is room";
  return "value " + number(said.value()) + (said.value() >= copy.price() ? " >= " : " < ") +
         "price " + number(copy.price());
}

std::string said_of_worth(const proto::ExplainReply& said) {
  const std::string time = said.recompute_us() == 0
                               ? "nobody said how long"
                               : "said: " + human_duration(microseconds(said.recompute_us()));
  return time + ", importance " + number(importance_of(said));
}

void print_here(const proto::ExplainReply& said) {
  Table copies({"tier", "bytes", "since", "first byte", "why"}, true);
  for (const auto& copy : said.copies()) {
    copies.add({copy.tier(), human_bytes(copy.bytes()),
                copy.has_age_ms() ? ago(copy.age_ms()) : "unknown",
                human_duration(microseconds(copy.load_us())), why_here(said, copy)});
  }
  std::printf("%s", copies.text().c_str());
  if (said.sections() == 0) return;  // only the shared tier has it
  Table facts({"value", number(said.value()) + " s of recomputing saved per byte and second (" +
                            said.policy() + ")"},
              true);
  if (said.policy() == "value") {
    facts.add({"expected uses", number(said.uses_per_s()) + " per second"});
    facts.add({"used", human_count(said.uses()) + " times, last " + ago(said.since_use_ms())});
    facts.add(
        {"recomputing", human_duration(Nanos(static_cast<int64_t>(said.recompute_s() * 1e9))) +
                            ", weighted; " + said_of_worth(said)});
  } else {
    facts.add({"used", "last " + ago(said.since_use_ms())});
  }
  facts.add({"durable", said.durable() ? "survives a power cut" : "in memory only"});
  if (said.priority() != "normal") facts.add({"priority", said.priority()});
  if (said.pinned()) {
    facts.add({"pinned", "to this node; the namespace has pinned " +
                             human_bytes(said.namespace_pinned_bytes()) + " of " +
                             human_bytes(said.namespace_pinned_bytes_max())});
  }
  if (said.expires_unix_s() != 0) {
    const int64_t left_s = static_cast<int64_t>(said.expires_unix_s()) - unix_seconds();
    facts.add({"expires", "in " + human_duration(seconds(std::max<int64_t>(0, left_s)))});
  }
  if (!said.type().empty() || !said.session().empty() || said.turn() != 0) {
    facts.add({"what it is", "type \"" + said.type() + "\", turn " + human_count(said.turn()) +
                                 ", session \"" + said.session() + "\""});
  }
  if (!said.parent().empty()) facts.add({"follows", "key:" + hex_of(said.parent())});
  std::printf("%s", facts.text().c_str());
}

void print_departures(const proto::ExplainReply& said) {
  if (said.departures().empty()) {
    std::printf("%s\n", said.here() ? "nothing left lately"
                                    : "not here, and nothing is remembered of it: it never was, or "
                                      "went too long ago (departures_bytes)");
    return;
  }
  Table table({"left", "when", "why", "value", "price", "missed since"}, true);
  for (const auto& gone : said.departures()) {
    const bool evicted = gone.reason() == "evicted";
    table.add({gone.tier() + (gone.last() ? "" : " (other copies stayed)"), ago(gone.age_ms()),
               gone.reason(), evicted ? number(gone.value()) : "-",
               evicted ? number(gone.price()) : "-",
               gone.misses() == 0
                   ? "never"
                   : human_count(gone.misses()) + " times, last " + ago(gone.last_miss_age_ms())});
  }
  std::printf("%s", table.text().c_str());
}

int run_explain(const ExplainArguments& arguments, const Globals& globals) {
  const StatusOr<TierObjects> objects = TierObjects::name(globals, arguments.ns, {arguments.key});
  if (!objects.ok()) return report_failure(globals, "explain", objects.status());
  proto::ExplainRequest request;
  *request.mutable_object() = objects->message(0, 1);
  Json nodes = Json::array();
  bool here = false;
  for (const std::string& node : node_names(globals)) {
    const auto said =
        admin_call<proto::TierAdmin>(globals, node, request, &proto::TierAdmin::Stub::Explain);
    if (!said.ok()) return report_failure(globals, "explain", said.status());
    here |= said->here();
    nodes.push_back(to_json(*said));
    if (globals.json) continue;
    std::printf("%s (key:%s) on %s: %s\n", arguments.key.c_str(), objects->keys[0].hex().c_str(),
                said->node_id().c_str(), said->here() ? "here" : "not here");
    if (said->here()) print_here(*said);
    print_departures(*said);
  }
  if (globals.json) {
    print_json({{"command", "explain"},
                {"ok", here},
                {"name", arguments.key},
                {"namespace", arguments.ns},
                {"key", objects->keys[0].hex()},
                {"nodes", nodes}});
  }
  return here ? kExitOk : kExitNo;
}
}  // namespace

void add_explain(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("explain", "Say where an object is and why, or why it went");
  auto arguments = std::make_shared<ExplainArguments>();
  command->add_option("KEY", arguments->key, "Its name, or key: and 64 hex digits")->required();
  command->add_option("--namespace", arguments->ns, "Where to look")->capture_default_str();
  command->footer(
      examples("  terrace explain report.pdf\n"
               "  terrace explain --namespace llama-8b key:5f0c... --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_explain(*arguments, globals);
    };
  });
}
}  // namespace terrace
