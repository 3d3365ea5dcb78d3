// tools/cli/latencies.h - durations counted in buckets fine enough for a p99.9: within 1 % of the
// true value from a nanosecond to hours, in bounded memory. Values only; not thread-safe.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace terrace {

class Latencies {
 public:
  Latencies() : counts_(kBuckets, 0) {}

  /// A negative duration counts as zero.
  void record(Nanos duration) {
    const uint64_t ns = duration.count() < 0 ? 0 : static_cast<uint64_t>(duration.count());
    ++counts_[bucket_of(ns)];
    ++count_;
    sum_ns_ += ns;
    max_ns_ = std::max(max_ns_, ns);
  }
  void merge(const Latencies& other) {
    for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    sum_ns_ += other.sum_ns_;
    max_ns_ = std::max(max_ns_, other.max_ns_);
  }

  uint64_t count() const { return count_; }
  Nanos max() const { return Nanos(static_cast<int64_t>(max_ns_)); }
  Nanos mean() const { return Nanos(count_ == 0 ? 0 : static_cast<int64_t>(sum_ns_ / count_)); }
  /// The least duration that `per_mille` of 1000 do not exceed (990: p99); 0 when nothing was
  /// recorded. Never below the true value, nor above the greatest that was recorded.
  Nanos percentile(double per_mille) const {
    if (count_ == 0) return Nanos(0);
    const double wanted = std::clamp(per_mille / 1000.0, 0.0, 1.0) * static_cast<double>(count_);
    uint64_t below = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      below += counts_[i];
      if (below > 0 && static_cast<double>(below) >= wanted) {
        return Nanos(static_cast<int64_t>(std::min(last_of(i), max_ns_)));
      }
    }
    return max();
  }

 private:
  // A value of n significant bits falls into one of 2^kFineBits equal buckets of its power of two.
  static constexpr unsigned kFineBits = 7;
  static constexpr size_t kFine = size_t{1} << kFineBits;
  static constexpr size_t kBuckets = (64 - kFineBits + 1) * kFine;

  static size_t bucket_of(uint64_t ns) {
    if (ns < kFine) return static_cast<size_t>(ns);
    const auto shift = static_cast<unsigned>(std::bit_width(ns)) - kFineBits - 1;
    return (size_t{shift} + 1) * kFine + static_cast<size_t>((ns >> shift) - kFine);
  }
  static uint64_t last_of(size_t bucket) {
    if (bucket < kFine) return bucket;
    const size_t shift = bucket / kFine - 1;
    return ((uint64_t{kFine} + bucket % kFine + 1) << shift) - 1;
  }

  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t sum_ns_ = 0;
  uint64_t max_ns_ = 0;
};
}  // namespace terrace
