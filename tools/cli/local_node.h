// tools/cli/local_node.h - a terraced of our own on loopback, with free ports: for replay, demo and
// benchmarks. It dies with this process. Single-threaded: the thread that starts it must live as
// long as the node (the kernel binds a child's death to its parent thread's).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/handle.h"
#include "base/status.h"

namespace terrace {

struct LocalNodeOptions {
  std::string data_directory;  // empty: dram tier only
  uint64_t dram_bytes = uint64_t{256} << 20;
  uint64_t nvme_bytes = 0;
  std::string log_file;            // takes the node's stderr; empty: /dev/null
  std::vector<std::string> flags;  // more flags of terraced, last
  milliseconds ready_timeout{30'000};
};

/// The path of `program` beside this executable. kNotFound names the path it looked at.
StatusOr<std::string> find_beside(const std::string& program);

class LocalNode {
 public:
  LocalNode() = default;
  /// Starts terraced and waits until it says it is ready. kNotFound: no terraced beside this
  /// program. kUnavailable: it ended first (the message quotes its log); kDeadlineExceeded: it did
  /// not become ready in time; it is killed then.
  static StatusOr<LocalNode> start(const LocalNodeOptions& options);
  LocalNode(LocalNode&&) noexcept = default;
  LocalNode& operator=(LocalNode&& other) noexcept;
  /// Kills it when it still runs.
  ~LocalNode();

  std::string endpoint() const { return "127.0.0.1:" + std::to_string(control_port_); }
  uint16_t control_port() const { return control_port_; }
  uint16_t data_port() const { return data_port_; }
  uint16_t metrics_port() const { return metrics_port_; }
  pid_t pid() const { return pid_; }
  bool running() const { return bool{pidfd_}; }

  /// SIGTERM, and SIGKILL after `timeout`. OK when it went by itself with exit code 0;
  /// kDeadlineExceeded: had to be killed; kUnavailable: ended otherwise (the message says how).
  Status stop(milliseconds timeout = milliseconds(15'000));
  /// SIGKILL; returns when it is gone.
  void kill();
  /// SIGSTOP and SIGCONT.
  void freeze();
  void thaw();

 private:
  Status spawn(const std::string& program, const LocalNodeOptions& options);
  Status wait_ready(const LocalNodeOptions& options);
  Status parse_ready(const std::string& line);
  bool wait_exit(milliseconds timeout, int* status);
  void signal(int number);

  pid_t pid_ = -1;
  Fd pidfd_;   // null: not running
  Fd output_;  // the node's stdout; kept open so that it can go on writing
  uint16_t control_port_ = 0;
  uint16_t data_port_ = 0;
  uint16_t metrics_port_ = 0;
};

/// A new empty directory that goes away with this object, contents included. Under /var/tmp, which
/// lies on a disk where /tmp may not.
class TemporaryDirectory {
 public:
  static StatusOr<TemporaryDirectory> create(const std::string& purpose,
                                             const std::string& parent = "/var/tmp");
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }
  /// Leaves it where it is.
  void keep() { path_.clear(); }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};
}  // namespace terrace
