// transport/tcp_transport.h - the transport over TCP, on the loop's io_uring. A peer is a group of
// connections: number 0 carries messages (so that lookups never wait behind data), the others data.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <string>

#include "base/loop.h"
#include "transport/tcp_options.h"
#include "transport/transport.h"

namespace terrace {

class TcpTransport final : public Transport {
 public:
  TcpTransport(Loop* loop, TransportHandler* handler, const TcpOptions& options);
  /// close() must have completed.
  ~TcpTransport() override;

  /// Accepts sessions whose secret `secret_known` accepts: it runs on the loop for each Hello;
  /// until it said yes, nothing else is parsed. `address` is numeric (transport/tcp_address.h),
  /// port 0 picks one. Returns the port. Once. kInvalidArgument, kUnavailable (in use).
  StatusOr<uint16_t> listen(const std::string& address,
                            std::function<bool(std::span<const std::byte, 16>)> secret_known);
  /// Connects `connections` (2 to kConnectionsPerSessionMax) sockets to a numeric address and
  /// shakes hands. Done(OK) when the peer can be used; kUnavailable or kDeadlineExceeded, and then
  /// there is no on_peer_closed. `deadline` is a time of the loop's clock. The PeerId is valid from
  /// the return, for close_peer(); everything else answers kUnavailable until then.
  StatusOr<PeerId> connect(const std::string& address, std::array<std::byte, 16> secret,
                           uint32_t connections, Nanos deadline, Op* op);
  const TcpMetrics& metrics() const;

  StatusOr<RegionId> register_region(std::span<std::byte> memory) override;
  void when_prepared(RegionId region, Op* op) override;
  Status unregister_region(RegionId region) override;
  bool region_in_use(RegionId region) const override;
  void expect_memory(std::span<std::byte>) override {}
  void forget_memory(std::span<std::byte>) override {}
  Status send_message(PeerId to, const Message& message) override;
  Status write(PeerId to, const Write& write, Op* op) override;
  Status read(PeerId from, const Read& read, Op* op) override;
  void cancel(Op* op) override;
  void quiesce(PeerId peer, uint64_t tag, Op* op) override;
  uint64_t queued_bytes(PeerId peer) const override;
  void close_peer(PeerId peer, Status why) override;
  void close(Op* op) override;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
