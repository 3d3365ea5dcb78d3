// The contract of the shared tier's medium, for a bucket of a real S3 server; large objects in
// parts.
#include "storage/s3_client.h"
#include "tests/contract/shared_medium_contract.h"
#include "tests/s3/s3_place.h"

namespace terrace {
namespace {

class BucketPlace final : public Place {
 public:
  explicit BucketPlace(const S3Server& server) : server_(server), prefix_(s3_fresh_prefix()) {}
  std::shared_ptr<SharedMedium> medium() override {
    auto made = open_s3_medium(s3_options(server_, prefix_), &clock_);
    TERRACE_CHECK(made.ok());
    return *made;
  }
  Nanos ages_to() const override { return seconds(1); }
  size_t large() const override { return size_t{11} << 20; }  // three parts

 private:
  const S3Server server_;
  const std::string prefix_;
  SystemClock clock_;
};

std::unique_ptr<Place> bucket() {
  const std::optional<S3Server> server = s3_server();
  return server ? std::make_unique<BucketPlace>(*server) : nullptr;
}

INSTANTIATE_TEST_SUITE_P(Bucket, SharedMediumContract, testing::Values(bucket));
}  // namespace
}  // namespace terrace
