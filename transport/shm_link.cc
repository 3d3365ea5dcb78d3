#include "transport/shm_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr size_t kReceiveBytes = size_t{256} << 10;
constexpr size_t kBatchBytes = size_t{64} << 10;  // frames that one send takes together, about
constexpr size_t kDescriptorsKeptMax = 64;        // that came and nobody took yet

bool try_again(int32_t result) {
  return result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}
}  // namespace

StatusOr<SocketAddress> parse_unix_address(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() < 2 || name.size() >= sizeof(address.sun_path)) {
    return error(StatusCode::kInvalidArgument,
                 "socket name \"" + name + "\" has " + std::to_string(name.size()) +
                     " bytes; it takes 2 to " + std::to_string(sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  size_t length = offsetof(sockaddr_un, sun_path) + name.size();
  if (name.front() == '@') {
    address.sun_path[0] = '\0';
  } else {
    ++length;  // the path's end
  }
  SocketAddress out;
  std::memcpy(&out.storage, &address, sizeof(address));
  out.length = static_cast<socklen_t>(length);
  return out;
}

ShmLink::ShmLink(Loop* loop, Fd socket, bool takes_descriptors, Owner* owner)
    : loop_(loop),
      fd_(std::move(socket)),
      takes_descriptors_(takes_descriptors),
      owner_(owner),
      receiver_(this, discard_) {}

ShmLink::~ShmLink() {
  TERRACE_CHECK(idle());
}

void ShmLink::connect(const SocketAddress& address) {
  address_ = address;
  loop_->connect(fd_.get(), address_.get(), address_.length, &connect_);
}

void ShmLink::on_connected(int32_t result) {
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (result == 0) return owner_->connected(this);
  owner_->failed(this, CloseReason::peer_closed,
                 error(StatusCode::kUnavailable, errno_status(-result, "connect").message()));
}

void ShmLink::receive(FrameLane lane) {
  const bool was_paused = receiver_.lane() == FrameLane::paused;
  receiver_.set_lane(lane);
  if (was_paused) {
    const Status status = receiver_.received(0);
    if (closing_) return;
    if (!status.ok()) return owner_->failed(this, CloseReason::bad_frame, status);
  }
  arm_receive();
}

void ShmLink::arm_receive() {
  if (closing_ || receive_.in_flight() || receiver_.lane() == FrameLane::paused) return;
  const std::span<iovec> pieces = receiver_.want(kReceiveBytes);
  receive_message_ = {};
  receive_message_.msg_iov = pieces.data();
  receive_message_.msg_iovlen = pieces.size();
  if (takes_descriptors_) {
    receive_message_.msg_control = receive_control_.data();
    receive_message_.msg_controllen = receive_control_.size();
  }
  loop_->receive(fd_.get(), &receive_message_, &receive_);
}

/// They are ours from the moment they arrive: kept, or closed.
Status ShmLink::keep_descriptors() {
  if (!takes_descriptors_) {
    if ((receive_message_.msg_flags & MSG_CTRUNC) == 0) return ok_status();
    return error(StatusCode::kInvalidArgument, "the peer sent descriptors, which only a node may");
  }
  for (cmsghdr* head = CMSG_FIRSTHDR(&receive_message_); head != nullptr;
       head = CMSG_NXTHDR(&receive_message_, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      (void)::fcntl(raw, F_SETFD, FD_CLOEXEC);
      descriptors_.emplace_back(raw);
    }
  }
  if ((receive_message_.msg_flags & MSG_CTRUNC) != 0 || descriptors_.size() > kDescriptorsKeptMax) {
    return error(StatusCode::kInvalidArgument, "the peer sent too many descriptors");
  }
  return ok_status();
}

void ShmLink::on_received(int32_t result) {
  Status status;
  CloseReason reason = CloseReason::peer_closed;
  if (result > 0) {
    reason = CloseReason::bad_frame;
    status = keep_descriptors();
    if (status.ok() && !closing_) status = receiver_.received(static_cast<size_t>(result));
  } else if (result == 0) {
    status = error(StatusCode::kUnavailable, "the peer closed");
  } else if (!try_again(result)) {
    status = error(StatusCode::kUnavailable, errno_status(-result, "receive").message());
  }
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (!status.ok()) return owner_->failed(this, reason, std::move(status));
  arm_receive();
}

Status ShmLink::frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                             std::vector<iovec>*) {
  if (closing_) return StatusCode::kUnavailable;
  return owner_->frame_arrived(this, header, body);
}

Status ShmLink::frame_ends(const FrameHeader&, std::span<const std::byte>) {
  return closing_ ? Status(StatusCode::kUnavailable) : ok_status();
}

Fd ShmLink::take_descriptor() {
  if (descriptors_.empty()) return {};
  Fd first = std::move(descriptors_.front());
  descriptors_.pop_front();
  return first;
}

bool ShmLink::peer_closed() const {
  pollfd look{.fd = fd_.get(), .events = 0, .revents = 0};
  return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)) != 0;
}

StatusOr<uid_t> ShmLink::peer_user() const {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return error(StatusCode::kInternal, errno_status(errno, "SO_PEERCRED").message());
  }
  return credentials.uid;
}

void ShmLink::push(const FrameHeader& header, std::span<const std::byte> body,
                   std::vector<Fd> files) {
  TERRACE_CHECK(files.size() <= kDescriptorsMax && body.size() == header.body_bytes);
  // A batch that is being sent stays as it is; one begins with the frame that has descriptors.
  const bool open = !batches_.empty() && files.empty() &&
                    !(batches_.size() == 1 && send_.in_flight()) &&
                    batches_.back().bytes.size() < kBatchBytes;
  if (!open) batches_.emplace_back();
  Batch& batch = batches_.back();
  const FrameHeaderBytes head = encode(header);
  batch.bytes.insert(batch.bytes.end(), head.begin(), head.end());
  batch.bytes.insert(batch.bytes.end(), body.begin(), body.end());
  if (!files.empty()) batch.files = std::move(files);
  if (queued_ == 0) progress_ = loop_->now();
  queued_ += head.size() + body.size();
}

void ShmLink::attach_files() {
  std::vector<Fd>& files = batches_.front().files;
  if (files.empty() || sent_ > 0) return;
  send_message_.msg_control = send_control_.data();
  send_message_.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
  cmsghdr* const head = CMSG_FIRSTHDR(&send_message_);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
  for (size_t i = 0; i < files.size(); ++i) {
    const int raw = files[i].get();
    std::memcpy(CMSG_DATA(head) + i * sizeof(int), &raw, sizeof(int));
  }
}

void ShmLink::flush() {
  if (closing_ || send_.in_flight() || batches_.empty()) return;
  std::vector<std::byte>& bytes = batches_.front().bytes;
  send_piece_ = {bytes.data() + sent_, bytes.size() - sent_};
  send_message_ = {};
  send_message_.msg_iov = &send_piece_;
  send_message_.msg_iovlen = 1;
  attach_files();
  loop_->send(fd_.get(), &send_message_, &send_);
}

void ShmLink::on_sent(int32_t result) {
  if (result > 0) {
    sent_ += static_cast<size_t>(result);
    queued_ -= static_cast<size_t>(result);
    progress_ = loop_->now();
    batches_.front().files.clear();
    if (sent_ == batches_.front().bytes.size()) {
      batches_.pop_front();
      sent_ = 0;
    }
  }
  if (closing_) {
    if (idle()) owner_->closed(this);
    return;
  }
  if (result < 0 && !try_again(result)) {
    return owner_->failed(this, CloseReason::peer_closed,
                          error(StatusCode::kUnavailable, errno_status(-result, "send").message()));
  }
  flush();
}

void ShmLink::begin_close() {
  if (std::exchange(closing_, true)) return;
  (void)::shutdown(fd_.get(), SHUT_RDWR);
  loop_->cancel(&receive_);
  loop_->cancel(&send_);
  loop_->cancel(&connect_);
}
}  // namespace terrace
