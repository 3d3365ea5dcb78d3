// transport/rdma_transport.h - the transport over RDMA, reliable queue pairs of libibverbs. A side
// that wants to read or write asks the other, which grants addresses for this one operation; bytes
// then move without either CPU. Queue pairs are exchanged over a channel of the caller's, which
// has to be authenticated: whoever has the endpoint bytes and the secret is the peer.
//
// Knows no verbs types, so that it can be included where libibverbs is not; there create() fails.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>

#include "base/loop.h"
#include "transport/rdma_options.h"
#include "transport/transport.h"

namespace terrace {

class RdmaTransport final : public Transport {
 public:
  /// Opens the ports of `options` and registers the bounce buffers. kUnavailable: built without
  /// libibverbs, no device, or a port that is not active. kResourceExhausted: over RLIMIT_MEMLOCK,
  /// or out of queues. `loop` and `handler` outlive the transport.
  static StatusOr<std::unique_ptr<RdmaTransport>> create(Loop* loop, TransportHandler* handler,
                                                         const RdmaOptions& options);
  /// close() must have completed.
  ~RdmaTransport() override;

  /// One side's part of the exchange: opaque bytes for the other side, at most 180 of them.
  struct Offer {
    PeerId peer{};
    std::string endpoint;
  };
  /// The side that calls: makes queue pairs, to be told to the node (in OpenSession) under
  /// `secret`. Until establish() the peer can only be given up, by close_peer(), without callbacks;
  /// it does not time out by itself. kResourceExhausted: too many peers, or out of queues;
  /// kUnavailable: the transport is closing, or a port went down.
  StatusOr<Offer> open(std::array<std::byte, 16> secret);
  /// Thread-safe, and blocks: until the kernel knows the way to the ports in `endpoint` (a second
  /// each, when nobody answers there), so that accept() and establish() do not wait for it on the
  /// loop. While the transport lives. kUnavailable; kInvalidArgument: what the bytes say.
  Status find_way(const std::string& endpoint) const;
  /// The side that called: `endpoint` is what the node answered. Done(OK) when the peer can be
  /// used; kUnavailable or kDeadlineExceeded, and then there is no on_peer_closed. `deadline` is a
  /// time of the loop's clock. A non-OK return (kInvalidArgument, kFailedPrecondition: what the
  /// bytes say; kNotFound: no such offer; kUnavailable: a port refused) leaves `op` untouched and
  /// forgets the offer.
  Status establish(PeerId peer, const std::string& endpoint, Nanos deadline, Op* op);
  /// The node's side: takes the bytes of open() and answers with its own. on_peer() comes with
  /// the first message of the caller; without one the peer is forgotten after
  /// `handshake_timeout`. Errors as open() and establish(); kAlreadyExists: this secret has a peer.
  StatusOr<Offer> accept(std::array<std::byte, 16> secret, const std::string& endpoint);
  /// Valid while the transport lives.
  const RdmaMetrics& metrics() const;

  /// Threads of the transport register it with every port, in slices of 1 GiB (0.6 s per GiB with a
  /// software device). What peers ask of it meanwhile waits for the grant, inside the window of
  /// transfers that each peer has, and no longer than their `send_stall_timeout`; operations of
  /// this side that lie in it are bounced. The same memory again shares the registration.
  /// kUnavailable: the transport is closing.
  StatusOr<RegionId> register_region(std::span<std::byte> memory) override;
  /// Memory of a device (a GPU) that its driver exported as a dmabuf: bytes from `offset` of it, at
  /// the addresses that the device calls them by, which no CPU need reach.
  struct DeviceMemory {
    int dmabuf = -1;  // duplicated, and kept as long as the region
    uint64_t offset = 0;
    std::span<std::byte> addresses;
  };
  /// As register_region(), for peers' operations, and for those of this side once it is prepared:
  /// what a card does not know is bounced by this CPU. Who verifies bytes that landed there has to
  /// have them copied first. when_prepared() says kUnimplemented when a port's card has no dmabufs,
  /// kFailedPrecondition when it does not take this one. Not for a transport in a set, whose
  /// regions have one number with all. kInvalidArgument: no descriptor, or no addresses.
  StatusOr<RegionId> register_device_memory(const DeviceMemory& memory);
  /// kResourceExhausted: over RLIMIT_MEMLOCK (the message says what to do), or the device is full.
  void when_prepared(RegionId region, Op* op) override;
  /// The ports let go of it before this returns, which takes them a while too.
  Status unregister_region(RegionId region) override;
  bool region_in_use(RegionId region) const override;
  /// As register_region(), without rights for peers; what is not registered, or not yet, is copied
  /// through bounce buffers, as is memory that nobody announced.
  void expect_memory(std::span<std::byte> memory) override;
  /// The ports let go of it in the background.
  void forget_memory(std::span<std::byte> memory) override;
  Status send_message(PeerId to, const Message& message) override;
  Status write(PeerId to, const Write& write, Op* op) override;
  Status read(PeerId from, const Read& read, Op* op) override;
  /// What the port is already moving cannot be recalled: if it is not over by `release_timeout`,
  /// its queue pair is destroyed and replaced, and the operation ends with kUnavailable.
  void cancel(Op* op) override;
  /// Asks the peer; if it does not answer by `release_timeout`, the queue pairs that it could still
  /// write through are destroyed and replaced.
  void quiesce(PeerId peer, uint64_t tag, Op* op) override;
  /// Bytes accepted by write() and not acknowledged by the far port.
  uint64_t queued_bytes(PeerId peer) const override;
  void close_peer(PeerId peer, Status why) override;
  void close(Op* op) override;

 private:
  class Core;
  explicit RdmaTransport(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
