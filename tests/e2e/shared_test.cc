// Goal: nodes that share a directory serve what any of them published, also after that node is
// gone; a damaged file is a counted miss; no byte is ever wrong. Method: three real nodes on one
// directory, one of them killed; files flipped and cut beneath them; every fetched byte compared.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "tests/e2e/shared_scenario.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kBytes = 1'500'000;

class SharedTest : public testing::Test {
 protected:
  std::unique_ptr<NodeProcess> start(std::vector<std::string> more = {}) {
    std::vector<std::string> flags = {"--shared-directory",
                                      shared_.path(),
                                      "--shared-bytes-max",
                                      "4GiB",
                                      "--dram-bytes",
                                      "64MiB",
                                      "--slab-bytes",
                                      "64MiB",
                                      "--shm",
                                      "false",
                                      "--shared-list-period-ms",
                                      "50"};
    flags.insert(flags.end(), more.begin(), more.end());
    return std::make_unique<NodeProcess>(flags);
  }
  /// Until the node has heard of it. Its tiers then; 0 when it never does.
  static TierMask wait_for(TestClient* client, const std::string& name) {
    SystemClock clock;
    const Nanos until = clock.now() + seconds(10);
    const std::vector<ChunkKey> keys = {client->key(name)};
    while (clock.now() < until) {
      const auto op = client->sdk().lookup(client->ns(), keys, {});
      if (!op.ok()) return 0;
      const auto done = client->sdk().wait(*op, seconds(5));
      if (done.ok() && done->status.ok() && !done->keys.empty() &&
          done->keys[0].code == StatusCode::kOk) {
        EXPECT_EQ(done->keys[0].bytes, kBytes);
        return done->keys[0].tiers;
      }
    }
    return 0;
  }
  /// How many of the objects n0, n1, ... the node has, wherever.
  static uint64_t known(TestClient* client, int count) {
    std::vector<ChunkKey> keys;
    for (int i = 0; i < count; ++i) keys.push_back(client->key("n" + std::to_string(i)));
    const auto op = client->sdk().lookup(client->ns(), keys, {});
    if (!op.ok()) return 0;
    const auto done = client->sdk().wait(*op, seconds(5));
    if (!done.ok()) return 0;
    return static_cast<uint64_t>(
        std::count_if(done->keys.begin(), done->keys.end(),
                      [](const auto& k) { return k.code == StatusCode::kOk; }));
  }
  std::string file() const {
    for (const auto& each :
         std::filesystem::recursive_directory_iterator(shared_.path() + "/objects")) {
      if (each.is_regular_file()) return each.path();
    }
    return "";
  }
  ScratchDirectory shared_;
};

TEST_F(SharedTest, AnyNodeServesWhatAnotherPublished) {
  const auto one = start();
  const auto two = start();
  const auto three = start();
  TestClient writer(one->endpoint());
  TestClient reader(two->endpoint());
  TestClient late(three->endpoint());
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(writer.put("o" + std::to_string(i), kBytes, Durability::shared, 3), StatusCode::kOk);
  }
  one->kill();
  for (int i = 0; i < 8; ++i) {
    const std::string name = "o" + std::to_string(i);
    ASSERT_EQ(wait_for(&reader, name), mask_of(Tier::shared));
    Completion done;
    ASSERT_EQ(reader.fetch(name, kBytes, &done), StatusCode::kOk);
    EXPECT_EQ(done.tier_bytes[static_cast<size_t>(Tier::shared)], kBytes);
    ASSERT_EQ(reader.fetch(name, kBytes, &done), StatusCode::kOk);
    EXPECT_EQ(done.tier_bytes[static_cast<size_t>(Tier::dram)], kBytes);
    EXPECT_EQ(wait_for(&reader, name), mask_of(Tier::shared) | mask_of(Tier::dram));
  }
  EXPECT_EQ(two->counter("shared_hits"), 8u);
  // A node that comes later, and one that comes back with nothing.
  const auto again = start();
  TestClient fresh(again->endpoint());
  for (int i = 0; i < 8; ++i) {
    const std::string name = "o" + std::to_string(i);
    ASSERT_NE(wait_for(&fresh, name), 0);
    EXPECT_EQ(fresh.fetch(name, kBytes), StatusCode::kOk);
    ASSERT_NE(wait_for(&late, name), 0);
    EXPECT_EQ(late.fetch(name, kBytes), StatusCode::kOk);
  }
}

TEST_F(SharedTest, ADamagedFileIsACountedMiss) {
  const auto one = start();
  const auto two = start();
  TestClient writer(one->endpoint());
  TestClient reader(two->endpoint());
  for (int i = 0; i < 4; ++i) {
    const std::string name = "d" + std::to_string(i);
    ASSERT_EQ(writer.put(name, kBytes, Durability::shared), StatusCode::kOk);
    ASSERT_NE(wait_for(&reader, name), 0);
    if (i % 2 == 0) {
      std::fstream open(file(), std::ios::in | std::ios::out | std::ios::binary);
      open.seekg(900'000);
      const int byte = open.get();
      open.seekp(900'000);
      open.put(static_cast<char>(byte ^ 0x10));
    } else {
      std::filesystem::resize_file(file(), 900'000);
    }
    EXPECT_EQ(reader.fetch(name, kBytes), StatusCode::kDataLoss);
    EXPECT_EQ(reader.fetch(name, kBytes), StatusCode::kNotFound);
  }
  EXPECT_EQ(two->counter("shared_misses_damaged"), 4u);
  EXPECT_EQ(two->counter("shared_hits"), 0u);
  EXPECT_EQ(writer.fetch("d0", kBytes), StatusCode::kOk);  // its own copy is whole
}

TEST_F(SharedTest, WhatWasAcknowledgedOutlivesKillsUnderLoad) {
  std::vector<std::string> acknowledged;
  for (int round = 0; round < 6; ++round) {
    const auto node = start();
    TestClient client(node->endpoint());
    const int kill_at = 3 + round;
    for (int i = 0; i < 12; ++i) {
      if (i == kill_at) node->signal(SIGKILL);
      const std::string name = std::to_string(round) + "/" + std::to_string(i);
      if (client.put(name, kBytes, Durability::shared) == StatusCode::kOk) {
        acknowledged.push_back(name);
      }
    }
  }
  const auto node = start();
  TestClient client(node->endpoint());
  EXPECT_GE(acknowledged.size(), 18u);
  for (const std::string& name : acknowledged) {
    ASSERT_NE(wait_for(&client, name), 0) << name << " was acknowledged, is lost";
    EXPECT_EQ(client.fetch(name, kBytes), StatusCode::kOk) << name;
  }
}

TEST_F(SharedTest, WhatNvmeDropsIsInTheSharedTier) {
  ScratchDirectory scratch;
  const auto one = start({"--data-directory", scratch.path(), "--nvme-bytes", "80MiB",
                          "--dram-bytes", "16MiB", "--slab-bytes", "16MiB"});
  TestClient writer(one->endpoint());
  constexpr int kObjects = 90;
  for (int i = 0; i < kObjects; ++i) {
    ASSERT_EQ(writer.put("n" + std::to_string(i), kBytes, Durability::nvme, 3), StatusCode::kOk);
  }
  EXPECT_GT(one->counter("evictions_nvme"), 30u);
  EXPECT_GT(one->counter("shared_demotions"), 20u);
  // Looked up, because a read may make another one leave, and when nothing is on its way any more.
  uint64_t lost = 0, found = 0, before = 1;
  while (found != before) {
    before = found;
    std::this_thread::sleep_for(milliseconds(200));
    lost = one->counter("shared_evictions_unshared");
    found = known(&writer, kObjects);
  }
  EXPECT_EQ(found + lost, static_cast<uint64_t>(kObjects));
  for (int i = 0; i < kObjects; ++i) {
    const StatusCode code = writer.fetch("n" + std::to_string(i), kBytes);
    EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kNotFound)
        << i << " " << name_of(code);
  }
  EXPECT_GT(one->counter("shared_hits"), 0u);
  const auto two = start();
  TestClient reader(two->endpoint());
  const uint64_t listed = two->counter("shared_listings");  // of the namespace, once it is known
  SystemClock clock;
  const Nanos until = clock.now() + seconds(10);
  while (two->counter("shared_listings") < listed + 2 && clock.now() < until) {
  }
  for (int i = 0; i < kObjects; ++i) {
    const StatusCode code = reader.fetch("n" + std::to_string(i), kBytes);
    EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kNotFound) << name_of(code);
  }
  EXPECT_GT(two->counter("shared_hits"), 20u);
}

TEST_F(SharedTest, OneClientComputesWhatAllMiss) {
  const std::vector<std::string> lease = {"--shared-generate-lease-ms", "2000"};
  std::vector<std::unique_ptr<NodeProcess>> nodes;
  for (int i = 0; i < 3; ++i) nodes.push_back(start(lease));
  expect_computed_once(nodes, 12, kBytes, seconds(20));
}

TEST_F(SharedTest, ARightEndsWithItsClientAndWithItsNode) {
  const std::vector<std::string> lease = {"--shared-generate-lease-ms", "2000"};
  const auto one = start(lease);
  const auto two = start(lease);
  auto holder = std::make_unique<TestClient>(one->endpoint());
  TestClient other(two->endpoint());
  const auto first = generate(holder.get(), "x", seconds(5));
  ASSERT_TRUE(first.ok() && *first);
  EXPECT_EQ(generate(&other, "x", milliseconds(1200)).status().code(),
            StatusCode::kDeadlineExceeded);
  holder.reset();  // its session goes
  const auto second = generate(&other, "x", seconds(5));
  ASSERT_TRUE(second.ok() && *second) << second.status().to_string();
  EXPECT_GT(second->token, first->token);
  two->signal(SIGKILL);
  TestClient third(one->endpoint());
  const auto taken = generate(&third, "x", seconds(15));
  ASSERT_TRUE(taken.ok() && *taken) << taken.status().to_string();
  EXPECT_GT(taken->token, second->token);
}

TEST_F(SharedTest, WithoutADirectoryTheDurabilityIsRefused) {
  NodeProcess node({});
  TestClient client(node.endpoint());
  EXPECT_EQ(client.put("x", kBytes, Durability::shared), StatusCode::kUnavailable);
  EXPECT_EQ(generate(&client, "x", seconds(2)).status().code(), StatusCode::kUnavailable);
}
}  // namespace
}  // namespace terrace::e2e
