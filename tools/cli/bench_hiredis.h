// tools/cli/bench_hiredis.h - Redis as programs use it: through hiredis, Debian's client library,
// which hands each value over in memory of its own. Blocking; single-threaded.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/status.h"

struct redisContext;

namespace terrace {

class HiredisClient {
 public:
  /// kUnavailable: no server there.
  static StatusOr<HiredisClient> connect(uint16_t port);
  HiredisClient(HiredisClient&&) noexcept;
  HiredisClient& operator=(HiredisClient&&) noexcept;
  ~HiredisClient();

  struct Work {
    size_t values = 0;
    size_t value_bytes = 0;
    uint32_t in_flight = 4;
    Nanos duration{0};
  };
  /// GETs values "v0" .. round and round, pipelined, and copies each to its place in `into`;
  /// returns the bytes and, in `elapsed`, how long that took.
  StatusOr<uint64_t> fetch(const Work& work, std::span<std::byte> into, Nanos* elapsed);

 private:
  struct Close {
    void operator()(redisContext* context) const;
  };
  explicit HiredisClient(redisContext* context) : context_(context) {}
  std::unique_ptr<redisContext, Close> context_;
};
}  // namespace terrace
