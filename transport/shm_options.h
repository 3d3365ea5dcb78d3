// transport/shm_options.h - what a shared-memory transport is told once, and what it counts.
#pragma once
#include <array>
#include <cstdint>

#include "base/clock.h"
#include "base/counter.h"
#include "transport/close_reason.h"

namespace terrace {

struct ShmOptions {
  uint64_t send_queue_bytes_max = uint64_t{64} << 20;  // per peer, accepted and not yet taken
  uint64_t message_bytes_max = uint64_t{16} << 20;     // per peer, not taken by the kernel
  uint32_t peers_max = 4096;
  Nanos handshake_timeout = seconds(5);
  /// A peer that takes nothing of what waits for it for this long is closed.
  Nanos stall_timeout = seconds(30);
  /// Shared memory that a cancelled write has lent is free when the peer says that it does not copy
  /// it. A peer that says nothing for this long is closed.
  Nanos release_timeout = seconds(1);
  /// Bytes that a turn of the loop copies; less while urgent messages are about.
  uint32_t turn_bytes_max = 1u << 20;
  uint32_t turn_bytes_urgent = 256u << 10;
  Nanos urgent_time = milliseconds(10);
  /// A peer of our own user could open a read-only descriptor again for writing: refused unless
  /// this is said.
  bool same_user_allowed = false;
};

/// Written by the loop; a scraper may read from any thread.
struct ShmMetrics {
  Counter bytes_in;       // copied into memory of this side
  Counter bytes_out;      // that the peer copied, or was lent
  Counter bytes_bounced;  // of those, through the area instead of from where they lay
  Counter messages_in;
  Counter messages_out;
  Counter writes_in;
  Counter writes_out;
  Counter writes_dropped;  // accept_write() said no, or the region was gone
  Counter files_shared;    // memory files that peers were given, ever
  Counter files_mapped;    // now, of peers
  Counter area_bytes;      // of areas that are mapped now, both directions
  Counter peers;           // now
  Counter accepted;        // connections, ever
  std::array<Counter, kCloseReasons> closes;
};
}  // namespace terrace
