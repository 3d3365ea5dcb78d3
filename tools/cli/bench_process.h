// tools/cli/bench_process.h - other programs that a benchmark runs beside the node, and what the
// kernel counts of any process. Blocking; single-threaded.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/handle.h"
#include "base/status.h"

namespace terrace {

/// A program that dies with this process, at the latest with this object.
class ChildProcess {
 public:
  ChildProcess() = default;
  /// `argv[0]` is looked up in PATH; stdout and stderr go to `output`, /dev/null when -1. A missing
  /// program ends at once with exit code 127.
  static StatusOr<ChildProcess> start(std::vector<std::string> argv, int output = -1);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  /// Kills it when it still runs.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  /// Whether it still runs; takes the exit code of one that does not.
  bool running();
  /// Waits for its end: its exit code, or 128 + the signal. Not bounded: the caller read its output
  /// up to the end.
  int wait();

 private:
  void kill();
  pid_t pid_ = -1;  // -1: none
  int exit_code_ = 0;
};

/// Runs `argv` to its end and returns what it wrote, at most 16 MiB. kUnavailable: it could not be
/// started or its exit code was not 0 (the message quotes its output); kDeadlineExceeded.
StatusOr<std::string> run_program(std::vector<std::string> argv, milliseconds timeout);

/// CPU time of a process so far, all its threads; 0 when there is no such process.
Nanos cpu_time_of(pid_t pid);
/// A line of /proc/PID/status in bytes ("VmRSS"), or of /proc/PID/io ("read_bytes"). kNotFound.
StatusOr<uint64_t> memory_of(pid_t pid, const std::string& field);
StatusOr<uint64_t> io_of(pid_t pid, const std::string& field);
/// Bytes of the file that the page cache holds (mincore), without reading any.
StatusOr<uint64_t> cached_bytes(const std::string& path);
/// Waits until no byte of the file is a hole or was only preallocated: then every later write goes
/// to blocks that the file system knows as written. kDeadlineExceeded.
Status wait_written(const std::string& path, milliseconds timeout);
/// Waits without work; tools may, the product's loops have timers.
void pause_for(milliseconds duration);

/// While it lives the calling thread runs as soon as it wakes (SCHED_RR, when the machine allows):
/// a generator of load that waits for a core would measure its own lateness. Threads that it starts
/// do not inherit it.
class PromptThread {
 public:
  PromptThread();
  ~PromptThread();
  PromptThread(const PromptThread&) = delete;
  PromptThread& operator=(const PromptThread&) = delete;
  /// False: not allowed; lateness is in the figures.
  bool prompt() const { return prompt_; }

 private:
  bool prompt_ = false;
};
/// A TCP port on loopback that was free a moment ago.
StatusOr<uint16_t> free_port();
}  // namespace terrace
