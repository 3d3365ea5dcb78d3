// transport/shm_transport.h - the transport between processes of one host: frames over a unix
// socket, bytes through memory that the listening side made or lends (transport/shm_peer.h).
//
// The side that listens is the node: it makes the areas, and may lend its own memory files
// (ShmExporter), which the calling side maps read-only. Descriptors are safe to hand out only to
// another user, who cannot open them again for writing; a caller of our own user is refused unless
// ShmOptions say otherwise.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/loop.h"
#include "transport/shm_options.h"
#include "transport/shm_peer.h"
#include "transport/transport.h"

namespace terrace {

class ShmTransport final : public Transport {
 public:
  /// `exporter` (may be null) outlives the transport.
  ShmTransport(Loop* loop, TransportHandler* handler, const ShmOptions& options,
               ShmExporter* exporter);
  /// close() must have completed.
  ~ShmTransport() override;

  /// Accepts sessions whose secret `secret_known` accepts. `name`: a path, or with '@' in front a
  /// name in the abstract namespace. A path that a dead process left behind is taken over. Once.
  /// kInvalidArgument (the name), kUnavailable (in use, or no such directory).
  Status listen(const std::string& name,
                std::function<bool(std::span<const std::byte, 16>)> secret_known);
  /// Connects and shakes hands, if it is a process of user `node_user` that listens there: nobody
  /// else hears the secret. Done(OK) when the peer can be used; kUnavailable, kPermissionDenied
  /// (another user) or kDeadlineExceeded, and then there is no on_peer_closed. `deadline` is a time
  /// of the loop's clock. The PeerId is valid from the return, for close_peer(); everything else
  /// answers kUnavailable until then.
  StatusOr<PeerId> connect(const std::string& name, uid_t node_user,
                           std::array<std::byte, 16> secret, Nanos deadline, Op* op);
  const ShmMetrics& metrics() const;

  /// Lends `peer` what it has not got yet of `memory`, and says where it lies; messages sent from
  /// here on arrive after the peer has it. None: some of it is not the exporter's, or not for this
  /// peer.
  std::optional<std::vector<ShmPiece>> lend(PeerId peer, std::span<const iovec> memory);
  /// `file` is not lent any more, and means nothing in later transfers; what is mapped of it stays
  /// as it is.
  void retract(uint64_t file);
  /// A file that `peer` lent us, as mapped here, for as long as somebody holds it; null: none.
  std::shared_ptr<const ShmMapping> mapping(PeerId peer, uint64_t file) const;

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
