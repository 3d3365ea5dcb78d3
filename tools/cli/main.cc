// tools/cli/main.cc - the `terrace` command: parses, runs one command, returns its exit code.
#include <csignal>
#include <cstdio>
#include <exception>
#include <map>

#include "base/log.h"
#include "base/version.h"
#include "tools/cli/command.h"

namespace {
using terrace::Globals;
using terrace::Invocation;

const std::map<std::string, terrace::DataPath> kDataPaths = {{"auto", terrace::DataPath::automatic},
                                                             {"tcp", terrace::DataPath::tcp},
                                                             {"shm", terrace::DataPath::shm},
                                                             {"rdma", terrace::DataPath::rdma}};

void add_globals(CLI::App* app, Globals* globals) {
  app->add_option("--node", globals->node,
                  "The control ports of the nodes, HOST:PORT,HOST:PORT,...")
      ->each([globals](const std::string&) { globals->node_given = true; })
      ->capture_default_str();
  app->add_option("--tenant", globals->tenant, "Whose namespaces")->capture_default_str();
  app->add_option("--token-file", globals->token_file, "File that holds the tenant's token");
  app->add_option("--transport", globals->data_path, "How bytes travel (default auto)")
      ->transform(CLI::CheckedTransformer(kDataPaths).description(""))
      ->type_name("auto|tcp|shm|rdma");
  app->add_flag("--json", globals->json, "Print one JSON object instead of text");
  app->add_option("--timeout-ms", globals->timeout_ms, "How long an operation may take")
      ->check(CLI::Range(int64_t{1}, int64_t{3'600'000}))
      ->capture_default_str();
}

/// CLI11 speaks in exceptions; none leaves this file.
int parse_and_run(int argc, char** argv) {
  CLI::App app("terrace - keeps the KV cache of language models; talks to a node");
  app.set_version_flag("--version", std::string("terrace ") + terrace::kVersion);
  app.require_subcommand(1);
  app.fallthrough();
  app.get_formatter()->column_width(36);
  app.footer(
      "Run `terrace COMMAND --help` for options and examples.\n"
      "Exit codes: 0 done, 1 the answer is no or a check failed, 2 wrong usage or it could "
      "not run");
  Invocation invocation;
  add_globals(&app, &invocation.globals);
  for (const terrace::AddCommand add : terrace::all_commands()) add(&app, &invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? terrace::kExitOk : terrace::kExitError;
  }
  return invocation.run ? invocation.run(invocation.globals) : terrace::kExitError;
}
}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const terrace::Status logging = terrace::set_up_logging("terrace", "warn");
  if (!logging.ok()) std::fprintf(stderr, "terrace: %s\n", logging.to_string().c_str());
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "terrace: %s\n", problem.what());
  }
  return terrace::kExitError;
}
