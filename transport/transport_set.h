// transport/transport_set.h - several transports behind one: what names a peer goes to the
// transport whose peer it is, what names memory goes to all of them. A region has one id with all
// of them.
#pragma once
#include <array>
#include <functional>

#include "base/loop.h"
#include "transport/transport.h"

namespace terrace {

class TransportSet final : public Transport {
 public:
  explicit TransportSet(Loop* loop) : loop_(loop) {}
  /// `transport` outlives the set; one of each kind, before the first region.
  void add(TransportKind kind, Transport* transport);

  StatusOr<RegionId> register_region(std::span<std::byte> memory) override;
  void when_prepared(RegionId region, Op* op) override;
  Status unregister_region(RegionId region) override;
  bool region_in_use(RegionId region) const override;
  void expect_memory(std::span<std::byte> memory) override;
  void forget_memory(std::span<std::byte> memory) override;
  Status send_message(PeerId to, const Message& message) override;
  Status write(PeerId to, const Write& write, Op* op) override;
  Status read(PeerId from, const Read& read, Op* op) override;
  void cancel(Op* op) override;
  void quiesce(PeerId peer, uint64_t tag, Op* op) override;
  uint64_t queued_bytes(PeerId peer) const override;
  void close_peer(PeerId peer, Status why) override;
  void close(Op* op) override;

 private:
  struct Joined;
  void for_each(Op* op, const std::function<void(Transport*, Op*)>& start);
  /// Null: no transport has such peers.
  Transport* of(PeerId peer) const;
  Loop* const loop_;
  std::array<Transport*, kTransportKinds> by_kind_{};
  std::vector<Transport*> all_;
};
}  // namespace terrace
