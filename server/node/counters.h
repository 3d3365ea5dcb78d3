// server/node/counters.h - what the node counts per operation. Written by the loop, read by any
// thread; server/node/metrics.cc shows them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/counter.h"
#include "base/status.h"

namespace terrace {

enum class OpKind : uint8_t { lookup, match, fetch, put, erase, list, view, generate };
inline constexpr size_t kOpKinds = 8;
const char* name_of(OpKind kind);

struct NodeCounters {
  static constexpr size_t kCodes = 17;  // StatusCode values
  struct PerOp {
    std::array<Counter, kCodes> by_code;
    LatencyHistogram latency;
  };
  std::array<PerOp, kOpKinds> ops;
  Counter keys_looked_up, keys_found;
  std::array<Counter, kCodes> fetch_keys_by_code;  // misses by reason; kOk are hits
  std::array<Counter, 4> fetch_bytes_by_tier;
  Counter put_bytes;
  Counter leases_granted, leases_lost;
  Counter sessions, sessions_opened, sessions_refused, operations_in_flight;
  std::array<Counter, 3> overload_refusals;  // by lane
  Counter protocol_errors;

  void finished(OpKind kind, StatusCode code, uint64_t us) {
    PerOp& op = ops[static_cast<size_t>(kind)];
    op.by_code[static_cast<size_t>(code)].add();
    op.latency.record_us(us);
  }
};
}  // namespace terrace
