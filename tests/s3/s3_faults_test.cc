// Goal: whatever becomes of a bucket's answers, a load ends with the right bytes or an error, in
// time, and what was written is there once. Method: a proxy in front of a real server damages them:
// each fault by itself, then all of them from seeds. The canary reads without the checksums that
// the tier has, and must see a wrong byte.
#include <gtest/gtest.h>

#include <thread>

#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/s3_client.h"
#include "storage/shared_object.h"
#include "tests/s3/fault_proxy.h"
#include "tests/s3/s3_place.h"

namespace terrace {
namespace {

constexpr uint64_t kBytes = 300'000;

/// An object as a store publishes it.
struct Sample {
  SharedName name;
  ObjectHeader header;
  std::vector<std::byte> data;
  explicit Sample(uint64_t seed) {
    Prng chance(seed);
    name.ns.digest.fill(std::byte{1});
    chance.fill(name.key.digest);
    name.generation = SharedGeneration::of(1'800'000'000, kBytes);
    header.key = name.key;
    header.sections = {{SectionKind::raw, Codec::identity, 0, kBytes}};
    data.resize((kBytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes);
    chance.fill(std::span(data).first(kBytes));
    for (uint64_t at = 0; at < kBytes; at += kCrcUnitBytes) {
      const uint64_t length = std::min<uint64_t>(kCrcUnitBytes, kBytes - at);
      const auto unit = static_cast<uint32_t>(at / kCrcUnitBytes);
      header.unit_crcs.push_back(
          crc32c(std::span(data).subspan(at, length), unit_crc_seed(header.key, 0, unit)));
    }
  }
  Status publish(SharedMedium* medium) const {
    const iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    return publish_shared(medium, name, header, {&piece, 1});
  }
  /// OK only with the right bytes; kInternal: with wrong ones.
  Status load(SharedMedium* medium) const {
    TERRACE_ASSIGN_OR_RETURN(const SharedHeader found, read_shared_header(medium, name));
    std::vector<std::byte> into(data.size());
    const iovec piece{into.data(), into.size()};
    TERRACE_RETURN_IF_ERROR(load_shared(medium, name, found, {&piece, 1}));
    const bool same = std::equal(data.begin(), data.begin() + kBytes, into.begin());
    return same ? ok_status() : error(StatusCode::kInternal, "wrong bytes");
  }
};

class S3Faults : public testing::Test {
 protected:
  void SetUp() override {
    server_ = s3_server();
    if (!server_) GTEST_SKIP() << "no S3 server here (tools/setup --s3)";
    prefix_ = s3_fresh_prefix();
    direct_ = *open_s3_medium(s3_options(*server_, prefix_), &clock_);
    proxy_ =
        std::make_unique<FaultProxy>(server_->host, [](const std::string&) { return Fault::none; });
    S3Options options = s3_options(*server_, prefix_, proxy_->url());
    options.timeout = seconds(4);
    medium_ = *open_s3_medium(options, &clock_);
    ASSERT_EQ(medium_->check(), ok_status());
  }
  void always(Fault fault) {
    proxy_->choose([fault](const std::string&) { return fault; });
  }
  /// Only the first request with this in its first line.
  void once(Fault fault, const std::string& in) {
    auto done = std::make_shared<bool>(false);
    proxy_->choose([fault, in, done](const std::string& line) {
      if (*done || line.find(in) == std::string::npos) return Fault::none;
      *done = true;
      return fault;
    });
  }
  SystemClock clock_;
  std::optional<S3Server> server_;
  std::string prefix_;
  std::shared_ptr<SharedMedium> direct_;
  std::shared_ptr<SharedMedium> medium_;
  std::unique_ptr<FaultProxy> proxy_;
};

TEST_F(S3Faults, a_fault_that_passes_is_not_noticed) {
  const Sample sample(1);
  ASSERT_EQ(sample.publish(direct_.get()), ok_status());
  for (const Fault fault : {Fault::reset, Fault::lost, Fault::slow_down, Fault::error_page,
                            Fault::cut, Fault::garbage_head, Fault::too_long, Fault::wrong_range}) {
    once(fault, "GET");
    EXPECT_EQ(sample.load(medium_.get()), ok_status()) << static_cast<int>(fault);
    once(fault, "PUT");
    EXPECT_EQ(Sample(2).publish(medium_.get()), ok_status()) << static_cast<int>(fault);
    once(fault, "list-type");
    EXPECT_TRUE(medium_->list("objects", 10).ok()) << static_cast<int>(fault);
  }
  for (const Fault fault : {Fault::flip, Fault::garbage_body, Fault::wrong_etag}) {
    once(fault, "GET");
    EXPECT_EQ(sample.load(medium_.get()), ok_status()) << static_cast<int>(fault);
  }
}

TEST_F(S3Faults, a_fault_that_stays_is_an_error_in_time) {
  const Sample sample(3);
  ASSERT_EQ(sample.publish(direct_.get()), ok_status());
  for (int i = 1; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    always(fault);
    const Nanos begin = clock_.now();
    const Status loaded = sample.load(medium_.get());
    EXPECT_LT(clock_.now() - begin, seconds(5)) << i;
    EXPECT_NE(loaded.code(), StatusCode::kInternal) << i << loaded.to_string();
    // The bit may have been one of the padding.
    EXPECT_TRUE(!loaded.ok() || fault == Fault::flip) << i;
    EXPECT_TRUE(loaded.code() != StatusCode::kNotFound || fault == Fault::wrong_etag) << i;
  }
  always(Fault::none);
  EXPECT_EQ(sample.load(medium_.get()), ok_status());
}

TEST_F(S3Faults, a_server_that_is_silent_is_late) {
  always(Fault::hang);
  const Nanos begin = clock_.now();
  EXPECT_EQ(medium_->facts("objects/x").status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(medium_->probe().code(), StatusCode::kDeadlineExceeded);
  EXPECT_LT(clock_.now() - begin, seconds(8));
  // Not again: an erase could come after the second attempt, and the first one after that.
  once(Fault::hang, "PUT");
  EXPECT_EQ(Sample(4).publish(medium_.get()).code(), StatusCode::kDeadlineExceeded);
  S3Options options = s3_options(*server_, prefix_, "http://127.0.0.1:1");
  options.timeout = seconds(2);
  const auto nobody = *open_s3_medium(options, &clock_);
  EXPECT_EQ(nobody->probe().code(), StatusCode::kDeadlineExceeded);
}

TEST_F(S3Faults, who_created_it_knows_though_the_answer_was_lost) {
  once(Fault::lost, "leases/l.1");
  EXPECT_EQ(medium_->create("leases/l.1", "mine"), ok_status());
  EXPECT_EQ(direct_->create("leases/l.1", "other").code(), StatusCode::kAlreadyExists);
  ASSERT_EQ(direct_->create("leases/l.2", "other"), ok_status());
  once(Fault::lost, "leases/l.2");
  EXPECT_EQ(medium_->create("leases/l.2", "mine").code(), StatusCode::kAlreadyExists);
}

TEST_F(S3Faults, parts_that_fail_leave_nothing) {
  std::string bytes(size_t{11} << 20, 'x');
  const iovec piece{bytes.data(), bytes.size()};
  proxy_->choose([](const std::string& line) {
    return line.find("partNumber=2") == std::string::npos ? Fault::none : Fault::slow_down;
  });
  EXPECT_EQ(medium_->publish("objects/big", {&piece, 1}).code(), StatusCode::kUnavailable);
  EXPECT_EQ(direct_->open("objects/big").status().code(), StatusCode::kNotFound);
  S3Client::Options options;
  options.config = s3_options(*server_, prefix_).config;
  const auto client = *S3Client::make(options, &clock_);
  S3Request uploads;
  uploads.kind = S3Kind::list;
  uploads.bucket = true;
  uploads.query = {{"uploads", ""}};
  const auto listed = client->call(uploads, clock_.now() + seconds(10));
  ASSERT_TRUE(listed.ok()) << listed.status().to_string();
  EXPECT_EQ(listed->text.find("<UploadId>"), std::string::npos) << listed->text;
  // The answer to the last request gets lost: it is there all the same.
  once(Fault::lost, "POST /" + server_->bucket + "/" + prefix_ + "/objects/big?uploadId");
  EXPECT_EQ(medium_->publish("objects/big", {&piece, 1}), ok_status());
  EXPECT_EQ(direct_->facts("objects/big")->bytes, bytes.size());
}

TEST_F(S3Faults, a_bucket_that_is_not_there_and_keys_that_are_wrong) {
  S3Options options = s3_options(*server_, "x");
  options.config.url = server_->host + "/no-such-bucket/x";
  EXPECT_EQ((*open_s3_medium(options, &clock_))->check().code(), StatusCode::kFailedPrecondition);
  options = s3_options(*server_, "x");
  options.config.environment.secret_key = "wrong";
  const Status refused = (*open_s3_medium(options, &clock_))->check();
  EXPECT_EQ(refused.code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(refused.to_string().find("wrong"), std::string::npos);
  options.config.environment.secret_key = "";
  EXPECT_EQ(open_s3_medium(options, &clock_).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(S3Faults, over_tls_only_who_it_says_it_is) {
  const std::string port = ":" + server_->tls_port;
  S3Options options = s3_options(*server_, prefix_, "https://127.0.0.1" + port);
  const Status stranger = (*open_s3_medium(options, &clock_))->probe();
  EXPECT_EQ(stranger.code(), StatusCode::kFailedPrecondition) << stranger.to_string();
  options.config.ca_file = server_->certificate;
  const auto known = *open_s3_medium(options, &clock_);
  EXPECT_EQ(known->check(), ok_status());
  EXPECT_EQ(Sample(8).publish(known.get()), ok_status());
  EXPECT_EQ(Sample(8).load(direct_.get()), ok_status());
  options.config.url = s3_options(*server_, prefix_, "https://localhost" + port).config.url;
  const Status elsewhere = (*open_s3_medium(options, &clock_))->probe();
  EXPECT_EQ(elsewhere.code(), StatusCode::kFailedPrecondition) << elsewhere.to_string();
}

TEST_F(S3Faults, from_seeds) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    auto chance = std::make_shared<Prng>(seed);
    proxy_->choose([chance](const std::string&) {  // called one at a time
      const auto any = static_cast<Fault>(chance->below(kFaults));
      return any == Fault::hang || chance->chance(60) ? Fault::none : any;
    });
    int loaded = 0;
    for (uint64_t i = 0; i < 12; ++i) {
      const Sample sample(1000 * seed + i);
      const Status published = sample.publish(medium_.get());
      const Status first = sample.load(medium_.get());
      EXPECT_NE(first.code(), StatusCode::kInternal) << "seed " << seed;
      if (first.ok()) ++loaded;
      (void)medium_->touch(shared_path(sample.name));
      (void)medium_->list_facts(shared_folder_path(sample.name.ns, 1), 100);
      // What was acknowledged is there, whole.
      const Status there = sample.load(direct_.get());
      EXPECT_TRUE(!published.ok() || there.ok()) << "seed " << seed << " " << there.to_string();
    }
    EXPECT_GT(loaded, 2) << "seed " << seed;
  }
}

TEST_F(S3Faults, the_canary_sees_a_wrong_byte) {
  const Sample sample(5);
  ASSERT_EQ(sample.publish(direct_.get()), ok_status());
  always(Fault::flip);
  const auto object = medium_->open(shared_path(sample.name));
  ASSERT_TRUE(object.ok());
  std::vector<std::byte> into(200'000);
  const uint64_t at = 100'000;
  ASSERT_TRUE((*object)->read(at, into).ok());
  const auto clean = *direct_->open(shared_path(sample.name));
  std::vector<std::byte> right(into.size());
  ASSERT_TRUE(clean->read(at, right).ok());
  EXPECT_FALSE(into == right);
}
}  // namespace
}  // namespace terrace
