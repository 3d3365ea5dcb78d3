// storage/s3_metrics.h - what a node asked of its bucket, and how that went. Written and read by
// any thread.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace terrace {

enum class S3Kind : uint8_t {
  get = 0,
  head = 1,
  put = 2,
  copy = 3,
  remove = 4,
  list = 5,
  multipart = 6
};
inline constexpr size_t kS3Kinds = 7;
const char* name_of(S3Kind kind);

/// How one attempt ended.
enum class S3Outcome : uint8_t {
  ok = 0,
  not_found = 1,
  condition = 2,  // If-Match or If-None-Match did not hold
  refused = 3,    // any other 3xx or 4xx
  throttled = 4,  // 429, 503
  failed = 5,     // any other 5xx
  silent = 6,     // no answer in time, nobody to connect to
  broken = 7,     // broke off, or is not what was asked for
};
inline constexpr size_t kS3Outcomes = 8;
const char* name_of(S3Outcome outcome);

struct S3Metrics {
  using Number = std::atomic<uint64_t>;
  std::array<std::array<Number, kS3Outcomes>, kS3Kinds> attempts{};
  Number retries{0};                        // of these: not the first one
  Number sent_bytes{0}, received_bytes{0};  // of objects, in attempts that went well
  void count(S3Kind kind, S3Outcome outcome) {
    attempts[static_cast<size_t>(kind)][static_cast<size_t>(outcome)].fetch_add(
        1, std::memory_order_relaxed);
  }
};
}  // namespace terrace
