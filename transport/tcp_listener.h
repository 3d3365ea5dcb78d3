// transport/tcp_listener.h - the door: accepts connections, reads their hello and nothing else, and
// groups them by secret. A group that is complete leaves as a peer. Thread-confined to the loop.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "transport/tcp_connection.h"

namespace terrace {

using SessionSecret = std::array<std::byte, 16>;

class TcpListener final : public TcpConnection::Owner {
 public:
  static constexpr size_t kStrangersMax = 1024;  // connections without a session
  using Connections = std::vector<std::unique_ptr<TcpConnection>>;

  class Host {
   public:
    /// Runs for each hello, before the group is looked at.
    virtual bool secret_known(const SessionSecret& secret) = 0;
    /// Whether a peer with this secret is there, or there is no room for another one.
    virtual Status may_open(const SessionSecret& secret) = 0;
    /// A complete group, in order of connection numbers.
    virtual void group_complete(const SessionSecret& secret, Connections connections) = 0;
    /// Call reap() later.
    virtual void schedule_reap() = 0;

   protected:
    ~Host() = default;
  };

  TcpListener(TcpShared* shared, Host* host) : shared_(shared), host_(host) {}
  ~TcpListener();

  /// Binds and starts accepting; the port. kUnavailable: the address cannot be had.
  StatusOr<uint16_t> listen(const SocketAddress& address);
  void close();
  /// After close(): nothing is left.
  bool drained() const { return !accept_.in_flight() && strangers_.empty(); }
  /// Frees connections that are through.
  void reap();
  /// Called every `interval`.
  void tick(Nanos interval);

 private:
  struct Stranger {
    std::unique_ptr<TcpConnection> connection;
    uint32_t ticks = 0;
    bool closing = false;
    bool grouped = false;
    SessionSecret secret{};
  };
  struct Group {
    std::vector<TcpConnection*> members;  // by connection number; null: not here yet
    size_t present = 0;
  };

  Status frame_begins(TcpConnection* connection, const FrameHeader& header,
                      std::span<const std::byte> body, std::vector<iovec>* places) override;
  Status frame_ends(TcpConnection* connection, const FrameHeader& header,
                    std::span<const std::byte> body) override;
  void frames_ended(std::span<EndedFrame>) override {}
  void payload_released(TcpConnection*) override {}
  void connected(TcpConnection*) override {}
  void failed(TcpConnection* connection, CloseReason reason, Status why) override;
  void closed(TcpConnection* connection) override;

  void on_accepted(int32_t result);
  void arm_accept();
  Stranger* find(const TcpConnection* connection);
  void turn_away(Stranger* stranger, CloseReason reason);
  void break_group(const SessionSecret& secret, CloseReason reason);
  Connections take_group(const SessionSecret& secret);

  TcpShared* const shared_;
  Host* const host_;
  Fd fd_;
  bool closing_ = false;
  bool accept_paused_ = false;  // the kernel is out of something; the next tick tries again
  std::vector<Stranger> strangers_;
  std::map<SessionSecret, Group> groups_;
  MethodOp<TcpListener, &TcpListener::on_accepted> accept_{this};
};
}  // namespace terrace
