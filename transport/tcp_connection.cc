#include "transport/tcp_connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr size_t kLowWaterMax = 256 * kKiB;
constexpr size_t kDiscardBytes = 256 * kKiB;
constexpr size_t kSendBytesMin = 512 * kKiB;  // of several frames; less costs too much CPU

void set_option(int fd, int level, int name, int value) {
  // Tuning: a kernel that refuses it still carries the bytes.
  (void)::setsockopt(fd, level, name, &value, sizeof(value));
}

void set_up_socket(int fd, const TcpOptions& options) {
  // io_uring answers EAGAIN instead of waiting on a non-blocking descriptor.
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) (void)::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // A host that vanished is noticed by the kernel; one that is merely stuck, by our ticks.
  const auto stall_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(options.send_stall_timeout).count();
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(stall_ms));
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  if (options.socket_buffer_bytes > 0) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(options.socket_buffer_bytes));
    set_option(fd, SOL_SOCKET, SO_RCVBUF, static_cast<int>(options.socket_buffer_bytes));
  }
}

/// Drops what the kernel still holds of a zero-copy send: a peer that stopped reading would keep
/// our memory busy for as long as it likes.
void reset_connection(int fd) {
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  (void)::connect(fd, &none, sizeof(none));
}

bool try_again(int32_t result) {
  return result == -ECANCELED || result == -EINTR || result == -EAGAIN;
}
}  // namespace

TcpShared::TcpShared(Loop* the_loop, TransportHandler* the_handler, const TcpOptions& the_options)
    : loop(the_loop),
      handler(the_handler),
      options(the_options),
      turns(this),
      discard(kDiscardBytes) {
  TERRACE_CHECK(options.turn_bytes_max > 0 && options.turn_bytes_urgent > 0);
}

void SendTurns::add(TcpConnection* connection) {
  waiting_.push_back(connection);
  if (!std::exchange(scheduled_, true)) shared_->loop->defer([this] { run(); });
}

void SendTurns::remove(TcpConnection* connection) {
  std::erase(waiting_, connection);
}

void SendTurns::run() {
  scheduled_ = false;
  // The oldest frame first, whichever connection it is on: a layer's frames lie on several, and
  // connections that took turns would finish all layers at once.
  const size_t turn = shared_->turn_bytes();
  for (size_t bytes = 0; bytes < turn && !waiting_.empty();) {
    const auto oldest = std::min_element(
        waiting_.begin(), waiting_.end(), [](const TcpConnection* a, const TcpConnection* b) {
          return a->queue().front_order() < b->queue().front_order();
        });
    TcpConnection* const next = *oldest;
    waiting_.erase(oldest);
    bytes += next->send_now(std::min(std::max(next->queue().front_left(), kSendBytesMin), turn));
  }
  if (waiting_.empty()) return;
  scheduled_ = true;
  shared_->loop->defer([this] { run(); });
}

TcpConnection::TcpConnection(TcpShared* shared, Fd fd, uint32_t index, Owner* owner)
    : shared_(shared),
      fd_(std::move(fd)),
      index_(index),
      owner_(owner),
      receiver_(this, shared->discard),
      zero_copy_(shared->options.zero_copy && shared->loop->has_zero_copy_send()),
      release_timer_([this] {
        owner_->failed(this, CloseReason::stalled,
                       error(StatusCode::kUnavailable, "the peer kept cancelled memory busy"));
      }) {
  set_up_socket(fd_.get(), shared_->options);
  shared_->metrics.connections.add();
}

TcpConnection::~TcpConnection() {
  TERRACE_CHECK(idle());
  shared_->turns.remove(this);
  shared_->metrics.connections.sub();
}

void TcpConnection::connect(const SocketAddress& address) {
  address_ = address;
  shared_->loop->connect(fd_.get(), address_.get(), address_.length, &connect_);
}

void TcpConnection::on_connected(int32_t result) {
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (result == 0) return owner_->connected(this);
  Status why = error(StatusCode::kUnavailable, errno_status(-result, "connect").message());
  owner_->failed(this, CloseReason::peer_closed, std::move(why));
}

void TcpConnection::receive(FrameLane lane) {
  const bool was_paused = receiver_.lane() == FrameLane::paused;
  receiver_.set_lane(lane);
  if (was_paused) {
    const Status status = receiver_.received(0);
    if (closing_) return;
    if (!status.ok()) return owner_->failed(this, CloseReason::bad_frame, status);
  }
  arm_receive();
}

void TcpConnection::arm_receive() {
  if (closing_ || receive_.in_flight() || receiver_.lane() == FrameLane::paused) return;
  const std::span<iovec> pieces = receiver_.want(shared_->turn_bytes());
  receive_message_ = {};
  receive_message_.msg_iov = pieces.data();
  receive_message_.msg_iovlen = pieces.size();
  set_low_water();
  shared_->loop->receive(fd_.get(), &receive_message_, &receive_);
  shared_->metrics.receives.add();
}

/// Lets the kernel wake us for large pieces of a payload rather than for every segment. Never more
/// than the payload still to come, so that its last bytes are not waited for in vain.
void TcpConnection::set_low_water() {
  const auto bytes =
      static_cast<int>(std::clamp<size_t>(receiver_.payload_left(), 1, kLowWaterMax));
  if (bytes == low_water_) return;
  low_water_ = bytes;
  set_option(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, bytes);
}

void TcpConnection::on_received(int32_t result) {
  const uint64_t release = std::exchange(release_frame_, 0);
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  Status status;
  CloseReason reason = CloseReason::peer_closed;
  if (result > 0) {
    stall_.receive_ticks = 0;
    shared_->metrics.bytes_in.add(static_cast<uint64_t>(result));
    status = receiver_.received(static_cast<size_t>(result));
    reason = CloseReason::bad_frame;
  } else if (result == 0) {
    status = error(StatusCode::kUnavailable, receiver_.mid_frame()
                                                 ? "the peer closed in the middle of a frame"
                                                 : "the peer closed");
  } else if (!try_again(result)) {
    status = error(StatusCode::kUnavailable, errno_status(-result, "receive").message());
  }
  if (release != 0) {
    // The payload may have been completed meanwhile, and another frame begun.
    if (status.ok() && receiver_.frame_number() == release) receiver_.discard_payload();
    owner_->payload_released(this);
  }
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (!status.ok()) return owner_->failed(this, reason, std::move(status));
  arm_receive();
}

bool TcpConnection::release_payload() {
  if (!receive_.in_flight()) {
    receiver_.discard_payload();
    return true;
  }
  if (release_frame_ == 0) {
    release_frame_ = receiver_.frame_number();
    shared_->loop->cancel(&receive_);
  }
  return false;
}

Status TcpConnection::frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                                   std::vector<iovec>* places) {
  if (closing_) return StatusCode::kUnavailable;
  shared_->metrics.frames_in.add();
  return owner_->frame_begins(this, header, body, places);
}

Status TcpConnection::frame_ends(const FrameHeader& header, std::span<const std::byte> body) {
  if (closing_) return StatusCode::kUnavailable;
  return owner_->frame_ends(this, header, body);
}

void TcpConnection::push(OutFrame frame) {
  shared_->metrics.queued_bytes.add(frame.bytes());
  shared_->metrics.frames_out.add();
  frame.order = ++shared_->frames;
  queue_.push(std::move(frame));
}

void TcpConnection::pump() {
  if (closing_ || waits_for_turn_ || send_.in_flight() || queue_.empty()) return;
  if (index_ == 0) {
    send_now(shared_->turn_bytes());
  } else {
    waits_for_turn_ = true;
    shared_->turns.add(this);
  }
}

size_t TcpConnection::send_now(size_t bytes_max) {
  waits_for_turn_ = false;
  if (closing_ || send_.in_flight() || queue_.empty()) return 0;
  const std::span<iovec> pieces = queue_.gather(bytes_max);
  size_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  send_message_ = {};
  send_message_.msg_iov = pieces.data();
  send_message_.msg_iovlen = pieces.size();
  sending_zero_copy_ = zero_copy_ && bytes >= shared_->options.zero_copy_bytes_min;
  if (sending_zero_copy_) {
    shared_->loop->send_zero_copy(fd_.get(), &send_message_, &send_);
    shared_->metrics.zero_copy_sends.add();
  } else {
    shared_->loop->send(fd_.get(), &send_message_, &send_);
  }
  shared_->metrics.sends.add();
  return bytes;
}

bool TcpConnection::zero_copy_refused(int32_t result) {
  const bool was = std::exchange(sending_zero_copy_, false);
  if (!was) return false;
  const bool refused = result == -EOPNOTSUPP || result == -EINVAL || result == -ENOBUFS ||
                       result == -ENOMEM;  // the last two: pages that may not be pinned
  if (refused || send_.zero_copy_copied()) {
    zero_copy_ = false;
    shared_->metrics.zero_copy_fallbacks.add();
  }
  return refused;
}

void TcpConnection::on_sent(int32_t result) {
  shared_->loop->disarm(&release_timer_);
  const bool again = zero_copy_refused(result) || try_again(result);
  const auto taken = static_cast<size_t>(std::max(result, 0));
  if (taken > 0) stall_.send_ticks = 0;
  const uint64_t before = queue_.bytes();
  std::vector<EndedFrame> ended;
  queue_.advance(taken, &ended);
  shared_->metrics.bytes_out.add(taken);
  shared_->metrics.queued_bytes.sub(before - queue_.bytes());
  owner_->frames_ended(ended);
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (result < 0 && !again) {
    Status why = error(StatusCode::kUnavailable, errno_status(-result, "send").message());
    return owner_->failed(this, CloseReason::peer_closed, std::move(why));
  }
  pump();
}

void TcpConnection::stop_frames(const std::function<bool(const OutFrame&)>& which) {
  const uint64_t before = queue_.bytes();
  std::vector<EndedFrame> ended;
  const bool held = queue_.stop(which, &ended);
  shared_->metrics.queued_bytes.sub(before - queue_.bytes());
  if (held && send_.in_flight()) {
    shared_->loop->cancel(&send_);
    if (sending_zero_copy_ && !closing_ && !release_timer_.armed()) {
      shared_->loop->arm(&release_timer_,
                         shared_->loop->now() + shared_->options.zero_copy_release_timeout);
    }
  }
  owner_->frames_ended(ended);
}

void TcpConnection::begin_close() {
  if (closing_) return;
  closing_ = true;
  shared_->loop->disarm(&release_timer_);
  if (sending_zero_copy_ && send_.in_flight()) {
    reset_connection(fd_.get());
  } else {
    (void)::shutdown(fd_.get(), SHUT_RDWR);
  }
  shared_->loop->cancel(&receive_);
  shared_->loop->cancel(&send_);
  shared_->loop->cancel(&connect_);
}

void TcpConnection::clear_queue(const Status& why, std::vector<EndedFrame>* ended) {
  TERRACE_CHECK(idle());
  shared_->metrics.queued_bytes.sub(queue_.bytes());
  queue_.clear(why, ended);
}

TcpConnection::Stall TcpConnection::tick() {
  if (send_.in_flight()) ++stall_.send_ticks;
  if (receiver_.mid_frame() && receive_.in_flight()) ++stall_.receive_ticks;
  if (!send_.in_flight()) stall_.send_ticks = 0;
  if (!receiver_.mid_frame()) stall_.receive_ticks = 0;
  return stall_;
}
}  // namespace terrace
