// transport/tcp_connection.h - one socket: at most one receive and one send under way, the receive
// machine and the send queue around them. Knows frames, not peers. Thread-confined to the loop.
#pragma once
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/handle.h"
#include "base/loop.h"
#include "transport/frame_receiver.h"
#include "transport/region_table.h"
#include "transport/tcp_address.h"
#include "transport/tcp_options.h"
#include "transport/tcp_send_queue.h"
#include "transport/transport.h"

namespace terrace {

class TcpConnection;
struct TcpShared;

/// Lets data connections send one after the other, so that a turn of the loop copies about one
/// frame: messages wait for no more than that, and the bytes are still in the cache when the other
/// side of a loopback reads them.
class SendTurns {
 public:
  explicit SendTurns(TcpShared* shared) : shared_(shared) {}
  /// `connection` is asked to send_now() in one of the next turns. Not twice before that.
  void add(TcpConnection* connection);
  void remove(TcpConnection* connection);
  /// Whether a task of ours waits in the loop.
  bool scheduled() const { return scheduled_; }

 private:
  void run();
  TcpShared* const shared_;
  std::deque<TcpConnection*> waiting_;
  bool scheduled_ = false;
};

/// What everything of one transport shares. Outlives it all.
struct TcpShared {
  TcpShared(Loop* the_loop, TransportHandler* the_handler, const TcpOptions& the_options);
  Loop* const loop;
  TransportHandler* const handler;
  const TcpOptions options;
  TcpMetrics metrics;
  RegionTable regions;
  SendTurns turns;
  std::vector<uint32_t> crc_runs;  // scratch
  std::vector<std::byte> discard;  // where dropped payload goes; nobody reads it
  Nanos urgent_until{0};           // urgent messages are about
  uint64_t frames = 0;             // that were ever queued
  /// Payload of one turn, now.
  uint32_t turn_bytes() const {
    return loop->now() < urgent_until ? options.turn_bytes_urgent : options.turn_bytes_max;
  }
};

class TcpConnection final : private FrameSink {
 public:
  /// Calls never come from inside a method of the connection, except where said.
  class Owner {
   public:
    /// As FrameSink.
    virtual Status frame_begins(TcpConnection* connection, const FrameHeader& header,
                                std::span<const std::byte> body, std::vector<iovec>* places) = 0;
    virtual Status frame_ends(TcpConnection* connection, const FrameHeader& header,
                              std::span<const std::byte> body) = 0;
    /// Borrowed memory is free again. Also from inside stop_frames().
    virtual void frames_ended(std::span<EndedFrame> ended) = 0;
    /// After release_payload() returned false: the memory is not touched any more.
    virtual void payload_released(TcpConnection* connection) = 0;
    virtual void connected(TcpConnection* connection) = 0;
    /// The connection is of no use any more; the owner calls begin_close().
    virtual void failed(TcpConnection* connection, CloseReason reason, Status why) = 0;
    /// After begin_close(): the kernel holds nothing of ours any more.
    virtual void closed(TcpConnection* connection) = 0;

   protected:
    ~Owner() = default;
  };

  /// `fd` is a connected or fresh TCP socket; it is set up here.
  TcpConnection(TcpShared* shared, Fd fd, uint32_t index, Owner* owner);
  ~TcpConnection();

  void set_owner(Owner* owner) { owner_ = owner; }
  void set_index(uint32_t index) { index_ = index; }
  /// Number within its group; 0 carries messages.
  uint32_t index() const { return index_; }

  /// Then connected() or failed().
  void connect(const SocketAddress& address);
  /// Starts, or after a pause goes on, receiving frames of `lane`.
  void receive(FrameLane lane);
  /// For use inside frame_begins() and frame_ends(): what the next frames may be.
  void set_lane(FrameLane lane) { receiver_.set_lane(lane); }

  const TcpSendQueue& queue() const { return queue_; }
  /// Queues a frame; pump() sends it.
  void push(OutFrame frame);
  /// Sends when there is something to send and nothing is under way; data when it is its turn.
  void pump();
  /// For SendTurns: starts a send of about `bytes_max`, and says of how many.
  size_t send_now(size_t bytes_max);
  /// Wants borrowed memory of frames in the queue back; see TcpSendQueue::stop().
  void stop_frames(const std::function<bool(const OutFrame&)>& which);
  /// Wants the destination of the payload being received back; the rest of that payload is dropped.
  /// True: it is free now. False: payload_released() will say so.
  bool release_payload();

  /// Ends the connection: nothing is delivered from here on. closed() follows, unless idle() now.
  void begin_close();
  bool idle() const { return !receive_.in_flight() && !send_.in_flight() && !connect_.in_flight(); }
  /// Takes what was not sent out of the queue. Only when idle.
  void clear_queue(const Status& why, std::vector<EndedFrame>* ended);
  /// Called in equal intervals. Which side made no progress although it should, for how many calls.
  struct Stall {
    uint32_t send_ticks = 0;
    uint32_t receive_ticks = 0;
  };
  Stall tick();

 private:
  Status frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                      std::vector<iovec>* places) override;
  Status frame_ends(const FrameHeader& header, std::span<const std::byte> body) override;
  void on_connected(int32_t result);
  void on_received(int32_t result);
  void on_sent(int32_t result);
  void arm_receive();
  void set_low_water();
  /// Whether the send may be repeated: the kernel only refused to do it without copying.
  bool zero_copy_refused(int32_t result);

  TcpShared* const shared_;
  Fd fd_;
  uint32_t index_;
  Owner* owner_;
  bool closing_ = false;
  SocketAddress address_;

  FrameReceiver receiver_;
  TcpSendQueue queue_;
  msghdr receive_message_{};
  msghdr send_message_{};
  bool zero_copy_;                  // worth another try
  bool sending_zero_copy_ = false;  // the send under way
  bool waits_for_turn_ = false;
  int low_water_ = 1;
  uint64_t release_frame_ = 0;  // the frame whose payload is to be released; 0: none
  Stall stall_;

  Timer release_timer_;  // for zero-copy memory that is wanted back

  MethodOp<TcpConnection, &TcpConnection::on_connected> connect_{this};
  MethodOp<TcpConnection, &TcpConnection::on_received> receive_{this};
  MethodOp<TcpConnection, &TcpConnection::on_sent> send_{this};
};
}  // namespace terrace
