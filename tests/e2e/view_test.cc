// Goal: a view is the object's bytes without a copy, or the reader learns that it is not; whoever
// holds views costs the node a bounded amount. Method: real nodes and clients over shared memory;
// the node's own counters; holders that are killed, over quota, or too slow.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <thread>

#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kBytes = 8u << 20;

Completion view(TestClient* client, const std::vector<std::string>& names) {
  std::vector<ChunkKey> keys;
  for (const std::string& name : names) keys.push_back(client->key(name));
  const auto op = client->sdk().view(client->ns(), keys, {});
  EXPECT_TRUE(op.ok()) << op.status().to_string();
  auto done = client->sdk().wait(*op, seconds(5));
  EXPECT_TRUE(done.ok());
  return *std::move(done);
}

/// A young node refuses puts until enough of its slabs are populated.
StatusCode put_surely(TestClient* client, const std::string& name) {
  StatusCode code = StatusCode::kResourceExhausted;
  for (int i = 0; i < 200 && code == StatusCode::kResourceExhausted; ++i) {
    if (i > 0) std::this_thread::sleep_for(milliseconds(25));
    code = client->put(name, kBytes, Durability::memory);
  }
  return code;
}

/// All of them are there together: a young node has room for few, and evicts.
bool store_together(TestClient* client, const std::vector<std::string>& names) {
  for (int i = 0; i < 200; ++i) {
    size_t there = 0;
    for (const std::string& name : names) {
      there += put_surely(client, name) == StatusCode::kAlreadyExists;
    }
    if (there == names.size()) return true;
    std::this_thread::sleep_for(milliseconds(25));
  }
  return false;
}

/// The bytes of a view, copied out.
std::vector<std::byte> bytes_of(const ObjectView& view) {
  std::vector<std::byte> out;
  for (const ViewedSection& section : view.sections) {
    for (const auto& piece : section.pieces) out.insert(out.end(), piece.begin(), piece.end());
  }
  return out;
}

/// The node's counter comes to `value` in time.
bool comes_to(const NodeProcess& node, const std::string& counter, uint64_t value) {
  for (int i = 0; i < 100; ++i) {
    if (node.counter(counter) == value) return true;
    std::this_thread::sleep_for(milliseconds(50));
  }
  return false;
}

TEST(ViewTest, IsTheObjectWhereItLies) {
  NodeProcess node({"--dram-bytes", "256MiB"});
  TestClient client(node.endpoint());
  ASSERT_EQ(client.put("a", kBytes, Durability::memory, 5), StatusCode::kOk);
  ASSERT_EQ(client.put("b", 70'001, Durability::memory), StatusCode::kOk);
  const uint64_t sent = node.counter("shm_bytes_sent");
  const uint64_t fetched = client.sdk().statistics().bytes_fetched;
  const Completion done = view(&client, {"a", "never stored", "b"});
  ASSERT_EQ(done.key_codes.size(), 3u);
  EXPECT_EQ(done.key_codes[0], StatusCode::kOk);
  EXPECT_EQ(done.key_codes[1], StatusCode::kNotFound);
  EXPECT_EQ(done.key_codes[2], StatusCode::kOk);
  EXPECT_EQ(done.views[1].id, ViewId{});
  EXPECT_EQ(done.views[0].sections.size(), 5u);
  EXPECT_EQ(bytes_of(done.views[0]), TestClient::content("a", kBytes));
  EXPECT_EQ(bytes_of(done.views[2]), TestClient::content("b", 70'001));
  for (const size_t i : {0u, 2u}) {
    EXPECT_TRUE(client.sdk().view_valid(done.views[i].id));
    EXPECT_TRUE(client.sdk().verify(done.views[i].id).ok());
  }
  EXPECT_EQ(node.counter("shm_bytes_sent"), sent) << "no byte was moved";
  EXPECT_EQ(client.sdk().statistics().bytes_fetched, fetched);
  EXPECT_EQ(node.counter("views"), 2u);
  EXPECT_EQ(node.counter("view_bytes"), kBytes + 70'001);
  client.sdk().release_view(done.views[0].id);
  EXPECT_FALSE(client.sdk().view_valid(done.views[0].id));
  EXPECT_EQ(client.sdk().verify(done.views[0].id).code(), StatusCode::kNotFound);
  EXPECT_TRUE(comes_to(node, "view_bytes", 70'001));
}

TEST(ViewTest, FetchesLendSlabsTooAndCopyNothingTwice) {
  NodeProcess node({"--dram-bytes", "256MiB"});
  TestClient client(node.endpoint());
  ASSERT_EQ(client.put("a", kBytes, Durability::memory, 5), StatusCode::kOk);
  ASSERT_EQ(client.fetch("a", kBytes), StatusCode::kOk);
  EXPECT_EQ(node.counter("shm_bytes_bounced"), 0u);
  EXPECT_GT(node.counter("shm_slabs_lent"), 0u);
}

TEST(ViewTest, EvictionPassesItByAndAnEraseLeavesItReadable) {
  NodeProcess node({"--dram-bytes", "128MiB"});
  TestClient client(node.endpoint());
  ASSERT_EQ(client.put("kept", kBytes, Durability::memory), StatusCode::kOk);
  const Completion done = view(&client, {"kept"});
  ASSERT_EQ(done.key_codes[0], StatusCode::kOk);
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(put_surely(&client, "flood" + std::to_string(i)), StatusCode::kOk);
  }
  EXPECT_EQ(bytes_of(done.views[0]), TestClient::content("kept", kBytes));
  const std::vector<ChunkKey> keys = {client.key("kept")};
  const auto erase = client.sdk().erase(client.ns(), keys, {});
  ASSERT_TRUE(client.sdk().wait(*erase, seconds(5)).ok());
  EXPECT_EQ(view(&client, {"kept"}).key_codes[0], StatusCode::kNotFound);
  EXPECT_EQ(bytes_of(done.views[0]), TestClient::content("kept", kBytes));
  EXPECT_TRUE(client.sdk().view_valid(done.views[0].id));
  client.sdk().release_view(done.views[0].id);
  EXPECT_TRUE(comes_to(node, "view_bytes", 0));
}

TEST(ViewTest, OverTheQuotaNewOnesAreRefusedThenTheOldestIsRevoked) {
  NodeProcess node({"--dram-bytes", "256MiB", "--view-bytes-max", "33554432", "--view-hold-max-ms",
                    "500", "--view-grace-ms", "200"});
  TestClient holder(node.endpoint());
  TestClient other(node.endpoint());
  ASSERT_TRUE(store_together(&holder, {"a", "b", "c", "d", "e"}));
  const Completion held = view(&holder, {"a", "b", "c"});
  EXPECT_EQ(held.key_codes[1], StatusCode::kOk);
  EXPECT_EQ(held.key_codes[2], StatusCode::kResourceExhausted) << "half of it is one client's";
  EXPECT_NE(held.status.message().find("view-bytes-max"), std::string::npos);
  const Completion rest = view(&other, {"d", "e"});
  EXPECT_EQ(rest.key_codes[1], StatusCode::kOk);
  TestClient third(node.endpoint());
  EXPECT_EQ(view(&third, {"c"}).key_codes[0], StatusCode::kResourceExhausted);
  EXPECT_TRUE(holder.sdk().view_valid(held.views[0].id)) << "too young to be revoked";
  StatusCode code = StatusCode::kResourceExhausted;
  for (int i = 0; i < 60 && code != StatusCode::kOk; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    code = view(&third, {"c"}).key_codes[0];
  }
  EXPECT_EQ(code, StatusCode::kOk);
  EXPECT_FALSE(holder.sdk().view_valid(held.views[0].id));
  EXPECT_EQ(holder.sdk().verify(held.views[0].id).code(), StatusCode::kAborted);
  EXPECT_GE(node.counter("views_revoked"), 1u);
  EXPECT_LE(node.counter("view_bytes"), 33'554'432u);
}

TEST(ViewTest, DieWithTheirHolderWhoeverKilledIt) {
  NodeProcess node({"--dram-bytes", "256MiB", "--view-grace-ms", "100"});
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    TestClient holder(node.endpoint());
    const bool stored = holder.put("a", kBytes, Durability::memory) == StatusCode::kOk;
    const Completion held = view(&holder, {"a"});
    const char ok = stored && held.key_codes[0] == StatusCode::kOk ? 'y' : 'n';
    if (::write(ready[1], &ok, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char ok = 'n';
  ASSERT_EQ(::read(ready[0], &ok, 1), 1);
  EXPECT_EQ(ok, 'y');
  EXPECT_EQ(node.counter("view_bytes"), kBytes);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(comes_to(node, "view_bytes", 0));
  EXPECT_EQ(node.counter("views"), 0u);
}

TEST(ViewTest, AreNotValidOnceTheirNodeIsGoneAndStayReadable) {
  auto node = std::make_unique<NodeProcess>(std::vector<std::string>{"--dram-bytes", "256MiB"});
  TestClient client(node->endpoint());
  ASSERT_EQ(client.put("a", kBytes, Durability::memory), StatusCode::kOk);
  const Completion done = view(&client, {"a"});
  ASSERT_EQ(done.key_codes[0], StatusCode::kOk);
  node->kill();
  for (int i = 0; i < 100 && client.sdk().view_valid(done.views[0].id); ++i) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_FALSE(client.sdk().view_valid(done.views[0].id));
  EXPECT_EQ(client.sdk().verify(done.views[0].id).code(), StatusCode::kAborted);
  EXPECT_EQ(bytes_of(done.views[0]), TestClient::content("a", kBytes));
  client.sdk().release_view(done.views[0].id);
}

TEST(ViewTest, LieInMemoryThatAnEngineCanHoldMapped) {
  auto node = std::make_unique<NodeProcess>(std::vector<std::string>{"--dram-bytes", "256MiB"});
  std::vector<ViewMemory> held;
  {
    TestClient client(node->endpoint());
    ASSERT_EQ(client.put("a", kBytes, Durability::memory, 5), StatusCode::kOk);
    EXPECT_TRUE(client.sdk().view_memory().empty());
    const uint64_t version = client.sdk().view_memory_version();
    const Completion done = view(&client, {"a"});
    ASSERT_EQ(done.key_codes[0], StatusCode::kOk);
    EXPECT_NE(client.sdk().view_memory_version(), version);
    held = client.sdk().view_memory();
    ASSERT_FALSE(held.empty());
    for (const ViewedSection& section : done.views[0].sections) {
      for (const auto& piece : section.pieces) {
        EXPECT_TRUE(std::any_of(held.begin(), held.end(), [&piece](const ViewMemory& memory) {
          return piece.data() >= memory.memory.data() &&
                 piece.data() + piece.size() <= memory.memory.data() + memory.memory.size();
        }));
      }
    }
    const uint64_t seen = client.sdk().view_memory_version();
    client.sdk().release_view(done.views[0].id);
    EXPECT_EQ(client.sdk().view_memory_version(), seen) << "the next view lies there too";
    node->kill();
    for (int i = 0; i < 100 && !client.sdk().view_memory().empty(); ++i) {
      std::this_thread::sleep_for(milliseconds(20));
    }
    EXPECT_TRUE(client.sdk().view_memory().empty()) << "the session is gone";
  }
  // Client and node are gone: readable to the last page all the same.
  [[maybe_unused]] volatile std::byte seen{0};
  for (const ViewMemory& memory : held) {
    for (size_t at = 0; at < memory.memory.size(); at += 4096) seen = memory.memory[at];
  }
}

TEST(ViewTest, NeedSharedMemoryAndTheDramTier) {
  ScratchDirectory scratch;
  NodeProcess node({"--data-directory", scratch.path(), "--nvme-bytes", "256MiB", "--dram-bytes",
                    "64MiB", "--promote-hits", "0"});
  TestClient client(node.endpoint());
  for (int i = 0; i < 16; ++i) {  // 128 MiB through 64 MiB of dram
    ASSERT_EQ(client.put("o" + std::to_string(i), kBytes, Durability::nvme), StatusCode::kOk);
  }
  EXPECT_EQ(view(&client, {"o0"}).key_codes[0], StatusCode::kFailedPrecondition);
  EXPECT_EQ(client.fetch("o0", kBytes), StatusCode::kOk);
  ClientConfig config = TestClient::config(node.endpoint());
  config.data_path = DataPath::tcp;
  auto remote = Client::open(config);
  ASSERT_TRUE(remote.ok());
  const auto ns = (*remote)->open_namespace("test", TestClient::raw_fingerprint());
  const std::vector<ChunkKey> keys = {client.key("o15")};
  const auto op = (*remote)->view(*ns, keys, {});
  ASSERT_TRUE(op.ok());
  const auto done = (*remote)->wait(*op, seconds(5));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->status.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(done->status.message().find("shared memory"), std::string::npos);
}
}  // namespace
}  // namespace terrace::e2e
