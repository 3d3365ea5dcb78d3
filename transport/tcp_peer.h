// transport/tcp_peer.h - one session's group of connections: the handshake of the side that called,
// messages, writes and reads of both sides, and the end of it all. Thread-confined to the loop.
#pragma once
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "transport/tcp_connection.h"

namespace terrace {

class TcpPeer final : public TcpConnection::Owner {
 public:
  static constexpr uint32_t kReadsOutstandingMax = 256;
  using Connections = std::vector<std::unique_ptr<TcpConnection>>;

  class Host {
   public:
    /// The peer queued something: call pump() later.
    virtual void schedule_pump(TcpPeer* peer) = 0;
    /// The peer may be drained(): call finish() later, and forget it.
    virtual void schedule_finish() = 0;

   protected:
    ~Host() = default;
  };

  TcpPeer(PeerId id, TcpShared* shared, Host* host);
  ~TcpPeer();

  /// The side that called: connects `connections` sockets; `op` is done with the outcome. A peer
  /// that never opened ends without on_peer_closed.
  Status connect(const SocketAddress& address, const std::array<std::byte, 16>& secret,
                 uint32_t connections, Nanos deadline, Op* op);
  /// The side that listens: takes over connections whose hellos were all there.
  void open(Connections connections);

  PeerId id() const { return id_; }
  bool is_open() const { return state_ == State::open; }

  // As in Transport, for this peer.
  Status send_message(const Message& message);
  Status write(const Transport::Write& write, Op* op);
  Status read(const Transport::Read& read, Op* op);
  /// Whether `op` was found.
  bool cancel(Op* op);
  void quiesce(uint64_t tag, Op* op);
  uint64_t queued_bytes() const;
  /// Whether an operation of ours borrows memory of `memory`.
  bool borrows(std::span<const std::byte> memory) const;

  /// Sends what is queued: of the messages first, or of the data.
  void pump_messages();
  void pump_data();
  bool pump_scheduled = false;  // the host's

  void close(CloseReason reason, Status why);
  /// Closed, and the kernel holds nothing of ours.
  bool drained() const;
  /// Completes every operation, then tells the handler. Once, when drained().
  void finish();
  /// Called every `interval`: closes a peer that makes no progress.
  void tick(Nanos interval);

 private:
  enum class State : uint8_t { connecting, open, closing, finished };
  /// A read of ours whose answer has not come; answers come in order on its connection.
  struct PendingRead {
    Op* op = nullptr;  // null: cancelled, the answer is dropped
    uint64_t tag = 0;
    std::vector<iovec> into;
    size_t bytes = 0;
    size_t received = 0;
    bool cancel = false;  // asked for while its bytes were coming in
  };
  /// The payload that is coming in on a connection.
  struct Incoming {
    FrameType type = FrameType::message;
    uint64_t tag = 0;
    std::vector<RemoteSpan> targets;  // of a write
    bool pinned = false;
    bool dropped = false;
    bool releasing = false;  // dropped, and the kernel may still write to it
  };
  /// A connection and what is under way on it.
  struct Line {
    std::unique_ptr<TcpConnection> connection;
    Incoming incoming;
    std::deque<PendingRead> reads;
  };
  struct Quiesce {
    uint64_t tag = 0;
    Op* op = nullptr;
  };

  // TcpConnection::Owner
  Status frame_begins(TcpConnection* connection, const FrameHeader& header,
                      std::span<const std::byte> body, std::vector<iovec>* places) override;
  Status frame_ends(TcpConnection* connection, const FrameHeader& header,
                    std::span<const std::byte> body) override;
  void frames_ended(std::span<EndedFrame> ended) override;
  void payload_released(TcpConnection* connection) override;
  void connected(TcpConnection* connection) override;
  void failed(TcpConnection* connection, CloseReason reason, Status why) override;
  void closed(TcpConnection* connection) override;

  // tcp_peer_receive.cc: what frames of the peer do
  Status hello_answered(TcpConnection* connection);
  Status message_begins(const FrameHeader& header, std::span<const std::byte> body);
  Status write_begins(Line* line, const FrameHeader& header, std::span<const std::byte> body,
                      std::vector<iovec>* places);
  Status write_ends(Line* line, const FrameHeader& header, std::span<const std::byte> body);
  Status read_asked(Line* line, const FrameHeader& header, std::span<const std::byte> body);
  Status read_data_begins(Line* line, const FrameHeader& header, std::vector<iovec>* places);
  Status read_data_ends(Line* line, const FrameHeader& header);
  Status read_refused(Line* line, const FrameHeader& header);
  IncomingWrite incoming_write(const Line& line, const FrameHeader& header,
                               std::span<const std::byte> body) const;
  void unpin(Incoming* incoming);
  Status still_open() const;

  Line* shortest_data_line();
  void schedule_pump();
  bool touches(uint64_t tag) const;
  void settle_quiesces();
  void end_connect(Status result);

  const PeerId id_;
  TcpShared* const shared_;
  Host* const host_;
  State state_ = State::connecting;
  std::vector<Line> lines_;  // by connection number
  std::array<std::byte, 16> secret_{};
  Op* connect_op_ = nullptr;
  uint32_t answered_ = 0;  // hellos
  bool was_open_ = false;
  uint32_t reads_outstanding_ = 0;  // ours
  uint32_t reads_serving_ = 0;      // the peer's
  std::vector<Quiesce> quiesces_;
  std::vector<RemoteSpan> spans_;  // scratch
  bool in_call_ = false;           // inside cancel() or quiesce(): complete nothing here
  Status why_;
  Timer deadline_;
};
}  // namespace terrace
