// tests/e2e/raw_client.h - a client that speaks the data protocol by hand, so that it can lie: a
// real session over the control plane, then plain blocking sockets. Everything has a deadline.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/handle.h"
#include "base/status.h"
#include "client/control_channel.h"
#include "proto/data.pb.h"
#include "proto/message_kind.h"
#include "transport/wire_format.h"

namespace terrace::e2e {

struct RawFrame {
  FrameHeader header;
  std::vector<std::byte> body;
  std::vector<std::byte> payload;
};

/// One connection to the data port.
class RawConnection {
 public:
  explicit RawConnection(uint16_t port);
  void send(std::span<const std::byte> bytes);
  void send(const FrameHeader& header, std::span<const std::byte> body = {});
  void send_hello(const SessionSecret& secret, uint32_t connection, uint32_t connections);
  /// Nothing when the peer closed, or sent nothing for `timeout_ms`.
  std::optional<RawFrame> receive(int timeout_ms = 5'000);
  /// Whether the peer closes within `timeout_ms`; what it sends before is dropped.
  bool closed_by_peer(int timeout_ms = 5'000);

 private:
  bool read_all(std::span<std::byte> into, int timeout_ms);
  Fd socket_;
};

/// A session with one message and one data connection, and a raw namespace.
class RawClient {
 public:
  RawClient(const std::string& endpoint, uint16_t data_port);
  RawConnection& messages() { return *connections_[0]; }
  RawConnection& data() { return *connections_[1]; }
  uint32_t ns() const { return ns_; }
  const SessionSecret& secret() const { return offer_.secret; }
  void send(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body);
  /// The next message; its kind must be `kind`. False: the node closed or said nothing.
  bool receive(MessageKind kind, google::protobuf::MessageLite* body);

 private:
  std::unique_ptr<ControlChannel> control_;
  SessionOffer offer_;
  std::vector<std::unique_ptr<RawConnection>> connections_;
  uint32_t ns_ = 0;
};

/// A request for all of object `key`, into a region that nobody has.
proto::FetchRequest fetch_of(const RawClient& client, const ChunkKey& key, uint64_t bytes);
/// A request to store object `key` of one section, out of such a region.
proto::PutRequest put_of(const RawClient& client, const ChunkKey& key, uint64_t bytes);
}  // namespace terrace::e2e
