// Goal: nodes that share a bucket serve what any of them published, sweep it, compute a missing
// chunk once, and go on from DRAM when the bucket is silent. Method: real nodes, a real S3 server,
// a proxy that falls silent; every fetched byte compared.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <thread>

#include "base/clock.h"
#include "tests/e2e/shared_scenario.h"
#include "tests/s3/fault_proxy.h"
#include "tests/s3/s3_place.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kBytes = 1'500'000;

class S3Nodes : public testing::Test {
 protected:
  void SetUp() override {
    server_ = s3_server();
    if (!server_) GTEST_SKIP() << "no S3 server here (tools/setup --s3)";
    prefix_ = s3_fresh_prefix();
    ::setenv("AWS_ACCESS_KEY_ID", server_->credentials.access_key.c_str(), 1);
    ::setenv("AWS_SECRET_ACCESS_KEY", server_->credentials.secret_key.c_str(), 1);
    ::unsetenv("AWS_SESSION_TOKEN");
  }
  std::unique_ptr<NodeProcess> start(std::vector<std::string> more = {}, std::string host = "") {
    if (host.empty()) host = server_->host;
    std::vector<std::string> flags = {"--shared-s3",
                                      host + "/" + server_->bucket + "/" + prefix_,
                                      "--shared-bytes-max",
                                      "4GiB",
                                      "--dram-bytes",
                                      "64MiB",
                                      "--slab-bytes",
                                      "64MiB",
                                      "--shm",
                                      "false",
                                      "--shared-list-period-ms",
                                      "200",
                                      "--shared-generate-lease-ms",
                                      "3000"};
    flags.insert(flags.end(), more.begin(), more.end());
    return std::make_unique<NodeProcess>(flags);
  }
  /// Until the node has heard of it.
  static bool wait_for(TestClient* client, const std::string& name) {
    return eventually([&] {
      const std::vector<ChunkKey> keys = {client->key(name)};
      const auto op = client->sdk().lookup(client->ns(), keys, {});
      if (!op.ok()) return false;
      const auto done = client->sdk().wait(*op, seconds(5));
      return done.ok() && done->status.ok() && !done->keys.empty() &&
             done->keys[0].code == StatusCode::kOk;
    });
  }
  static bool eventually(const std::function<bool()>& holds) {
    SystemClock clock;
    const Nanos until = clock.now() + seconds(30);
    while (!holds()) {
      if (clock.now() > until) return false;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return true;
  }
  std::optional<S3Server> server_;
  std::string prefix_;
};

TEST_F(S3Nodes, AnyNodeServesWhatAnotherPublished) {
  const auto one = start();
  const auto two = start();
  TestClient writer(one->endpoint());
  TestClient reader(two->endpoint());
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(writer.put("o" + std::to_string(i), kBytes, Durability::shared, 3), StatusCode::kOk);
  }
  one->kill();
  for (int i = 0; i < 6; ++i) {
    const std::string name = "o" + std::to_string(i);
    ASSERT_TRUE(wait_for(&reader, name));
    Completion done;
    ASSERT_EQ(reader.fetch(name, kBytes, &done), StatusCode::kOk);
    EXPECT_EQ(done.tier_bytes[static_cast<size_t>(Tier::shared)], kBytes);
    ASSERT_EQ(reader.fetch(name, kBytes, &done), StatusCode::kOk);
    EXPECT_EQ(done.tier_bytes[static_cast<size_t>(Tier::dram)], kBytes);
  }
  EXPECT_EQ(two->counter("shared_hits"), 6u);
  ASSERT_EQ(reader.put("large", 8'000'000, Durability::shared), StatusCode::kOk);
  const auto again = start();
  TestClient fresh(again->endpoint());
  ASSERT_TRUE(wait_for(&fresh, "large"));
  EXPECT_EQ(fresh.fetch("large", 8'000'000), StatusCode::kOk);
}

TEST_F(S3Nodes, TheSweeperBringsItBelowItsSize) {
  const auto node = start(
      {"--shared-bytes-max", "8MiB", "--shared-sweep-period-ms", "1000", "--shared-grace-s", "1"});
  TestClient client(node->endpoint());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(client.put("s" + std::to_string(i), kBytes, Durability::shared), StatusCode::kOk);
  }
  ASSERT_TRUE(eventually([&] { return node->counter("shared_swept_objects") >= 5; }));
  ASSERT_TRUE(eventually([&] { return node->counter("shared_trash_emptied") >= 5; }));
  // What is left is whole.
  const auto other = start();
  TestClient reader(other->endpoint());
  int found = 0;
  for (int i = 0; i < 10; ++i) {
    const StatusCode code = reader.fetch("s" + std::to_string(i), kBytes);
    EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kNotFound) << name_of(code);
    found += code == StatusCode::kOk ? 1 : 0;
  }
  EXPECT_LE(found, 5);
}

TEST_F(S3Nodes, OneClientComputesWhatAllMiss) {
  std::vector<std::unique_ptr<NodeProcess>> nodes;
  for (int i = 0; i < 3; ++i) nodes.push_back(start());
  expect_computed_once(nodes, 5, kBytes, seconds(30));
}

TEST_F(S3Nodes, ARightOfANodeThatDiesIsAnothers) {
  const auto one = start();
  const auto two = start();
  TestClient holder(one->endpoint());
  TestClient other(two->endpoint());
  const auto first = generate(&holder, "x", seconds(10));
  ASSERT_TRUE(first.ok() && *first);
  EXPECT_EQ(generate(&other, "x", milliseconds(1500)).status().code(),
            StatusCode::kDeadlineExceeded);
  one->signal(SIGKILL);
  const auto taken = generate(&other, "x", seconds(25));
  ASSERT_TRUE(taken.ok() && *taken) << taken.status().to_string();
  EXPECT_GT(taken->token, first->token);
}

TEST_F(S3Nodes, ASilentBucketIsInNobodysWay) {
  FaultProxy proxy(server_->host, [](const std::string&) { return Fault::none; });
  const auto far = start();
  const auto near = start({"--shared-timeout-ms", "1000"}, proxy.url());
  TestClient writer(far->endpoint());
  TestClient client(near->endpoint());
  ASSERT_EQ(writer.put("there", kBytes, Durability::shared), StatusCode::kOk);
  ASSERT_TRUE(wait_for(&client, "there"));
  ASSERT_EQ(client.put("mine", kBytes, Durability::memory), StatusCode::kOk);
  proxy.choose([](const std::string&) { return Fault::hang; });
  ASSERT_TRUE(eventually([&] { return near->counter("shared_fenced") == 1; }));
  SystemClock clock;
  for (int i = 0; i < 20; ++i) {
    const Nanos begin = clock.now();
    EXPECT_EQ(client.fetch("mine", kBytes), StatusCode::kOk);
    EXPECT_NE(client.fetch("there", kBytes), StatusCode::kOk);  // a miss, and at once
    EXPECT_EQ(client.put("m" + std::to_string(i), 100'000, Durability::memory), StatusCode::kOk);
    EXPECT_LT(clock.now() - begin, milliseconds(900));
  }
  EXPECT_EQ(client.put("no", kBytes, Durability::shared), StatusCode::kUnavailable);
  proxy.choose([](const std::string&) { return Fault::none; });
  ASSERT_TRUE(eventually([&] { return near->counter("shared_fenced") == 0; }));
  ASSERT_TRUE(eventually([&] { return client.fetch("there", kBytes) == StatusCode::kOk; }));
}

TEST_F(S3Nodes, DamagedAnswersAreCountedMisses) {
  auto chance = std::make_shared<Prng>(7);
  FaultProxy proxy(server_->host, [](const std::string&) { return Fault::none; });
  const auto far = start();
  const auto near = start({"--shared-timeout-ms", "3000"}, proxy.url());
  TestClient writer(far->endpoint());
  TestClient client(near->endpoint());
  for (int i = 0; i < 16; ++i) {
    ASSERT_EQ(writer.put("d" + std::to_string(i), kBytes, Durability::shared), StatusCode::kOk);
  }
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(wait_for(&client, "d" + std::to_string(i)));
  proxy.choose([chance](const std::string& line) {
    if (!line.starts_with("GET") || line.find("objects") == std::string::npos ||
        line.find("list-type") != std::string::npos || chance->chance(30)) {
      return Fault::none;
    }
    const auto any = static_cast<Fault>(chance->below(kFaults));
    return any == Fault::hang ? Fault::flip : any;
  });
  int whole = 0;
  for (int i = 0; i < 16; ++i) {
    // fetch() says kDataLoss also when OK came with a wrong byte: that must be the node's count.
    const StatusCode code = client.fetch("d" + std::to_string(i), kBytes);
    whole += code == StatusCode::kOk ? 1 : 0;
  }
  const uint64_t hits = near->counter("shared_hits");
  EXPECT_EQ(hits, static_cast<uint64_t>(whole));
  uint64_t misses = 0;
  for (const char* why :
       {"absent", "damaged", "failed", "late", "fenced", "busy", "no_space", "unknown"}) {
    misses += near->counter(std::string("shared_misses_") + why);
  }
  EXPECT_GT(misses, 0u);
  EXPECT_EQ(client.put("dram", kBytes, Durability::memory), StatusCode::kOk);
  EXPECT_EQ(client.fetch("dram", kBytes), StatusCode::kOk);
}

TEST_F(S3Nodes, ABucketThatIsNotThereIsRefusedAtStart) {
  S3Config config;
  config.url = server_->host + "/no-such-bucket";
  std::string command =
      std::string(TERRACE_NODE_PROGRAM) + " --dev --control-port 0 --data-port 0 " +
      "--metrics-port 0 --shared-bytes-max 4GiB --shared-s3 " + config.url + " 2>&1";
  FILE* const out = ::popen(command.c_str(), "r");
  std::string text(1 << 20, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), out));
  EXPECT_NE(::pclose(out), 0);
  EXPECT_NE(text.find("NoSuchBucket"), std::string::npos) << text;
  EXPECT_EQ(text.find(server_->credentials.secret_key), std::string::npos);
}
}  // namespace
}  // namespace terrace::e2e
