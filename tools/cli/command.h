// tools/cli/command.h - what every command of `terrace` gets and gives. One file per command; the
// table in commands.cc is the only list of them. Single-threaded.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/status.h"
#include "client/terrace.h"

namespace terrace {

/// Exit codes of every command.
inline constexpr int kExitOk = 0;
inline constexpr int kExitNo = 1;     // the answer is no, or a check failed
inline constexpr int kExitError = 2;  // wrong usage, or it could not run

/// Options in front of or behind the command's name.
struct Globals {
  std::string node = "127.0.0.1:7410";
  bool node_given = false;
  std::string tenant = "default";
  std::string token_file;
  DataPath data_path = DataPath::automatic;
  bool json = false;
  int64_t timeout_ms = 10'000;
  std::string client_cpus;  // ClientConfig's; what measures sets them
  std::chrono::microseconds client_poll_for{0};
};

/// What parsing fills in: main() runs `run`, which the chosen command set.
struct Invocation {
  Globals globals;
  std::function<int(const Globals&)> run;
};

/// Adds one command with its options, help and examples to `app`. Its parse callback sets
/// invocation->run, and does nothing else. Both outlive the parse and the run.
using AddCommand = void (*)(CLI::App* app, Invocation* invocation);
/// All commands, in the order of the help text.
std::span<const AddCommand> all_commands();

/// Says on stderr (with --json: as an object on stdout) why a command ends, and returns its exit
/// code: kExitNo for kNotFound, kAlreadyExists, kDataLoss and kAborted, else kExitError.
int report_failure(const Globals& globals, const std::string& command, const Status& status);
/// The text under a command's options.
std::string examples(const std::string& lines);
}  // namespace terrace
