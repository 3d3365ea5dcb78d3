// client/control_channel.h - what the SDK asks of a node's control plane. A seam: gRPC in
// production (grpc_control.h), a script in tests. Implementations are thread-safe; calls block,
// bounded by their timeout.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "client/terrace.h"

namespace terrace {

using SessionSecret = std::array<std::byte, 16>;

/// A session that the node opened for us, and where to connect for its data.
struct SessionOffer {
  SessionSecret secret{};
  std::string data_address;  // host:port
  std::string shm_socket;    // on the node's host; empty: none
  std::string shm_host;      // base/host.h, of the node
  uint32_t shm_user = 0;     // the node's
  NodeInfo node;
};

class ControlChannel {
 public:
  virtual ~ControlChannel() = default;
  /// kUnavailable or kDeadlineExceeded (nobody there), kUnauthenticated, kPermissionDenied,
  /// kFailedPrecondition (another protocol version; the message names both).
  virtual StatusOr<SessionOffer> open_session(const std::string& tenant, Nanos timeout) = 0;
  /// The node's id of the namespace. `canonical` is canonical_bytes of the fingerprint. As above,
  /// and kFailedPrecondition when the node's fingerprint differs, kUnauthenticated when the session
  /// is gone.
  virtual StatusOr<uint32_t> open_namespace(const SessionSecret& secret, const std::string& name,
                                            const std::string& canonical, Nanos timeout) = 0;
  /// Gives the node our queue pairs and returns its own, both as transport/rdma_transport.h writes
  /// them. As above, and kUnavailable when the node has no RDMA.
  virtual StatusOr<std::string> open_rdma(const SessionSecret& secret, const std::string& endpoint,
                                          Nanos timeout) = 0;
  /// Calls under way, and later ones, return soon with kCancelled.
  virtual void shut_down() = 0;
};
}  // namespace terrace
