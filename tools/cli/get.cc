// `terrace get`: fetches a raw object, every byte verified, to a file or to stdout.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/handle.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/files.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct GetArguments {
  std::string key;
  std::string output;  // empty: stdout
  std::string ns = kFilesNamespace;
};

Status write_all(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, "write the output");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return ok_status();
}

/// Writes beside `path` and renames: `path` is never half an object.
class OutputFile {
 public:
  static StatusOr<OutputFile> create(const std::string& path) {
    if (path.empty()) return OutputFile({}, {}, Fd(::dup(STDOUT_FILENO)));
    std::string temporary = path + ".XXXXXX";
    Fd file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!file) return errno_status(errno, "make " + temporary);
    ::fchmod(file.get(), 0644);
    return OutputFile(path, temporary, std::move(file));
  }
  OutputFile(OutputFile&& other) noexcept = default;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() {
    if (file_ && !temporary_.empty()) ::unlink(temporary_.c_str());
  }
  Status write(std::span<const std::byte> bytes) { return write_all(file_.get(), bytes); }
  Status commit() {
    if (!temporary_.empty() && ::rename(temporary_.c_str(), path_.c_str()) != 0) {
      return errno_status(errno, "rename to " + path_);
    }
    file_.reset();
    return ok_status();
  }

 private:
  OutputFile(std::string path, std::string temporary, Fd file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(std::move(file)) {}
  std::string path_;
  std::string temporary_;
  Fd file_;
};

StatusOr<KeyInfo> get_object(FileMover* mover, const GetArguments& arguments, bool bar) {
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key,
                           key_for(mover->client(), mover->ns(), arguments.key));
  const StatusOr<KeyInfo> info = mover->find(key);
  if (!info.ok() && info.status().code() == StatusCode::kNotFound) {
    return error(StatusCode::kNotFound,
                 "no object \"" + arguments.key + "\" in namespace \"" + arguments.ns + "\"");
  }
  if (!info.ok()) return info.status();
  TERRACE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create(arguments.output));
  Progress progress("get", info->bytes, bar);
  uint64_t done = 0;
  TERRACE_RETURN_IF_ERROR(mover->get(key, info->bytes, [&](std::span<const std::byte> window) {
    done += window.size();
    progress.show(done);
    return output.write(window);
  }));
  TERRACE_RETURN_IF_ERROR(output.commit());
  return *info;
}

int run_get(const GetArguments& arguments, const Globals& globals) {
  if (arguments.output.empty() && (globals.json || ::isatty(STDOUT_FILENO) == 1)) {
    return report_failure(globals, "get",
                          error(StatusCode::kInvalidArgument,
                                "the object's bytes would go to stdout: name a file with -o"));
  }
  const SystemClock clock;
  StatusOr<FileMover> mover = FileMover::open(globals, arguments.ns);
  if (!mover.ok()) return report_failure(globals, "get", mover.status());
  const Nanos start = clock.now();
  const StatusOr<KeyInfo> info = get_object(&*mover, arguments, !globals.json);
  if (!info.ok()) return report_failure(globals, "get", info.status());
  const Nanos elapsed = clock.now() - start;
  if (globals.json) {
    print_json({{"command", "get"},
                {"ok", true},
                {"key", arguments.key},
                {"namespace", arguments.ns},
                {"bytes", info->bytes},
                {"bytes_verified", mover->client().statistics().bytes_verified},
                {"output", arguments.output},
                {"elapsed_us", microseconds_of(elapsed)}});
  } else if (!arguments.output.empty()) {
    std::printf("%s  %s verified in %s -> %s\n", arguments.key.c_str(),
                human_bytes(info->bytes).c_str(), human_duration(elapsed).c_str(),
                arguments.output.c_str());
  }
  return kExitOk;
}
}  // namespace

void add_get(CLI::App* app, Invocation* invocation) {
  CLI::App* command = app->add_subcommand("get", "Fetch a raw object, every byte verified");
  auto arguments = std::make_shared<GetArguments>();
  command->add_option("KEY", arguments->key, "Its name, or key: and 64 hex digits")->required();
  command->add_option("-o,--output", arguments->output, "File to write; default: stdout");
  command->add_option("--namespace", arguments->ns, "Where to look")->capture_default_str();
  command->footer(
      examples("  terrace get report.pdf -o copy.pdf\n"
               "  terrace get notes.txt | less\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) { return run_get(*arguments, globals); };
  });
}
}  // namespace terrace
