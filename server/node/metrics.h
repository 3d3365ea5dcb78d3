// server/node/metrics.h - the node's counters as Prometheus shows them. metrics.cc is this
// program's only home of prometheus-cpp.
#pragma once
#include <memory>

#include "base/status.h"
#include "server/node/session.h"
#include "server/node/view_table.h"
#include "transport/rdma_options.h"
#include "transport/shm_options.h"
#include "transport/tcp_options.h"

namespace terrace {

/// Of each transport; null: the node has not got it.
struct TransportMetrics {
  const TcpMetrics* tcp = nullptr;
  const ShmMetrics* shm = nullptr;
  const ViewMetrics* views = nullptr;
  const Counter* device_borrowers = nullptr;
  const RdmaMetrics* rdma = nullptr;
};

class MetricsServer {
 public:
  /// Serves http://host:port/metrics on threads of its own; every pointer outlives it.
  /// kUnavailable: the port cannot be had.
  static StatusOr<std::unique_ptr<MetricsServer>> start(const NodeContext* context,
                                                        const TransportMetrics& transports);
  ~MetricsServer();
  uint16_t port() const;

 private:
  class Core;
  explicit MetricsServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
