// tools/cli/bench_node.h - the node that a benchmark measures: one of its own in a temporary
// directory, or the one that --node names. Single-threaded.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "client/terrace.h"
#include "tools/cli/bench_report.h"
#include "tools/cli/command.h"
#include "tools/cli/local_node.h"

namespace terrace {

struct BenchNodeOptions {
  uint64_t dram_bytes = 0;
  uint64_t nvme_bytes = 0;  // 0: no nvme tier
  std::vector<std::string> flags;
};

class BenchNode {
 public:
  /// Starts a node unless --node was given; waits until every block of its data file was written,
  /// so that no measured write meets a block for the first time. As LocalNode::start.
  static StatusOr<std::unique_ptr<BenchNode>> start(const Globals& globals,
                                                    const BenchOptions& options,
                                                    const BenchNodeOptions& node);
  /// Whether it is our own: only then its process can be looked into.
  bool own() const { return own_; }
  pid_t pid() const { return node_.pid(); }
  /// What a client needs to reach it.
  const Globals& globals() const { return globals_; }
  /// Of our own node with an nvme tier.
  std::string data_path() const;
  /// A directory on the same file system as the node's data.
  const std::string& directory() const { return directory_.path(); }

  /// Stops it (`hard`: SIGKILL) and starts it again on the same data. Only our own.
  Status restart(bool hard);
  /// SIGKILL, and a start that is not waited for beyond its ready line: how long that took. Only
  /// our own.
  StatusOr<Nanos> kill_and_start();
  /// From the next restart on.
  void set_dram_bytes(uint64_t bytes) { options_.dram_bytes = bytes; }
  /// CPU time of this process and, when it is our own, the node.
  Nanos cpu_time() const;

 private:
  BenchNode(Globals globals, TemporaryDirectory directory)
      : globals_(std::move(globals)), directory_(std::move(directory)) {}
  Status launch();

  Globals globals_;
  TemporaryDirectory directory_;  // outlives the node
  LocalNodeOptions options_;
  bool own_ = false;
  LocalNode node_;
};
}  // namespace terrace
