// transport/rdma_options.h - what an RDMA transport is told once, and what it counts. No verbs
// here.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/counter.h"
#include "transport/tcp_options.h"  // CloseReason

namespace terrace {

struct RdmaOptions {
  /// Ports to use, "mlx5_0" (its first port) or "mlx5_0:2", in the order in which they are paired
  /// with those of the peer. Empty: every active port, at most `paths_max`.
  std::vector<std::string> devices;
  uint32_t paths_max = 4;  // ports that are used at most
  int gid_index = -1;      // -1: the first RoCE v2 GID of an IPv4 address, else of any, else 0
  uint32_t mtu = 0;        // path MTU in bytes (256 to 4096); 0: what the port has
  uint32_t send_queue_bytes_max = 64u << 20;  // per peer, accepted by write() and not yet done
  uint32_t message_queue_max = 4096;          // per peer
  uint32_t peers_max = 4096;
  uint32_t transfers_queued_max = 4096;  // per peer, of any size
  /// An accepted peer that sends nothing for this long is forgotten.
  Nanos handshake_timeout = seconds(5);
  /// A peer that answers nothing while something waits for it is closed (its process is frozen).
  Nanos send_stall_timeout = seconds(30);
  /// A path whose far end does not acknowledge packets for about this long is dead.
  Nanos dead_peer_timeout = milliseconds(2500);
  Nanos keepalive_interval = seconds(1);  // of an idle path
  /// How long a cancel or a quiesce waits for what cannot be recalled, before it takes the queue
  /// pair away from under it.
  Nanos release_timeout = seconds(1);
  Nanos goodbye_timeout = milliseconds(200);  // how long a closed peer may take to be told
  /// After work was found, how long to look for more before sleeping on the completion channel.
  Nanos busy_poll = Nanos(0);
  uint32_t turn_bytes_max = 256u << 10;  // of messages and bounced bytes, per turn of the loop
  uint32_t turn_completions_max = 128;   // per turn of the loop
  /// Buffers of 1 MiB, and of 16 KiB, through which transfers of unregistered memory go.
  uint32_t bounce_buffers = 4;
  uint32_t small_bounce_buffers = 64;
};

/// Written by the loop; a scraper may read from any thread.
struct RdmaMetrics {
  Counter bytes_in;   // payload of the peers' writes that landed here, and of our reads
  Counter bytes_out;  // payload of our writes, and of the peers' reads
  Counter messages_in;
  Counter messages_out;
  Counter writes;         // ours, done
  Counter reads;          // ours, done
  Counter grants;         // given to peers
  Counter refusals;       // accept_write() or accept_read() said no, or the region was gone
  Counter bounced_bytes;  // copied because the memory was not registered
  Counter frames_in;
  Counter frames_out;
  Counter frames_again;          // sent again over another path
  Counter stale_immediates;      // of writes that nobody was waiting for any more
  Counter registrations;         // now; of all devices
  Counter registered_bytes;      // now; of all devices
  Counter registrations_flying;  // now; regions and expected memory that the devices still learn
  Counter registration_failures;
  Counter lane_resets;  // queue pairs replaced while their path lived
  Counter paths_up;     // now, all peers
  Counter path_failures;
  Counter queued_bytes;  // now, all peers
  Counter peers;         // now
  std::array<Counter, kCloseReasons> closes;
};
}  // namespace terrace
