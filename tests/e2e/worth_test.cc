// Goal: what an object is worth outlives a node that is killed, and one that ends in good order.
// Method: a real node process, several times on one directory; what it says of an object
// (`terrace explain`) is compared.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "base/clock.h"
#include "proto/tiers.grpc.pb.h"
#include "storage/use_file.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {
constexpr uint64_t kBytes = 100'000;

class WorthTest : public testing::Test {
 protected:
  void start() {
    node_.emplace(std::vector<std::string>{"--data-directory", scratch_.path(), "--nvme-bytes",
                                           "128MiB", "--dram-bytes", "64MiB", "--uses-period-s",
                                           "1"});
    client_.emplace(node_->endpoint(), 1u << 20);
  }
  void put(const std::string& name, uint64_t recompute_us, float importance) {
    const std::vector<std::byte> wanted = TestClient::content(name, kBytes);
    std::copy(wanted.begin(), wanted.end(), client_->memory().begin());
    const SectionSpec section{SectionKind::raw, Codec::identity, 0, kBytes};
    const Fragment whole{0, client_->region(), 0, kBytes};
    PutItem item;
    item.key = client_->key(name);
    item.sections = {&section, 1};
    item.fragments = {&whole, 1};
    item.raw_key = name;
    item.recompute_us = recompute_us;
    item.importance = importance;
    PutOptions options;
    options.durability = Durability::nvme;
    const auto op = client_->sdk().put(client_->ns(), {&item, 1}, options);
    ASSERT_TRUE(op.ok());
    const auto done = client_->sdk().wait(*op, std::chrono::seconds(20));
    ASSERT_TRUE(done.ok() && done->status.ok());
  }
  /// Uses that follow each other closely are one.
  void use(const std::string& name) {
    (void)::poll(nullptr, 0, 200);
    ASSERT_EQ(client_->fetch(name, kBytes), StatusCode::kOk);
  }
  proto::ExplainReply explain(const std::string& name) {
    const ChunkKey key = client_->key(name);
    const auto stub = proto::TierAdmin::NewStub(
        grpc::CreateChannel(node_->endpoint(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    proto::ExplainRequest request;
    request.mutable_object()->set_name("test");
    request.mutable_object()->set_keys(key.digest.data(), key.digest.size());
    proto::ExplainReply reply;
    const grpc::Status status = stub->Explain(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  void expect_said(const std::string& name, uint64_t recompute_us, float importance) {
    const proto::ExplainReply said = explain(name);
    EXPECT_TRUE(said.here());
    EXPECT_EQ(said.recompute_us(), recompute_us);
    EXPECT_EQ(said.importance(), importance);
    EXPECT_NEAR(said.recompute_s(), static_cast<double>(recompute_us) * 1e-6 * importance, 1e-6);
  }
  /// The node has written that some object was used so often.
  bool written(uint32_t uses) {
    const SystemClock clock;
    const Nanos give_up = clock.now() + seconds(60);
    while (clock.now() < give_up) {
      if (const auto file = read_uses(scratch_.path()); file.ok()) {
        const auto& objects = file->memory.objects;
        if (std::any_of(objects.begin(), objects.end(),
                        [uses](const auto& each) { return each.history.uses >= uses; })) {
          return true;
        }
      }
      (void)::poll(nullptr, 0, 50);
    }
    return false;
  }

  ScratchDirectory scratch_;
  std::optional<NodeProcess> node_;
  std::optional<TestClient> client_;
};

TEST_F(WorthTest, a_kill_and_a_clean_end_forget_nothing_that_was_said_or_written) {
  start();
  put("dear", 40'000, 0.5f);
  put("plain", 0, 1);
  for (int i = 0; i < 3; ++i) use("dear");
  const uint32_t uses = explain("dear").uses();
  ASSERT_GE(uses, 4u);
  ASSERT_TRUE(written(uses));
  node_->kill();
  start();
  expect_said("dear", 40'000, 0.5f);
  EXPECT_EQ(explain("plain").recompute_us(), 0u);
  EXPECT_EQ(explain("plain").importance(), 1.0f);
  EXPECT_EQ(explain("dear").uses(), uses);
  EXPECT_EQ(explain("plain").uses(), 1u);

  use("dear");  // and ends before a period is over
  const proto::ExplainReply before = explain("dear");
  EXPECT_EQ(before.uses(), uses + 1);
  node_->signal(SIGTERM);
  EXPECT_EQ(node_->wait(), 0);
  start();
  expect_said("dear", 40'000, 0.5f);
  EXPECT_EQ(explain("dear").uses(), uses + 1);
  EXPECT_GE(explain("dear").since_use_ms() + 1, before.since_use_ms());
}

TEST_F(WorthTest, a_node_starts_whatever_lies_in_the_file) {
  start();
  put("dear", 40'000, 0.5f);
  node_->kill();
  for (const char* const bad : {"", "terrace uses ", "something else altogether"}) {
    std::ofstream(scratch_.path() + "/" + kUseFile, std::ios::trunc) << bad;
    start();
    expect_said("dear", 40'000, 0.5f);
    EXPECT_EQ(client_->fetch("dear", kBytes), StatusCode::kOk);
    node_->kill();
  }
}
}  // namespace
}  // namespace terrace::e2e
