// transport/shm_link.h - one unix-domain stream socket: frames both ways, and descriptors along
// with them. Knows frames, not peers. Thread-confined to the loop.
#pragma once
#include <sys/socket.h>

#include <array>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/handle.h"
#include "base/loop.h"
#include "transport/close_reason.h"
#include "transport/frame_receiver.h"
#include "transport/tcp_address.h"

namespace terrace {

/// A path, or with '@' in front a name in the abstract namespace. kInvalidArgument: empty, or
/// longer than the kernel takes (107 bytes).
StatusOr<SocketAddress> parse_unix_address(const std::string& name);

class ShmLink final : private FrameSink {
 public:
  static constexpr size_t kDescriptorsMax = 4;  // with one frame

  /// Calls never come from inside a method of the link.
  class Owner {
   public:
    /// A frame is whole; it has no payload. A non-OK answer ends the link.
    virtual Status frame_arrived(ShmLink* link, const FrameHeader& header,
                                 std::span<const std::byte> body) = 0;
    virtual void connected(ShmLink* link) = 0;
    /// The link is of no use any more; the owner calls begin_close().
    virtual void failed(ShmLink* link, CloseReason reason, Status why) = 0;
    /// After begin_close(): the kernel holds nothing of ours any more.
    virtual void closed(ShmLink* link) = 0;

   protected:
    ~Owner() = default;
  };

  /// `takes_descriptors`: else those that a peer sends are dropped by the kernel.
  ShmLink(Loop* loop, Fd socket, bool takes_descriptors, Owner* owner);
  ~ShmLink();
  void set_owner(Owner* owner) { owner_ = owner; }

  /// Then connected() or failed().
  void connect(const SocketAddress& address);
  /// Starts, or after a pause goes on, receiving frames of `lane`.
  void receive(FrameLane lane);
  /// For use inside frame_arrived().
  void set_lane(FrameLane lane) { receiver_.set_lane(lane); }
  /// Queues a frame, with descriptors, which are closed when they are sent; flush() sends.
  void push(const FrameHeader& header, std::span<const std::byte> body, std::vector<Fd> files = {});
  void flush();
  size_t queued_bytes() const { return queued_; }
  /// Since when the peer has taken no byte of what is queued; the present when nothing is.
  Nanos stuck_since() const { return queued_ == 0 ? loop_->now() : progress_; }
  /// Whether the peer has closed, though what it sent before was not received yet.
  bool peer_closed() const;
  /// The next descriptor that came; null when there is none.
  Fd take_descriptor();
  /// The other process's user. kInternal.
  StatusOr<uid_t> peer_user() const;

  /// Ends the link: nothing is delivered from here on. closed() follows, unless idle() now.
  void begin_close();
  bool idle() const { return !receive_.in_flight() && !send_.in_flight() && !connect_.in_flight(); }

 private:
  static constexpr size_t kControlBytes = CMSG_SPACE(kDescriptorsMax * sizeof(int));
  /// What one send takes: frames, and the descriptors of the first of them.
  struct Batch {
    std::vector<std::byte> bytes;
    std::vector<Fd> files;
  };
  Status frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                      std::vector<iovec>* places) override;
  Status frame_ends(const FrameHeader& header, std::span<const std::byte> body) override;
  void on_connected(int32_t result);
  void on_received(int32_t result);
  void on_sent(int32_t result);
  void arm_receive();
  Status keep_descriptors();
  void attach_files();

  Loop* const loop_;
  const Fd fd_;
  const bool takes_descriptors_;
  Owner* owner_;
  bool closing_ = false;
  SocketAddress address_;
  std::array<std::byte, 1> discard_{};
  FrameReceiver receiver_;
  std::deque<Batch> batches_;
  size_t sent_ = 0;    // of the first batch
  size_t queued_ = 0;  // bytes of all of them
  Nanos progress_{0};  // bytes were taken, or the queue began
  std::deque<Fd> descriptors_;
  iovec send_piece_{};
  msghdr receive_message_{};
  msghdr send_message_{};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> receive_control_{};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> send_control_{};

  MethodOp<ShmLink, &ShmLink::on_connected> connect_{this};
  MethodOp<ShmLink, &ShmLink::on_received> receive_{this};
  MethodOp<ShmLink, &ShmLink::on_sent> send_{this};
};
}  // namespace terrace
