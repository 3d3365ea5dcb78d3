// transport/tcp_address.h - "host:port" and what the kernel wants to hear. Values only.
#pragma once
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "base/handle.h"
#include "base/status.h"

namespace terrace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// "127.0.0.1:7100", "[::1]:7100", "localhost:7100" (which is 127.0.0.1); never asks a name server.
/// kInvalidArgument for everything else.
StatusOr<SocketAddress> parse_address(const std::string& text);
/// `text` with its host name, if it has one, looked up: something parse_address() takes. Blocks:
/// never on a loop's thread. kUnavailable.
StatusOr<std::string> resolve_address(const std::string& text);
/// A TCP socket of the address's family; blocking, because io_uring waits instead.
StatusOr<Fd> make_tcp_socket(const SocketAddress& address);
/// The port that a bound socket has. kInternal.
StatusOr<uint16_t> port_of(int fd);
}  // namespace terrace
