// storage/s3_client.h - requests to one bucket: signed, tried again while there is time, counted.
// Blocking; any thread, several at once. It knows requests and keys, not what they mean.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/prng.h"
#include "base/status.h"
#include "storage/s3_config.h"
#include "storage/s3_http.h"
#include "storage/s3_metrics.h"
#include "storage/s3_sign.h"

namespace terrace {

struct S3Request {
  S3Kind kind = S3Kind::get;
  std::string method = "GET";
  std::string key;      // below the prefix; empty with `bucket`
  bool bucket = false;  // it is about the bucket: a listing
  S3Fields query;
  S3Fields headers;  // names in lower case
  std::span<const iovec> body;
  std::span<const iovec> into;  // as HttpRequest::into
  size_t text_max = size_t{64} << 10;
  bool works_silently = false;  // the server may say nothing until it is done: only `until` ends it
  /// An attempt that got no answer is not repeated: it may come about after whatever follows.
  bool once_silent = false;
  /// Whether a 2xx answer is what was asked for. One that is not counts as a broken exchange.
  std::function<Status(const HttpAnswer&)> check;
};

class S3Client {
 public:
  struct Options {
    S3Config config;
    Nanos patience = seconds(2);     // with a server that sends and takes nothing
    Nanos pause = milliseconds(50);  // before the second attempt at most; doubles
    int attempts_max = 4;
  };
  /// `clock` is thread-safe and outlives this. kInvalidArgument (the configuration, the
  /// credentials file), kNotFound (no such file).
  static StatusOr<std::unique_ptr<S3Client>> make(const Options& options, const Clock* clock);

  /// An answer 2xx that `check` accepts. Tries again, after a pause that grows and varies, what
  /// may pass: 429, 5xx, exchanges that break; not past `until`. kNotFound (404), kAborted (412: a
  /// condition does not hold), kOutOfRange (416), kPermissionDenied (403), kResourceExhausted
  /// (quota, 507), kFailedPrecondition (redirects, no such bucket, certificates: the configuration
  /// is wrong), kUnavailable (the server fails, or answers nonsense), kDeadlineExceeded (it does
  /// not answer: what was asked for may still come about). `attempts`: how many were made.
  StatusOr<HttpAnswer> call(const S3Request& request, Nanos until, int* attempts = nullptr);

  const S3Place& place() const { return place_; }
  /// "/BUCKET/KEY", as a copy names its source; encoded.
  std::string source_of(const std::string& key) const;
  const S3Metrics& metrics() const { return metrics_; }
  Nanos now() const { return clock_->now(); }

 private:
  static constexpr Nanos kCredentialsGoodFor = seconds(30);
  S3Client(Options options, S3Place place, const Clock* clock);
  Status read_credentials();
  S3Credentials credentials();
  HttpRequest sign(const S3Request& request);
  /// One attempt.
  StatusOr<HttpAnswer> once(const S3Request& request, Nanos until, bool* again);
  Status judge(const S3Request& request, const HttpAnswer& answer, bool* again);
  Nanos pause_before(int attempt);
  void rest(Nanos pause);

  const Options options_;
  const S3Place place_;
  const Clock* const clock_;
  S3Http http_;
  S3Metrics metrics_;
  std::atomic<int64_t> skew_s_{0};  // the server's clock less ours
  std::condition_variable never_;   // for pauses
  std::mutex mutex_;
  S3Credentials credentials_;  // guarded by mutex_, as what follows
  Nanos credentials_read_{0};
  Prng chance_;
};
}  // namespace terrace
