// server/node/fd_packet.h - packets of unix sockets that may carry one file descriptor. Blocking,
// as long as the socket's timeouts say. Free functions; a socket is one thread's at a time.
#pragma once
#include <string>
#include <string_view>

#include "base/handle.h"
#include "base/status.h"

namespace terrace {

struct FdPacket {
  std::string bytes;
  Fd file;  // perhaps
};

/// Sends one packet, with a duplicate of `file` unless that is null. kUnavailable: the other side
/// is gone, or did not take it in time; else errno's.
Status send_packet(const Fd& socket, std::string_view bytes, const Fd* file);
/// The next packet. kUnavailable: the other side is gone, or said nothing in time.
/// kInvalidArgument: a packet of more than `bytes_max`, or with more than one descriptor: it was
/// dropped.
StatusOr<FdPacket> receive_packet(const Fd& socket, size_t bytes_max);
/// The user at the other end of a connected unix socket is our own. kPermissionDenied names it.
Status check_peer_is_us(const Fd& socket);
}  // namespace terrace
