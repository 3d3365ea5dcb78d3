// server/node/control_service.h - the node's control plane: sessions and namespaces for engines,
// and status for people. gRPC threads; they reach the loop through its mailbox and wait a bounded
// time.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/prng.h"
#include "server/node/router.h"

namespace terrace {

class ControlServer {
 public:
  struct Facts {
    std::string node_id;
    uint64_t boot_id = 0;
    uint16_t data_port = 0;
    std::string shm_socket;  // empty: none
    Nanos started{0};
  };
  /// Listens at once. kUnavailable: the port cannot be had. All pointers outlive the server.
  static StatusOr<std::unique_ptr<ControlServer>> start(NodeContext* context, Router* router,
                                                        const Facts& facts);
  /// Ends running calls within a second.
  ~ControlServer();
  uint16_t port() const;

 private:
  class Core;
  explicit ControlServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
