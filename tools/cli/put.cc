// `terrace put`: stores files as raw objects.
#include <cstdio>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/files.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct PutArguments {
  std::vector<std::string> files;
  std::string key;
  std::string ns = kFilesNamespace;
  Durability durability = Durability::nvme;
  bool replace = false;
  Retention retention;
  int64_t ttl_s = 0;
};

struct PutOutcome {
  std::string key;
  uint64_t bytes = 0;
  const char* what = "";  // "stored", "replaced" or "already there"
  Nanos elapsed{0};
};

/// An object is immutable: a name that holds other bytes is refused unless they may be replaced.
StatusOr<PutOutcome> put_one(FileMover* mover, const PutArguments& arguments,
                             const std::string& file) {
  const SystemClock clock;
  const Nanos start = clock.now();
  PutOutcome outcome;
  outcome.key = arguments.key.empty() ? file : arguments.key;
  outcome.what = "stored";
  TERRACE_ASSIGN_OR_RETURN(outcome.bytes, file_bytes(file));
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(mover->client(), mover->ns(), outcome.key));
  const StatusOr<KeyInfo> known = mover->find(key);
  if (!known.ok() && known.status().code() != StatusCode::kNotFound) return known.status();
  if (known.ok()) {
    TERRACE_ASSIGN_OR_RETURN(const bool same, mover->same_as_file(key, known->bytes, file));
    if (!same && !arguments.replace) {
      return error(StatusCode::kAlreadyExists, "\"" + outcome.key + "\" holds other bytes (" +
                                                   std::to_string(known->bytes) +
                                                   "); objects are immutable: --replace or rm");
    }
    if (!same) TERRACE_RETURN_IF_ERROR(mover->erase(key));
    outcome.what = same ? "already there" : "replaced";
  }
  // Of bytes that are there already this asks only for the durability.
  const Status stored = mover->put(file, outcome.key, arguments.durability, arguments.retention);
  if (!stored.ok() && stored.code() != StatusCode::kAlreadyExists) return stored;
  outcome.elapsed = clock.now() - start;
  return outcome;
}

int run_put(const PutArguments& arguments, const Globals& globals) {
  if (!arguments.key.empty() && arguments.files.size() != 1) {
    return report_failure(globals, "put",
                          error(StatusCode::kInvalidArgument, "--key goes with one file only"));
  }
  StatusOr<FileMover> mover = FileMover::open(globals, arguments.ns);
  if (!mover.ok()) return report_failure(globals, "put", mover.status());
  Json objects = Json::array();
  Progress progress("put", arguments.files.size(), !globals.json);
  for (size_t i = 0; i < arguments.files.size(); ++i) {
    progress.show(i, arguments.files[i]);
    const StatusOr<PutOutcome> outcome = put_one(&*mover, arguments, arguments.files[i]);
    if (!outcome.ok()) {
      return report_failure(
          globals, "put",
          error(outcome.status().code(), arguments.files[i] + ": " + outcome.status().message()));
    }
    objects.push_back({{"key", outcome->key},
                       {"bytes", outcome->bytes},
                       {"outcome", outcome->what},
                       {"elapsed_us", microseconds_of(outcome->elapsed)}});
    if (!globals.json) {
      std::printf("%s  %s  %s in %s\n", outcome->key.c_str(), human_bytes(outcome->bytes).c_str(),
                  outcome->what, human_duration(outcome->elapsed).c_str());
    }
  }
  if (globals.json) {
    print_json({{"command", "put"},
                {"ok", true},
                {"namespace", arguments.ns},
                {"objects", objects},
                {"bytes_verified_by", "node"}});
  }
  return kExitOk;
}

void add_retention(CLI::App* command, PutArguments* arguments) {
  Retention* const retention = &arguments->retention;
  const std::map<std::string, RetentionPriority> priorities = {
      {"low", RetentionPriority::low},
      {"normal", RetentionPriority::normal},
      {"high", RetentionPriority::high}};
  command->add_option("--priority", retention->priority, "An eighth, once or eight times its value")
      ->transform(CLI::CheckedTransformer(priorities))
      ->type_name("low|normal|high");
  command->add_option("--ttl-s", arguments->ttl_s, "It is a miss after so many seconds; 0: never")
      ->check(CLI::Range(int64_t{0}, int64_t{kRetentionTtlMax.count()}))
      ->capture_default_str();
  command->add_flag("--pin", retention->pin, "Never evict it from its node");
  command->add_option("--type", retention->type, "What it is: document, system, history, ...");
  command->add_option("--turn", retention->turn, "Turn of the conversation");
  command->add_option("--session", retention->session, "The conversation");
}
}  // namespace

void add_put(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("put", "Store files as raw objects");
  auto arguments = std::make_shared<PutArguments>();
  command->add_option("FILE", arguments->files, "Files to store; each one's path is its key")
      ->required();
  command->add_option("--key", arguments->key, "Key of a single file, instead of its path");
  command->add_option("--namespace", arguments->ns, "Where to store")->capture_default_str();
  const std::map<std::string, Durability> durabilities = {
      {"memory", Durability::memory}, {"nvme", Durability::nvme}, {"shared", Durability::shared}};
  command
      ->add_option("--durability", arguments->durability,
                   "What done means: memory, nvme (survives a power cut; default), or shared "
                   "(survives the loss of the node)")
      ->transform(CLI::CheckedTransformer(durabilities))
      ->type_name("memory|nvme|shared");
  command->add_flag("--replace", arguments->replace, "Replace a key that holds other bytes");
  add_retention(command, arguments.get());
  command->footer(
      examples("  terrace put report.pdf\n"
               "  terrace put --priority high --ttl-s 3600 --pin system-prompt.bin\n"
               "  terrace put --key models/tiny model.safetensors\n"
               "  terrace put --durability memory *.bin --json\n"));
  command->callback([arguments, invocation] {
    arguments->retention.ttl = std::chrono::seconds(arguments->ttl_s);
    invocation->run = [arguments](const Globals& globals) { return run_put(*arguments, globals); };
  });
}
}  // namespace terrace
