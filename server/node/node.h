// server/node/node.h - one storage node: its tiers, its ports and its loop, from start to drain.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "base/status.h"
#include "server/node/config.h"

namespace terrace {

class Node {
 public:
  /// Opens the data directory (locked), recovers, listens. kFailedPrecondition: another process has
  /// the directory, or its format is newer; kUnavailable: a port is taken; errors of the tiers.
  static StatusOr<std::unique_ptr<Node>> start(const NodeConfig& config);
  ~Node();
  /// Runs until stop(); then drains within drain_timeout and closes the tiers.
  void run();
  /// Thread-safe and async-signal-safe.
  void stop();
  uint16_t control_port() const;
  uint16_t data_port() const;
  uint16_t metrics_port() const;  // 0: none

 private:
  class Core;
  explicit Node(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
