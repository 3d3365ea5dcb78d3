// server/node/main.cc - the program terraced.
#include <signal.h>

#include <cstdio>

#include "base/log.h"
#include "base/version.h"
#include "server/node/keeper_process.h"
#include "server/node/node.h"

namespace {

terrace::Node* running = nullptr;

void on_signal(int) {
  if (running != nullptr) running->stop();
}

int fail(const terrace::Status& status) {
  std::fprintf(stderr, "terraced: %s\n", status.to_string().c_str());
  return status.code() == terrace::StatusCode::kInvalidArgument ? 2 : 1;
}
}  // namespace

int main(int argc, char** argv, char** environment) {
  if (argc == 2 && std::string(argv[1]) == "--version") {
    std::printf("terraced %s\n", terrace::kVersion);
    return 0;
  }
  // A node starts this for itself; see docs/operations.md, "Warm restart".
  if (argc > 1 && std::string(argv[1]) == "--keeper") {
    return terrace::run_keeper_program(argc - 2, argv + 2);
  }
  std::string help;
  auto config = terrace::parse_command_line(argc, argv, &help);
  if (!help.empty()) {
    std::fputs(help.c_str(), stdout);
    return 0;
  }
  if (!config.ok()) return fail(config.status());
  config->systemd = terrace::systemd_facts(environment);
  config->store.shared_s3.environment = terrace::s3_environment(environment);
  if (const auto status = terrace::set_up_logging("terraced", config->log_level); !status.ok()) {
    return fail(status);
  }
  std::fprintf(stderr, "# effective configuration\n%s", terrace::to_toml(*config).c_str());

  terrace::raise_descriptor_limit();  // a slab each, twice as many while they are taken back
  auto node = terrace::Node::start(*config);
  if (!node.ok()) return fail(node.status());
  running = node->get();
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  // One line for programs that start a node: the ports, once it can be used.
  std::printf("{\"event\":\"ready\",\"control_port\":%u,\"data_port\":%u,\"metrics_port\":%u}\n",
              running->control_port(), running->data_port(), running->metrics_port());
  std::fflush(stdout);
  running->run();
  running = nullptr;
  return 0;
}
