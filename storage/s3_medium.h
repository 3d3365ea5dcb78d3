// storage/s3_medium.h - the shared tier's medium on a bucket of any server that speaks S3 and
// honours If-None-Match on PUT. Names are keys. What each call is made of, and why that is safe:
// docs/architecture.md, "The shared tier on a bucket".
//
// Every call gives up by itself in three quarters of `timeout` (and what its bytes may take), with
// kDeadlineExceeded when the server did not answer. Ages are by the server's clock, to a second.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "storage/s3_config.h"
#include "storage/s3_metrics.h"
#include "storage/shared_medium.h"

namespace terrace {

class S3Client;
struct S3Head;

struct S3Options {
  S3Config config;
  Nanos timeout = seconds(5);
  uint64_t single_put_max = uint64_t{64} << 20;  // larger ones go in parts, one after the other
  uint64_t part_bytes = uint64_t{16} << 20;      // servers want 5 MiB at least
};

/// Asks the server nothing yet. `clock` is thread-safe and outlives it. kInvalidArgument,
/// kNotFound: the configuration, the file with credentials. kFailedPrecondition: not built in.
StatusOr<std::shared_ptr<SharedMedium>> open_s3_medium(const S3Options& options,
                                                       const Clock* clock);

class S3Medium final : public SharedMedium {
 public:
  /// As open_s3_medium().
  static StatusOr<std::shared_ptr<S3Medium>> make(const S3Options& options, const Clock* clock);
  ~S3Medium() override;
  /// Whether the bucket is there, may be used, and creates a name once, also when several ask at
  /// once. kFailedPrecondition, kPermissionDenied: it cannot be a shared tier.
  Status check() override;
  Status probe() override;
  Status publish(const std::string& name, std::span<const iovec> pieces) override;
  /// kFailedPrecondition: see check(), which it calls until that was conclusive.
  Status create(const std::string& name, std::string_view bytes) override;
  StatusOr<std::unique_ptr<SharedBytes>> open(const std::string& name) override;
  StatusOr<Facts> facts(const std::string& name) override;
  Status touch(const std::string& name) override;
  Status move(const std::string& from, const std::string& to) override;
  Status remove(const std::string& name) override;
  StatusOr<std::vector<std::string>> list(const std::string& folder, size_t max) override;
  StatusOr<std::vector<Listed>> list_facts(const std::string& folder, size_t max) override;
  bool copies() const override { return true; }
  const S3Metrics* requests() const override;

 private:
  S3Medium(const S3Options& options, std::unique_ptr<S3Client> client);
  Nanos until(uint64_t bytes) const;
  std::string fresh_id();
  Status create_once(const std::string& name, std::string_view bytes, Nanos until);
  Status put(const std::string& name, std::span<const iovec> pieces, Nanos until);
  StatusOr<S3Head> head(const std::string& name, Nanos until);
  /// `to` becomes what `from` is, if that is still what `head` says. `anew`: with its identity sent
  /// again, which S3 asks of who copies something onto itself.
  Status copy(const std::string& from, const S3Head& head, const std::string& to, bool anew,
              Nanos until);
  Status erase(const std::string& name, Nanos until);
  Status check_race(int round);
  // s3_multipart.cc
  Status put_in_parts(const std::string& name, std::span<const iovec> pieces, uint64_t bytes,
                      Nanos until);
  StatusOr<std::string> put_part(const std::string& name, const std::string& upload,
                                 uint32_t number, std::span<const iovec> part, Nanos until);
  Status complete(const std::string& name, const std::string& upload,
                  const std::vector<std::string>& etags, Nanos until);

  const S3Options options_;
  const std::shared_ptr<S3Client> client_;  // with objects that are open
  const std::string self_;                  // random, of this instance
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> creates_once_{false};  // as check() found
};
}  // namespace terrace
