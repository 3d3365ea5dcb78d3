// server/node/router.h - takes what arrives on data connections to the operation it is for. Parses
// nothing of a peer without a session. Loop thread only.
#pragma once
#include <functional>
#include <memory>
#include <unordered_map>

#include "server/node/session.h"
#include "transport/transport.h"

namespace terrace {

class Router final : public TransportHandler {
 public:
  explicit Router(NodeContext* context);
  ~Router();

  /// A session that may connect within `connect_timeout`. kResourceExhausted over sessions_max.
  StatusOr<Secret> open_session(const std::string& tenant, const std::string& client);
  /// Null when there is no such session.
  Session* find_session(std::span<const std::byte> secret);
  /// Null when the peer's session is gone.
  const Session* session_of(PeerId peer) const;
  /// A session that has not connected yet: a secret opens one connection.
  bool expects(std::span<const std::byte, 16> secret);
  /// Refuses new work; `op` is done when every session is gone. Close the transport first.
  void close(Op* op);
  size_t sessions() const { return sessions_.size(); }

  void on_peer(PeerId peer, std::span<const std::byte, 16> secret) override;
  void on_message(PeerId peer, const Message& message) override;
  bool accept_write(PeerId peer, const IncomingWrite& write,
                    std::vector<uint32_t>* crc_runs) override;
  void on_write(PeerId peer, const IncomingWrite& write) override;
  Status accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) override;
  void on_peer_closed(PeerId peer, const Status& why) override;

 private:
  struct Entry;
  using Key = std::string;  // the secret's bytes
  template <class Request, class Reply, class Create>
  Status start_operation(Session* session, const Message& message, MessageKind reply_kind,
                         Create create);
  Status dispatch(Session* session, const Message& message);
  Status dispatch_quick(Session* session, const Message& message);
  Status dispatch_release(Session* session, const Message& message);
  void remove(const Key& key);

  NodeContext* const context_;
  std::unordered_map<Key, std::unique_ptr<Entry>> sessions_;
  std::unordered_map<uint64_t, Key> by_peer_;
  Op* closed_ = nullptr;
};
}  // namespace terrace
