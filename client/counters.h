// client/counters.h - the SDK's own totals. Written by the loop and by submitting threads, read by
// any: relaxed atomics.
#pragma once
#include <atomic>
#include <cstdint>

#include "client/terrace.h"

namespace terrace {

class SharedCounter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct ClientCounters {
  SharedCounter operations, completed_ok, misses, expired, cancelled, failed;
  SharedCounter bytes_fetched, bytes_stored, bytes_verified;
  SharedCounter crc_failures, puts_deduplicated, reconnects;

  ClientStatistics snapshot() const {
    return {operations.get(),    completed_ok.get(),      misses.get(),
            expired.get(),       cancelled.get(),         failed.get(),
            bytes_fetched.get(), bytes_stored.get(),      bytes_verified.get(),
            crc_failures.get(),  puts_deduplicated.get(), reconnects.get()};
  }
};
}  // namespace terrace
