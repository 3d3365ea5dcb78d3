// tools/cli/bench_redis.h - a peer to compare with: Debian's redis-server on loopback, filled with
// as many bytes as the node, read by a client that really receives every one. Blocking;
// single-threaded.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/handle.h"
#include "base/status.h"
#include "tools/cli/bench_hiredis.h"
#include "tools/cli/bench_math.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_resp.h"

namespace terrace {

struct RedisOptions {
  uint32_t connections = 2;
  uint32_t gets_in_flight = 4;  // over all connections
  size_t value_bytes = size_t{2} << 20;
};

class RedisPeer {
 public:
  /// Starts redis-server and stores `content` in values of value_bytes. kUnavailable: not
  /// installed, or it did not answer. `content` is whole values.
  static StatusOr<RedisPeer> start(const RedisOptions& options, std::span<std::byte> content);
  /// GETs the values round and round into their places of `into`, as long as the content.
  /// This client is ours: it receives straight into place.
  StatusOr<Figure> fetch_for(Nanos duration, std::span<std::byte> into);
  /// The same through hiredis, over one connection.
  StatusOr<Figure> fetch_by_hiredis(Nanos duration, std::span<std::byte> into);

 private:
  struct Connection {
    Fd socket;
    RespReader reader;
    std::string unsent;  // requests, all sent but for the first sent bytes
    size_t sent = 0;
    std::vector<size_t> in_flight;  // values asked for, oldest first
    bool reading = false;           // a reply was started
  };
  explicit RedisPeer(const RedisOptions& options) : options_(options) {}
  Status connect(uint16_t port);
  Status store(Connection* connection, size_t value, std::span<std::byte> bytes);
  Status ask(Connection* connection, size_t value);
  Status flush(Connection* connection);
  /// Receives what is there; *values counts the whole values that arrived.
  Status receive(Connection* connection, std::span<std::byte> into, uint64_t* values);

  RedisOptions options_;
  ChildProcess server_;
  std::vector<Connection> connections_;
  std::optional<HiredisClient> hiredis_;
  size_t values_ = 0;
};
}  // namespace terrace
