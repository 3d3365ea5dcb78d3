#include "tools/cli/local_node.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace terrace {
namespace {
constexpr size_t kOutputBytesMax = size_t{1} << 20;  // before the ready line
constexpr size_t kLogTailBytes = 800;

std::string log_tail(const std::string& path) {
  std::ifstream log(path, std::ios::binary | std::ios::ate);
  if (path.empty() || !log) return {};
  const auto size = static_cast<size_t>(log.tellg());
  std::string tail(std::min(size, kLogTailBytes), '\0');
  log.seekg(static_cast<std::streamoff>(size - tail.size()));
  log.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  return "; its log ends:\n" + tail;
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

std::vector<std::string> arguments_of(const std::string& program, const LocalNodeOptions& options) {
  std::vector<std::string> arguments = {
      program,          "--dev", "--listen-host", "127.0.0.1",
      "--control-port", "0",     "--data-port",   "0",
      "--metrics-port", "0",     "--dram-bytes",  std::to_string(options.dram_bytes)};
  if (!options.data_directory.empty()) {
    for (const std::string& more :
         {std::string("--data-directory"), options.data_directory, std::string("--nvme-bytes"),
          std::to_string(options.nvme_bytes)}) {
      arguments.push_back(more);
    }
  }
  arguments.insert(arguments.end(), options.flags.begin(), options.flags.end());
  return arguments;
}

/// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* argv, int output, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent went first
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv(argv[0], argv);
  ::_exit(127);
}
}  // namespace

StatusOr<std::string> find_beside(const std::string& program) {
  std::array<char, PATH_MAX> self{};
  const ssize_t n = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  if (n < 0) return errno_status(errno, "read /proc/self/exe");
  const std::string path =
      (std::filesystem::path(std::string(self.data(), static_cast<size_t>(n))).parent_path() /
       program)
          .string();
  if (::access(path.c_str(), X_OK) == 0) return path;
  return error(StatusCode::kNotFound, path +
                                          ": no such program; build it, or name a node with "
                                          "--node");
}

StatusOr<LocalNode> LocalNode::start(const LocalNodeOptions& options) {
  TERRACE_ASSIGN_OR_RETURN(const std::string program, find_beside("terraced"));
  LocalNode node;
  TERRACE_RETURN_IF_ERROR(node.spawn(program, options));
  if (Status ready = node.wait_ready(options); !ready.ok()) {
    int status = 0;
    const bool ended =
        ready.code() == StatusCode::kUnavailable && node.wait_exit(milliseconds(1'000), &status);
    node.kill();
    return error(ready.code(), ready.message() + (ended ? " (" + how_it_ended(status) + ")" : "") +
                                   log_tail(options.log_file));
  }
  return node;
}

Status LocalNode::spawn(const std::string& program, const LocalNodeOptions& options) {
  const std::string log_path = options.log_file.empty() ? "/dev/null" : options.log_file;
  const Fd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!log) return errno_status(errno, "open " + log_path);
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return errno_status(errno, "pipe");
  output_.reset(pipe[0]);
  const Fd write_end(pipe[1]);
  std::vector<std::string> arguments = arguments_of(program, options);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) return errno_status(errno, "fork");
  if (pid_ == 0) become(argv.data(), write_end.get(), log.get(), parent);
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) {
    const int problem = errno;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    return errno_status(problem, "pidfd_open");
  }
  return ok_status();
}

Status LocalNode::wait_ready(const LocalNodeOptions& options) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + options.ready_timeout;
  std::string text;
  std::array<char, 4096> chunk{};
  while (text.size() < kOutputBytesMax) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock.now());
    if (left.count() <= 0) {
      return error(
          StatusCode::kDeadlineExceeded,
          "terraced was not ready after " + std::to_string(options.ready_timeout.count()) + " ms");
    }
    pollfd poll{output_.get(), POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(left.count()) + 1) <= 0) continue;
    const ssize_t n = ::read(output_.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error(StatusCode::kUnavailable, "terraced ended before it was ready");
    text.append(chunk.data(), static_cast<size_t>(n));
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      const std::string line = text.substr(0, end);
      text.erase(0, end + 1);
      if (line.find("\"ready\"") != std::string::npos) return parse_ready(line);
    }
  }
  return error(StatusCode::kInternal, "terraced wrote a line without end");
}

Status LocalNode::parse_ready(const std::string& line) {
  const auto ready = nlohmann::json::parse(line, nullptr, false);
  const auto port = [&ready](const char* name, uint16_t* value) {
    const auto found = ready.find(name);
    if (found == ready.end() || !found->is_number_unsigned()) return false;
    *value = found->get<uint16_t>();
    return true;
  };
  if (ready.is_object() && port("control_port", &control_port_) && port("data_port", &data_port_) &&
      port("metrics_port", &metrics_port_)) {
    return ok_status();
  }
  return error(StatusCode::kInternal, "terraced's ready line is not understood: " + line);
}

bool LocalNode::wait_exit(milliseconds timeout, int* status) {
  if (!pidfd_) return true;
  const SystemClock clock;
  const Nanos deadline = clock.now() + timeout;
  pollfd poll{pidfd_.get(), POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock.now());
    const int n = ::poll(&poll, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (n > 0) break;
    if (n == 0 || errno != EINTR) return false;
  }
  ::waitpid(pid_, status, 0);
  pidfd_.reset();
  return true;
}

void LocalNode::signal(int number) {
  if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

Status LocalNode::stop(milliseconds timeout) {
  if (!pidfd_) return ok_status();
  signal(SIGTERM);
  int status = 0;
  if (!wait_exit(timeout, &status)) {
    kill();
    return error(
        StatusCode::kDeadlineExceeded,
        "terraced did not stop within " + std::to_string(timeout.count()) + " ms and was killed");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ok_status();
  return error(StatusCode::kUnavailable, "terraced: " + how_it_ended(status));
}

void LocalNode::kill() {
  int status = 0;
  signal(SIGKILL);
  while (!wait_exit(milliseconds(1000), &status)) {
  }
}

void LocalNode::freeze() {
  signal(SIGSTOP);
}
void LocalNode::thaw() {
  signal(SIGCONT);
}

LocalNode& LocalNode::operator=(LocalNode&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = other.pid_;
    pidfd_ = std::move(other.pidfd_);
    output_ = std::move(other.output_);
    control_port_ = other.control_port_;
    data_port_ = other.data_port_;
    metrics_port_ = other.metrics_port_;
  }
  return *this;
}

LocalNode::~LocalNode() {
  kill();
}

StatusOr<TemporaryDirectory> TemporaryDirectory::create(const std::string& purpose,
                                                        const std::string& parent) {
  std::string path = parent + "/terrace-" + purpose + "-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return errno_status(errno, "make " + path);
  return TemporaryDirectory(std::move(path));
}

TemporaryDirectory::~TemporaryDirectory() {
  if (path_.empty()) return;
  std::error_code ignored;  // a directory that stays behind is no reason to fail
  std::filesystem::remove_all(path_, ignored);
}
}  // namespace terrace
