// tools/cli/bench_socket.h - the ceiling of anything over TCP on this machine: plain non-blocking
// sockets on loopback, one thread at each end, and nothing around them. Blocking calls;
// single-threaded but for the two threads inside.
#pragma once
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/handle.h"
#include "base/status.h"
#include "tools/cli/bench_math.h"
#include "tools/cli/latencies.h"

namespace terrace {

/// Two ends of TCP connections over loopback: TCP_NODELAY, non-blocking, buffers as the kernel
/// sizes them.
struct SocketPairs {
  std::vector<Fd> left;
  std::vector<Fd> right;
};
StatusOr<SocketPairs> connect_pairs(uint32_t connections);
/// A non-blocking connection to a port on loopback. kUnavailable: nobody listens there.
StatusOr<Fd> connect_to(uint16_t port);

struct StreamOptions {
  uint32_t connections = 2;
  Nanos duration{0};
  double bytes_per_s_max = 0;       // 0: as fast as it goes
  Latencies* piece_gaps = nullptr;  // gets the times between whole pieces, when set
};
/// Streams pieces of 1 MiB of `from` over all connections into the same places of `into` (as long)
/// until `duration` is over, round and round.
StatusOr<Figure> stream_over_sockets(const StreamOptions& options, std::span<const std::byte> from,
                                     std::span<std::byte> into);

struct PingPongOptions {
  size_t request_bytes = 0;
  size_t reply_bytes = 0;
  uint32_t depth = 1;  // requests in flight on the one connection
  Nanos duration{0};
};
struct PingPong {
  uint64_t round_trips = 0;
  double seconds = 0;
  double cpu_seconds = 0;
  Latencies latencies;
};
/// Requests and replies of these sizes over one connection, answered by a thread that does nothing
/// else.
StatusOr<PingPong> ping_pong_over_sockets(const PingPongOptions& options);
}  // namespace terrace
