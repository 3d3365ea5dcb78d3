// Goal: a node that is killed, frozen or lied to by its disk costs a miss, never wrong bytes, never
// a call that hangs; and nothing acknowledged as `nvme` is lost. Method: real SIGKILLs under load
// with restart on the same directory, SIGSTOP under load, a flipped byte in the data file; every
// fetched byte compared.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/clock.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<std::string> flags_for(const ScratchDirectory& scratch) {
  return {
      "--data-directory", scratch.path(), "--nvme-bytes",     "192MiB", "--dram-bytes",   "64MiB",
      "--slab-bytes",     "64MiB",        "--scrub-period-s", "0",      "--promote-hits", "1"};
}

/// Puts in flight with mixed sizes; returns the names that were acknowledged as durable.
class Load {
 public:
  explicit Load(TestClient* client) : client_(client) {}
  /// Starts `count` puts at once, then kills the node after some of them were acknowledged.
  void run(NodeProcess* node, Prng* prng, int round, std::map<std::string, uint64_t>* durable) {
    std::map<OpId, std::pair<std::string, uint64_t>> running;
    uint64_t at = 0;
    for (int i = 0; i < 12; ++i) {
      const uint64_t bytes = 1 + prng->below(700'000);
      const std::string name = std::to_string(round) + "/" + std::to_string(i);
      const auto op = client_->start_put(name, bytes, Durability::nvme, at);
      ASSERT_TRUE(op.ok()) << op.status().to_string();
      running[*op] = {name, bytes};
      at += 1u << 20;
    }
    const uint64_t kill_after = prng->below(running.size());
    uint64_t acknowledged = 0;
    std::array<Completion, 16> out;
    SystemClock clock;
    const Nanos give_up = clock.now() + seconds(15);
    while (!running.empty()) {
      ASSERT_LT(clock.now(), give_up) << "operations that never completed";
      const size_t n = client_->sdk().drain(out);
      for (size_t i = 0; i < n; ++i) {
        const auto found = running.find(out[i].op);
        ASSERT_NE(found, running.end()) << "completed twice";
        if (out[i].status.ok()) {
          durable->insert(found->second);
          ++acknowledged;
        }
        running.erase(found);
      }
      if (node->pid() > 0 && acknowledged >= kill_after) node->kill();
    }
  }

 private:
  TestClient* const client_;
};

class Survival : public OverEachPath {};

TEST_P(Survival, FiftyKillsUnderLoadLoseNothingAcknowledged) {
  ScratchDirectory scratch;
  std::map<std::string, uint64_t> durable;
  for (int round = 0; round < 50; ++round) {
    SCOPED_TRACE("round=" + std::to_string(round));
    Prng prng(static_cast<uint64_t>(round) + 1);
    NodeProcess node(flags_for(scratch));
    TestClient client(node.endpoint(), 16u << 20);
    // Some of what earlier rounds stored, and all of it at the end.
    for (const auto& [name, bytes] : durable) {
      if (round < 49 && !prng.chance(10)) continue;
      ASSERT_EQ(client.fetch(name, bytes), StatusCode::kOk) << name << " was acknowledged, is lost";
    }
    // Room for the next rounds: forget the old ones.
    if (round % 10 == 9 && round < 49) {
      std::vector<ChunkKey> keys;
      for (const auto& [name, bytes] : durable) keys.push_back(client.key(name));
      for (size_t i = 0; i < keys.size(); i += 100) {
        const auto part = std::span(keys).subspan(i, std::min<size_t>(100, keys.size() - i));
        const auto op = client.sdk().erase(client.ns(), part, {});
        ASSERT_TRUE(op.ok());
        ASSERT_TRUE(client.sdk().wait(*op, seconds(10)).ok());
      }
      durable.clear();
    }
    Load(&client).run(&node, &prng, round, &durable);
    if (HasFatalFailure()) return;
  }
  EXPECT_FALSE(durable.empty());
}

TEST_P(Survival, AFrozenNodeCostsDeadlinesNotHangs) {
  NodeProcess node({});
  TestClient client(node.endpoint());
  ASSERT_EQ(client.put("a", 8u << 20, Durability::memory), StatusCode::kOk);
  node.signal(SIGSTOP);
  SystemClock clock;
  const Nanos begin = clock.now();
  std::vector<OpId> ops;
  const std::vector<ChunkKey> keys = {client.key("a")};
  const Fragment whole{0, client.region(), 0, 8u << 20};
  const FetchItem item{keys[0], {&whole, 1}};
  for (int i = 0; i < 10; ++i) {
    LookupOptions lookup;
    lookup.deadline = milliseconds(300);
    FetchOptions fetch;
    fetch.deadline = milliseconds(300);
    for (const auto& op : {client.sdk().lookup(client.ns(), keys, lookup),
                           client.sdk().fetch(client.ns(), {&item, 1}, fetch)}) {
      if (op.ok()) {
        ops.push_back(*op);
      } else {
        EXPECT_EQ(op.status().code(), StatusCode::kUnavailable);
      }
    }
  }
  for (const OpId op : ops) {
    const auto done = client.sdk().wait(op, seconds(5));
    ASSERT_TRUE(done.ok()) << done.status().to_string();
    EXPECT_FALSE(done->status.ok());
  }
  EXPECT_LT(clock.now() - begin, seconds(3));
  // Expired means: no write from now on, even when the node wakes up.
  std::fill(client.memory().begin(), client.memory().end(), std::byte{0x77});
  node.signal(SIGCONT);
  StatusCode code = StatusCode::kUnavailable;
  for (const Nanos end = clock.now() + seconds(20); clock.now() < end;) {
    const auto op = client.sdk().lookup(client.ns(), keys, {});
    if (op.ok()) {
      const auto done = client.sdk().wait(*op, seconds(11));
      if (done.ok() && done->status.ok()) {
        code = done->keys.at(0).code;
        break;
      }
    }
  }
  EXPECT_EQ(code, StatusCode::kOk);
  for (const std::byte b : client.memory()) ASSERT_EQ(b, std::byte{0x77});
  EXPECT_EQ(client.fetch("a", 8u << 20), StatusCode::kOk);
}

/// One bit of these `bytes`, which lie in one sector of the data file.
void flip(const ScratchDirectory& scratch, std::string_view bytes) {
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    if (!entry.is_regular_file() || entry.file_size() < (8u << 20)) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string sector(4096, '\0');
    for (uint64_t at = 0; at < entry.file_size(); at += sector.size()) {
      file.seekg(static_cast<std::streamoff>(at));
      file.read(sector.data(), static_cast<std::streamsize>(sector.size()));
      const size_t found = sector.find(bytes);
      if (found == std::string::npos) continue;
      file.seekp(static_cast<std::streamoff>(at + found));
      file.put(static_cast<char>(bytes[0] ^ 1));
      return;
    }
  }
  FAIL() << "these bytes are nowhere in the data directory";
}

TEST_P(Survival, AFlippedByteOnDiskIsACountedMiss) {
  ScratchDirectory scratch;
  const std::string name = "precious";
  constexpr uint64_t kBytes = 3u << 20;
  {
    NodeProcess node(flags_for(scratch));
    TestClient client(node.endpoint());
    ASSERT_EQ(client.put(name, kBytes, Durability::nvme), StatusCode::kOk);
    node.kill();
  }
  const auto content = TestClient::content(name, kBytes);
  flip(scratch, {reinterpret_cast<const char*>(content.data()) + (1u << 20), 4096});
  NodeProcess node(flags_for(scratch));
  TestClient client(node.endpoint());
  EXPECT_EQ(client.fetch(name, kBytes), StatusCode::kDataLoss);
  EXPECT_EQ(client.fetch(name, kBytes), StatusCode::kNotFound);  // quarantined
  ASSERT_EQ(client.put(name, kBytes, Durability::nvme), StatusCode::kOk);
  EXPECT_EQ(client.fetch(name, kBytes), StatusCode::kOk);
}

std::vector<std::string> list(TestClient& client, uint32_t limit) {
  std::vector<std::string> names;
  std::string cursor;
  do {
    const auto op = client.sdk().list(client.ns(), cursor, limit, {});
    EXPECT_TRUE(op.ok());
    const auto done = client.sdk().wait(*op, seconds(5));
    EXPECT_TRUE(done.ok() && done->status.ok());
    if (!done.ok()) break;
    for (const ObjectEntry& entry : done->entries) names.push_back(entry.raw_key);
    cursor = done->cursor;
  } while (!cursor.empty());
  return names;
}

TEST_P(Survival, AListGoesOnBehindObjectsThatCannotBeRead) {
  ScratchDirectory scratch;
  std::vector<std::string> names;
  {
    NodeProcess node(flags_for(scratch));
    TestClient client(node.endpoint());
    for (int i = 0; i < 7; ++i) {
      ASSERT_EQ(client.put("listed-" + std::to_string(i), 5000, Durability::nvme), StatusCode::kOk);
    }
    names = list(client, 2);
    ASSERT_EQ(names.size(), 7u);
    node.kill();
  }
  for (int i = 0; i < 4; ++i) flip(scratch, names[static_cast<size_t>(i)]);  // in their headers
  NodeProcess node(flags_for(scratch));
  TestClient client(node.endpoint());
  EXPECT_EQ(list(client, 2), std::vector<std::string>(names.begin() + 4, names.end()));
}

TEST_P(Survival, TwoNodesNeverShareADirectory) {
  ScratchDirectory scratch;
  NodeProcess node(flags_for(scratch));
  std::string command =
      std::string(TERRACE_NODE_PROGRAM) + " --dev --control-port 0 --data-port 0 --metrics-port 0";
  for (const std::string& flag : flags_for(scratch)) command += " " + flag;
  EXPECT_NE(std::system((command + " >/dev/null 2>&1").c_str()), 0);
  node.signal(SIGTERM);
  EXPECT_EQ(node.wait(), 0);  // a clean shutdown
}

INSTANTIATE_TEST_SUITE_P(Paths, Survival, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
