// transport/tcp_options.h - what a TCP transport is told once, and what it counts.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "base/counter.h"
#include "transport/close_reason.h"

namespace terrace {

struct TcpOptions {
  uint32_t send_queue_bytes_max = 64u << 20;  // per peer, accepted and not yet sent
  uint32_t message_queue_max = 4096;          // per peer
  uint32_t peers_max = 4096;
  Nanos handshake_timeout = seconds(5);
  /// A peer that accepts no byte of a non-empty queue for this long is closed (it stopped reading).
  Nanos send_stall_timeout = seconds(30);
  /// A connection that delivers no byte in the middle of a frame for this long is closed.
  Nanos receive_stall_timeout = seconds(30);
  bool zero_copy = true;  // where the kernel has it and really does not copy
  uint32_t zero_copy_bytes_min = 64u << 10;
  /// Memory of a zero-copy send is only free when the peer has the bytes. One that is cancelled and
  /// not free after this long costs the peer its connections: nothing else takes the memory back.
  Nanos zero_copy_release_timeout = milliseconds(20);
  uint32_t socket_buffer_bytes = 0;  // 0: the kernel's own tuning
  /// Payload that one connection sends, and receives, per turn of the loop at most: one frame, some
  /// 200 us of copying.
  uint32_t turn_bytes_max = 1u << 20;
  /// The same while urgent messages are about: they wait less behind data, which costs more CPU per
  /// byte meanwhile.
  uint32_t turn_bytes_urgent = 256u << 10;
  Nanos urgent_time = milliseconds(10);  // after an urgent message
};

/// Written by the loop; a scraper may read from any thread.
struct TcpMetrics {
  Counter bytes_in;
  Counter bytes_out;
  Counter frames_in;
  Counter frames_out;
  Counter messages_in;
  Counter messages_out;
  Counter writes_dropped;  // accept_write() said no, or the region was gone
  Counter receives;        // kernel requests
  Counter sends;
  Counter zero_copy_sends;
  Counter zero_copy_fallbacks;  // connections on which the kernel copied all the same
  Counter queued_bytes;         // now, all peers
  Counter connections;          // now
  Counter peers;                // now
  Counter accepted;             // connections, ever
  std::array<Counter, kCloseReasons> closes;
};
}  // namespace terrace
