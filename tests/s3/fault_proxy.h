// tests/s3/fault_proxy.h - stands between a client and a real server and damages what comes back.
// The bytes are the server's; the faults are chosen by the test, or by a seed. Threads of its own.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace terrace {

enum class Fault : uint8_t {
  none = 0,
  reset = 1,         // the connection breaks before the server hears of it
  lost = 2,          // the server did it, and the answer gets lost
  hang = 3,          // the server never hears of it, nobody answers
  slow_down = 4,     // 503 SlowDown
  error_page = 5,    // 502 with a page of HTML
  cut = 6,           // half of the answer
  flip = 7,          // a bit of the body
  garbage_body = 8,  // of the same length
  garbage_head = 9,  // no HTTP
  too_short = 10,    // Content-Length says less than there is
  too_long = 11,     // or more
  wrong_etag = 12,
  wrong_range = 13,  // Content-Range of another part
};
inline constexpr int kFaults = 14;

class FaultProxy {
 public:
  /// Sees the request's first line and says what happens to it; called by many threads.
  using Choose = std::function<Fault(const std::string& line)>;
  /// In front of `server`, "http://127.0.0.1:PORT".
  explicit FaultProxy(const std::string& server, Choose choose);
  ~FaultProxy();
  /// "http://127.0.0.1:PORT".
  std::string url() const;
  /// Requests so far, of all kinds.
  uint64_t requests() const;
  /// From now on. Exchanges that hang go on hanging.
  void choose(Choose choose);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};
}  // namespace terrace
