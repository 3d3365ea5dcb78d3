#include "server/node/fd_packet.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace terrace {
namespace {

constexpr size_t kFilesLookedAt = 8;  // descriptors past one are refused, and closed

Status gone(int why, const char* what) {
  const bool late = why == EAGAIN || why == EWOULDBLOCK;
  if (late || why == EPIPE || why == ECONNRESET || why == ECONNREFUSED || why == ENOENT) {
    return error(StatusCode::kUnavailable, std::string(what) + ": " + std::strerror(why));
  }
  return errno_status(why, what);
}

std::vector<Fd> files_of(msghdr* message) {
  std::vector<Fd> files;
  for (cmsghdr* head = CMSG_FIRSTHDR(message); head != nullptr; head = CMSG_NXTHDR(message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      files.emplace_back(fd);
    }
  }
  return files;
}
}  // namespace

Status send_packet(const Fd& socket, std::string_view bytes, const Fd* file) {
  iovec run{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &run;
  message.msg_iovlen = 1;
  if (file != nullptr) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = file->get();
    std::memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? gone(errno, "sending a packet") : ok_status();
}

StatusOr<FdPacket> receive_packet(const Fd& socket, size_t bytes_max) {
  FdPacket packet;
  packet.bytes.resize(bytes_max);
  iovec run{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kFilesLookedAt * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &run;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return gone(errno, "receiving a packet");
  std::vector<Fd> files = files_of(&message);
  if (got == 0) return error(StatusCode::kUnavailable, "the other side of the socket is gone");
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || files.size() > 1) {
    return error(StatusCode::kInvalidArgument, "a packet of more than " +
                                                   std::to_string(bytes_max) +
                                                   " bytes, or with more than one descriptor");
  }
  packet.bytes.resize(static_cast<size_t>(got));
  if (!files.empty()) packet.file = std::move(files[0]);
  return packet;
}

Status check_peer_is_us(const Fd& socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return errno_status(errno, "SO_PEERCRED");
  }
  if (credentials.uid == ::geteuid()) return ok_status();
  return error(StatusCode::kPermissionDenied, "the other side of the socket is user " +
                                                  std::to_string(credentials.uid) + ", this is " +
                                                  std::to_string(::geteuid()));
}
}  // namespace terrace
