#include "transport/tcp_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace terrace {
namespace {

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

StatusOr<HostPort> split(const std::string& text) {
  const Status bad = error(StatusCode::kInvalidArgument,
                           "address '" + text + "' is not HOST:PORT, e.g. 127.0.0.1:7100");
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad;
  HostPort out;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data() + colon + 1, end, out.port);
  if (code != std::errc() || stop != end) return bad;
  out.host = text.substr(0, colon);
  if (out.host.front() == '[') {
    if (out.host.size() < 3 || out.host.back() != ']') return bad;
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  return out;
}
}  // namespace

StatusOr<SocketAddress> parse_address(const std::string& text) {
  TERRACE_ASSIGN_OR_RETURN(HostPort parts, split(text));
  if (parts.host == "localhost") parts.host = "127.0.0.1";
  SocketAddress out;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET, parts.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(parts.port);
    std::memcpy(&out.storage, &v4, sizeof(v4));
    out.length = sizeof(v4);
    return out;
  }
  if (::inet_pton(AF_INET6, parts.host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(parts.port);
    std::memcpy(&out.storage, &v6, sizeof(v6));
    out.length = sizeof(v6);
    return out;
  }
  return error(StatusCode::kInvalidArgument,
               "'" + parts.host + "' is not a numeric address; look names up first");
}

StatusOr<std::string> resolve_address(const std::string& text) {
  TERRACE_ASSIGN_OR_RETURN(const HostPort parts, split(text));
  if (parse_address(text).ok()) return text;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int rc = ::getaddrinfo(parts.host.c_str(), nullptr, &hints, &list);
  if (rc != 0) {
    return error(StatusCode::kUnavailable, "look up " + parts.host + ": " + ::gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  char host[NI_MAXHOST];
  if (::getnameinfo(list->ai_addr, list->ai_addrlen, host, sizeof(host), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
    return error(StatusCode::kUnavailable, "look up " + parts.host + ": no numeric form");
  }
  const std::string shown = list->ai_family == AF_INET6 ? "[" + std::string(host) + "]" : host;
  return shown + ":" + std::to_string(parts.port);
}

StatusOr<Fd> make_tcp_socket(const SocketAddress& address) {
  Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return errno_status(errno, "socket");
  return fd;
}

StatusOr<uint16_t> port_of(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return errno_status(errno, "getsockname");
  }
  uint16_t port = 0;  // at the same offset in both families
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  std::memcpy(&port, reinterpret_cast<const char*>(&storage) + offsetof(sockaddr_in, sin_port),
              sizeof(port));
  return ntohs(port);
}
}  // namespace terrace
