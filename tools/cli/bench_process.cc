#include "tools/cli/bench_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <sstream>

namespace terrace {
namespace {
constexpr size_t kOutputBytesMax = size_t{16} << 20;
constexpr size_t kQuotedBytes = 600;

int exit_code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* argv, int output, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent went first
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execvp(argv[0], argv);
  ::_exit(127);
}

/// Reads until the writers are gone.
Status read_all(int fd, Nanos deadline, std::string* text) {
  const SystemClock clock;
  std::array<char, 65536> chunk{};
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock.now());
    if (left.count() <= 0) return error(StatusCode::kDeadlineExceeded, "took too long");
    pollfd poll{fd, POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(left.count()) + 1) <= 0) continue;
    const ssize_t n = ::read(fd, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return ok_status();
    if (text->size() < kOutputBytesMax) text->append(chunk.data(), static_cast<size_t>(n));
  }
}

StatusOr<uint64_t> field_of(const std::string& path, const std::string& field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(field + ":")) continue;
    std::istringstream words(line.substr(field.size() + 1));
    uint64_t value = 0;
    std::string unit;
    if (!(words >> value)) break;
    return words >> unit && unit == "kB" ? value * 1024 : value;
  }
  return error(StatusCode::kNotFound, path + ": no " + field);
}
}  // namespace

StatusOr<ChildProcess> ChildProcess::start(std::vector<std::string> argv, int output) {
  const Fd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  std::vector<char*> words;
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  ChildProcess child;
  const pid_t parent = ::getpid();
  child.pid_ = ::fork();
  if (child.pid_ < 0) return errno_status(errno, "fork");
  if (child.pid_ == 0) become(words.data(), output < 0 ? nowhere.get() : output, parent);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_code_(other.exit_code_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    exit_code_ = other.exit_code_;
  }
  return *this;
}

ChildProcess::~ChildProcess() {
  kill();
}

void ChildProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);  // not reaped yet, so the number is still its own
  wait();
}

bool ChildProcess::running() {
  if (pid_ < 0) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = exit_code_of(status);
  pid_ = -1;
  return false;
}

int ChildProcess::wait() {
  if (pid_ < 0) return exit_code_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  exit_code_ = exit_code_of(status);
  pid_ = -1;
  return exit_code_;
}

StatusOr<std::string> run_program(std::vector<std::string> argv, milliseconds timeout) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + timeout;
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return errno_status(errno, "pipe");
  const Fd read_end(pipe[0]);
  Fd write_end(pipe[1]);
  const std::string name = argv.front();
  TERRACE_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start(argv, write_end.get()));
  write_end.reset();
  std::string text;
  if (Status read = read_all(read_end.get(), deadline, &text); !read.ok()) {
    return error(read.code(), name + ": " + read.message());
  }
  const int code = child.wait();
  if (code == 127) return error(StatusCode::kUnavailable, name + ": not installed");
  if (code == 0) return text;
  const size_t from = text.size() - std::min(text.size(), kQuotedBytes);
  return error(StatusCode::kUnavailable,
               name + " ended with code " + std::to_string(code) + ": " + text.substr(from));
}

Nanos cpu_time_of(pid_t pid) {
  clockid_t id{};
  timespec time{};
  if (::clock_getcpuclockid(pid, &id) != 0 || ::clock_gettime(id, &time) != 0) return Nanos(0);
  return seconds(time.tv_sec) + Nanos(time.tv_nsec);
}

StatusOr<uint64_t> memory_of(pid_t pid, const std::string& field) {
  return field_of("/proc/" + std::to_string(pid) + "/status", field);
}

StatusOr<uint64_t> io_of(pid_t pid, const std::string& field) {
  return field_of("/proc/" + std::to_string(pid) + "/io", field);
}

StatusOr<uint64_t> cached_bytes(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0) return errno_status(errno, "open " + path);
  const auto bytes = static_cast<size_t>(facts.st_size);
  if (bytes == 0) return uint64_t{0};
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapped == MAP_FAILED) return errno_status(errno, "map " + path);
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((bytes + page - 1) / page);
  const int problem = ::mincore(mapped, bytes, pages.data()) == 0 ? 0 : errno;
  ::munmap(mapped, bytes);
  if (problem != 0) return errno_status(problem, "mincore " + path);
  const auto resident =
      std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; });
  return static_cast<uint64_t>(resident) * page;
}

Status wait_written(const std::string& path, milliseconds timeout) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + timeout;
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_status(errno, "open " + path);
  for (;;) {
    const off_t end = ::lseek(file.get(), 0, SEEK_END);
    if (end == 0 || ::lseek(file.get(), 0, SEEK_HOLE) >= end) return ok_status();
    if (clock.now() > deadline) {
      return error(StatusCode::kDeadlineExceeded, path + ": still has parts never written");
    }
    pause_for(milliseconds(50));
  }
}

PromptThread::PromptThread() {
  const sched_param first{.sched_priority = 1};
  prompt_ = ::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first) == 0;
}
PromptThread::~PromptThread() {
  const sched_param normal{.sched_priority = 0};
  if (prompt_) ::sched_setscheduler(0, SCHED_OTHER, &normal);
}

void pause_for(milliseconds duration) {
  ::poll(nullptr, 0, static_cast<int>(duration.count()));
}

StatusOr<uint16_t> free_port() {
  const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (!probe || ::bind(probe.get(), raw, sizeof(address)) != 0 ||
      ::getsockname(probe.get(), raw, &length) != 0) {
    return errno_status(errno, "find a free port");
  }
  return ntohs(address.sin_port);
}
}  // namespace terrace
