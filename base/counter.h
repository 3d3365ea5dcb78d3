// base/counter.h - a number that one thread writes and a scraper reads racily.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace terrace {

/// Written by one thread, read by any: relaxed loads and stores, no locked instruction.
class Counter {
 public:
  void add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void sub(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - n, std::memory_order_relaxed);
  }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// Counts of durations in buckets of powers of two of microseconds: bucket i holds [2^(i-1), 2^i).
struct LatencyHistogram {
  static constexpr size_t kBuckets = 28;  // up to 2^27 us = 134 s; the last one takes the rest
  std::array<Counter, kBuckets> buckets;
  Counter sum_us;
  void record_us(uint64_t us) {
    const auto bucket = static_cast<size_t>(std::bit_width(us));
    buckets[bucket < kBuckets ? bucket : kBuckets - 1].add();
    sum_us.add(us);
  }
};
}  // namespace terrace
