// `terrace doctor`: whether this machine can run a node, and whether the node answers.
#include <charconv>
#include <cstdio>
#include <memory>

#include "base/version.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/machine_checks.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr Nanos kLookupMax = milliseconds(100);
constexpr int64_t kNodeTimeoutMs = 2'000;
constexpr uint16_t kDefaultPorts[] = {7410, 7411, 7412};  // control, data, metrics

struct DoctorArguments {
  std::string directory = ".";
};

StatusOr<Completion> probe(Client* client, const Globals& globals) {
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId ns,
                           client->open_namespace(kFilesNamespace, files_fingerprint()));
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, client->raw_key(ns, "doctor"));
  TERRACE_ASSIGN_OR_RETURN(Completion done,
                           finish(client, client->lookup(ns, {&key, 1}, {}), globals));
  TERRACE_RETURN_IF_ERROR(done.status);
  return done;
}

/// Reaches the node and times one lookup. A missing node is only a warning unless it was named.
std::vector<Check> check_node(Globals globals) {
  globals.timeout_ms = std::min(globals.timeout_ms, kNodeTimeoutMs);
  const std::string name = "node " + globals.node;
  StatusOr<std::unique_ptr<Client>> client = connect(globals);
  if (!client.ok()) {
    const bool absent = client.status().code() == StatusCode::kUnavailable && !globals.node_given;
    return {{name, absent ? Verdict::warn : Verdict::fail, client.status().to_string(),
             "start one (`terraced --dev`), or name it with --node HOST:PORT and --token-file"}};
  }
  std::vector<Check> checks = {{name, Verdict::ok, "session opened", ""}};
  for (const NodeInfo& node : (*client)->nodes()) {
    const bool same = node.version == kVersion;
    if (!node.up) {
      checks.push_back({"node " + node.endpoint, Verdict::fail, "does not answer",
                        "start it: what lies there is missed until it is back"});
      continue;
    }
    checks.push_back({"node version", same ? Verdict::ok : Verdict::warn,
                      node.version + (same ? ", like this program"
                                           : ", this program is " + std::string(kVersion)),
                      same ? "" : "install the same version on both sides"});
  }
  const StatusOr<Completion> done = probe(client->get(), globals);
  if (!done.ok()) {
    checks.push_back({"lookup", Verdict::fail, done.status().to_string(),
                      "see the node's log and `terrace node status`"});
    return checks;
  }
  const bool fast = done->elapsed <= kLookupMax;
  checks.push_back({"lookup", fast ? Verdict::ok : Verdict::fail,
                    "answered in " + human_duration(done->elapsed),
                    fast ? "" : "want 100 ms: is the node overloaded, or the network slow?"});
  return checks;
}

std::vector<Check> all_checks(const DoctorArguments& arguments, const Globals& globals) {
  std::vector<Check> checks = {check_versions(),
                               check_cpu(),
                               check_io_uring(),
                               check_memlock(),
                               check_huge_pages(),
                               check_open_files(),
                               check_direct_io(arguments.directory),
                               check_clock()};
  const std::vector<Check> node = check_node(globals);
  const bool reached = node.front().verdict == Verdict::ok;
  const bool here = reached && globals.node.starts_with("127.0.0.1:");
  for (const uint16_t port : kDefaultPorts) checks.push_back(check_port(port, here));
  checks.insert(checks.end(), node.begin(), node.end());
  return checks;
}

int run_doctor(const DoctorArguments& arguments, const Globals& globals) {
  const std::vector<Check> checks = all_checks(arguments, globals);
  Verdict worst = Verdict::ok;
  Json list = Json::array();
  Table table({"verdict", "check", "found"}, true);
  std::string advice;
  for (const Check& check : checks) {
    worst = std::max(worst, check.verdict);
    list.push_back({{"check", check.name},
                    {"verdict", name_of(check.verdict)},
                    {"found", check.found},
                    {"advice", check.advice}});
    table.add({name_of(check.verdict), check.name, check.found});
    if (check.advice.empty()) continue;
    advice += "\n" + std::string(name_of(check.verdict)) + "  " + check.name + ": " + check.advice;
  }
  if (globals.json) {
    print_json({{"command", "doctor"},
                {"ok", worst != Verdict::fail},
                {"worst", name_of(worst)},
                {"checks", list}});
  } else {
    std::printf("%s%s%s", table.text().c_str(), advice.c_str(), advice.empty() ? "" : "\n");
  }
  return worst == Verdict::fail ? kExitNo : kExitOk;
}
}  // namespace

void add_doctor(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("doctor", "Check this machine and the node; say what to do");
  auto arguments = std::make_shared<DoctorArguments>();
  command->add_option("--directory", arguments->directory, "Where a node's data would lie")
      ->capture_default_str();
  command->footer(
      examples("  terrace doctor\n"
               "  terrace doctor --directory /var/lib/terrace\n"
               "  terrace --node 10.0.0.7:7410 doctor --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_doctor(*arguments, globals);
    };
  });
}
}  // namespace terrace
