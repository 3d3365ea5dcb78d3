// Goal: a pass over a bucket reads every byte of every object in it and names what is damaged; a
// damaged one can be set aside. Method: a real S3 server, objects in one and in several parts.
#include <gtest/gtest.h>

#include <set>

#include "storage/shared_verify.h"
#include "tests/s3/s3_place.h"
#include "tests/sim/shared_copies.h"

namespace terrace {
namespace {

class S3Verify : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = s3_server();
    if (!server_) GTEST_SKIP() << "no S3 server here (tools/setup --s3)";
    auto made = open_s3_medium(s3_options(*server_, s3_fresh_prefix()), &clock_);
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    medium_ = *made;
  }
  SharedName publish(uint64_t n, const std::vector<uint64_t>& sections) {
    return testing::publish_copy(medium_.get(), n, sections);
  }
  /// Writes it anew, without its last `cut` bytes and with one of the others flipped.
  void spoil(const SharedName& copy, uint64_t flip, uint64_t cut) {
    const auto open = medium_->open(shared_path(copy));
    ASSERT_TRUE(open.ok());
    std::vector<std::byte> bytes((*open)->size());
    ASSERT_TRUE((*open)->read(0, bytes).ok());
    bytes.resize(bytes.size() - cut);
    bytes.at(flip) ^= std::byte{1};
    const iovec piece{bytes.data(), bytes.size()};
    ASSERT_TRUE(medium_->publish(shared_path(copy), {&piece, 1}).ok());
  }
  struct Result {
    uint64_t objects = 0;
    uint64_t bytes = 0;
    std::set<std::string> damaged;
  };
  Result run() {
    Result out;
    SharedVerifyOptions options;
    options.step = seconds(20);
    SharedVerify verify(medium_, options, &clock_);
    for (int steps = 0; !verify.over() && steps < 1000; ++steps) {
      const Status done = verify.step(4 * kMiB);
      EXPECT_TRUE(done.ok()) << done.to_string();
      out.objects += verify.last().objects;
      out.bytes += verify.last().bytes;
      const auto& bad = verify.last().damaged;
      if (!bad) continue;
      out.damaged.insert(shared_path(*bad));
      EXPECT_TRUE(
          medium_->move(shared_path(*bad), shared_aside_path(kSharedQuarantine, *bad)).ok());
    }
    EXPECT_TRUE(verify.incomplete().ok()) << verify.incomplete().to_string();
    return out;
  }
  SystemClock clock_;
  std::optional<S3Server> server_;
  std::shared_ptr<SharedMedium> medium_;
};

TEST_F(S3Verify, EveryByteIsReadAndDamageIsSetAside) {
  for (uint64_t n = 0; n < 8; ++n) publish(n, {200'000, 1});
  publish(8, {9 * kMiB + 5, 3000});
  const Result whole = run();
  EXPECT_EQ(whole.objects, 9u);
  EXPECT_GT(whole.bytes, 8 * 200'000 + 9 * kMiB);
  EXPECT_TRUE(whole.damaged.empty());
  std::set<std::string> bad;
  const SharedName large = publish(9, {8 * kMiB});
  const SharedName small = publish(10, {100'000});
  const SharedName cut = publish(11, {100'000});
  spoil(large, 7 * kMiB, 0);
  spoil(small, 60, 0);
  spoil(cut, 50'000, 10'000);
  for (const SharedName& each : {large, small, cut}) bad.insert(shared_path(each));
  const Result found = run();
  EXPECT_EQ(found.objects, 12u);
  EXPECT_EQ(found.damaged, bad);
  const Result after = run();
  EXPECT_EQ(after.objects, 9u);
  EXPECT_TRUE(after.damaged.empty());
  const auto aside = medium_->list(kSharedQuarantine, 100);
  ASSERT_TRUE(aside.ok());
  EXPECT_EQ(aside->size(), 3u);
}
}  // namespace
}  // namespace terrace
