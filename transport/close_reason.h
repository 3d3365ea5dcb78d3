// transport/close_reason.h - why the connection to a peer ended, as all transports count it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace terrace {

/// Why a peer ended.
enum class CloseReason : uint8_t {
  asked,        // close_peer() or close()
  peer_closed,  // the peer closed, or the network did
  bad_frame,    // the peer sent what it must not
  stalled,      // the peer stopped reading, or stopped in the middle of a frame
  handshake,    // no session within the handshake timeout, or a half-made one was broken
  secret,       // a secret that nobody gave out
  full,         // over a bound of ours
};
inline constexpr size_t kCloseReasons = 7;
}  // namespace terrace
