// Goal: a node that is killed, stopped or upgraded serves from DRAM what lay there, once the next
// one is up, every byte of it; views of before are invalid; and the memory ends when nobody comes.
// Method: real processes with a keeper of their own; objects with durability `memory`; every byte
// compared, and the tier that it came from.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "base/clock.h"
#include "base/handle.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr auto kDram = static_cast<size_t>(Tier::dram);

/// Write-through off: what comes back can only come from memory.
std::vector<std::string> flags_for(const ScratchDirectory& scratch, const std::string& mode) {
  return {"--data-directory",  scratch.path(),
          "--nvme-bytes",      "192MiB",
          "--dram-bytes",      "64MiB",
          "--slab-bytes",      "16MiB",
          "--scrub-period-s",  "0",
          "--write-through",   "false",
          "--demote-on-close", "false",
          "--keeper-linger-s", "10",
          "--warm-restart",    mode};
}

using Stored = std::map<std::string, uint64_t>;

StatusCode put_surely(TestClient* client, const std::string& name, uint64_t bytes) {
  StatusCode code = StatusCode::kResourceExhausted;
  for (int i = 0; i < 200 && code == StatusCode::kResourceExhausted; ++i) {
    if (i > 0) std::this_thread::sleep_for(milliseconds(25));
    code = client->put(name, bytes, Durability::memory, bytes > 100'000 ? 3 : 1);
  }
  return code;
}

/// Mixed sizes, some larger than a slab's free rest, together less than what eviction leaves.
Stored store_some(TestClient* client, const std::string& prefix) {
  Stored stored;
  Prng prng(prefix.size() + 17);
  for (int i = 0; i < 24; ++i) {
    const std::string name = prefix + std::to_string(i);
    const uint64_t bytes = i == 0 ? 9'000'001 : 1 + prng.below(900'000);
    EXPECT_EQ(put_surely(client, name, bytes), StatusCode::kOk) << name;
    stored[name] = bytes;
  }
  return stored;
}

void expect_from_dram(TestClient* client, const Stored& stored) {
  for (const auto& [name, bytes] : stored) {
    Completion done;
    EXPECT_EQ(client->fetch(name, bytes, &done), StatusCode::kOk) << name;
    EXPECT_EQ(done.tier_bytes.at(kDram), bytes) << name;
  }
}

class WarmNode : public OverEachPath {};

TEST_P(WarmNode, KilledAndBackServesFromDram) {
  ScratchDirectory scratch;
  Stored stored;
  for (int life = 0; life < 4; ++life) {
    SCOPED_TRACE("life " + std::to_string(life));
    NodeProcess node(flags_for(scratch, "keeper"));
    TestClient client(node.endpoint(), 16u << 20);
    EXPECT_EQ(node.counter("warm_objects"), stored.size());
    EXPECT_EQ(node.counter("warm_verified_objects"), 0u);
    expect_from_dram(&client, stored);
    EXPECT_EQ(node.counter("warm_verified_objects"), stored.size());
    EXPECT_EQ(node.counter("warm_failed_objects"), 0u);
    if (life == 0) stored = store_some(&client, "a");
    if (life < 2) {
      node.kill();
    } else {
      node.signal(SIGTERM);
      EXPECT_EQ(node.wait(), 0);
    }
  }
}

TEST_P(WarmNode, WhatWasErasedOrEvictedStaysAway) {
  ScratchDirectory scratch;
  Stored stored;
  {
    NodeProcess node(flags_for(scratch, "keeper"));
    TestClient client(node.endpoint(), 16u << 20);
    stored = store_some(&client, "e");
    const std::vector<ChunkKey> keys = {client.key("e0"), client.key("e7")};
    const auto erase = client.sdk().erase(client.ns(), keys, {});
    ASSERT_TRUE(client.sdk().wait(*erase, seconds(5)).ok());
    node.kill();
  }
  NodeProcess node(flags_for(scratch, "keeper"));
  TestClient client(node.endpoint(), 16u << 20);
  EXPECT_EQ(client.fetch("e0", stored["e0"]), StatusCode::kNotFound);
  EXPECT_EQ(client.fetch("e7", stored["e7"]), StatusCode::kNotFound);
  stored.erase("e0");
  stored.erase("e7");
  expect_from_dram(&client, stored);
}

/// Puts and erases in flight, and a SIGKILL among them. What was acknowledged moves between the
/// maps; what was in doubt when the node died is in neither.
class MemoryLoad {
 public:
  explicit MemoryLoad(TestClient* client) : client_(client) {}
  void run(NodeProcess* node, Prng* prng, int round, Stored* there, Stored* gone) {
    for (int i = 0; i < 10; ++i)
      start_put("r" + std::to_string(round) + "/" + std::to_string(i), i, 1 + prng->below(300'000));
    for (auto it = there->begin(); it != there->end();) {
      if (!prng->chance(30)) {
        ++it;
        continue;
      }
      const std::vector<ChunkKey> key = {client_->key(it->first)};
      const auto op = client_->sdk().erase(client_->ns(), key, {});
      ASSERT_TRUE(op.ok());
      running_[*op] = {*it, false};
      it = there->erase(it);
    }
    const uint64_t kill_after = prng->below(running_.size());
    uint64_t acknowledged = 0;
    std::array<Completion, 16> out;
    SystemClock clock;
    const Nanos give_up = clock.now() + seconds(15);
    while (!running_.empty()) {
      ASSERT_LT(clock.now(), give_up) << "operations that never completed";
      const size_t n = client_->sdk().drain(out);
      for (size_t i = 0; i < n; ++i) {
        const auto found = running_.find(out[i].op);
        ASSERT_NE(found, running_.end());
        if (out[i].status.ok()) {
          (found->second.second ? there : gone)->insert(found->second.first);
          ++acknowledged;
        }
        running_.erase(found);
      }
      if (node->pid() > 0 && acknowledged >= kill_after) node->kill();
    }
    node->kill();
  }

 private:
  void start_put(const std::string& name, int place, uint64_t bytes) {
    const auto op =
        client_->start_put(name, bytes, Durability::memory, static_cast<uint64_t>(place) << 20);
    ASSERT_TRUE(op.ok()) << op.status().to_string();
    running_[*op] = {{name, bytes}, true};
  }

  TestClient* const client_;
  /// Name and bytes, and whether it is a put.
  std::map<OpId, std::pair<std::pair<std::string, uint64_t>, bool>> running_;
};

TEST_P(WarmNode, KillsUnderLoadLoseAndRaiseNothing) {
  ScratchDirectory scratch;
  Stored there, gone;
  size_t checked = 0;
  for (int round = 0; round < 25; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Prng prng(static_cast<uint64_t>(round) + 1);
    NodeProcess node(flags_for(scratch, "keeper"));
    TestClient client(node.endpoint(), 16u << 20);
    expect_from_dram(&client, there);
    for (const auto& [name, bytes] : gone) {
      EXPECT_EQ(client.fetch(name, bytes), StatusCode::kNotFound) << name;
    }
    if (HasFailure()) return;
    checked += there.size() + gone.size();
    gone.clear();
    MemoryLoad(&client).run(&node, &prng, round, &there, &gone);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(checked, 100u);
}

INSTANTIATE_TEST_SUITE_P(Paths, WarmNode, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);

TEST(WarmNodeTest, AViewOfBeforeIsInvalidAndANewOneIsRight) {
  ScratchDirectory scratch;
  auto node = std::make_unique<NodeProcess>(flags_for(scratch, "keeper"));
  TestClient before(node->endpoint(), 16u << 20);
  ASSERT_EQ(put_surely(&before, "v", 800'000), StatusCode::kOk);
  const std::vector<ChunkKey> keys = {before.key("v")};
  const auto view = [&keys](TestClient* client) {
    const auto op = client->sdk().view(client->ns(), keys, {});
    auto done = client->sdk().wait(*op, seconds(5));
    EXPECT_TRUE(done.ok());
    return *std::move(done);
  };
  const Completion old = view(&before);
  ASSERT_EQ(old.key_codes.at(0), StatusCode::kOk);
  EXPECT_TRUE(before.sdk().view_valid(old.views[0].id));
  // The client's own thread stands still, as a reader's process may: only the board can tell.
  node->kill();
  node = std::make_unique<NodeProcess>(flags_for(scratch, "keeper"));
  EXPECT_FALSE(before.sdk().view_valid(old.views[0].id));
  TestClient after(node->endpoint(), 16u << 20);
  const Completion fresh = view(&after);
  ASSERT_EQ(fresh.key_codes.at(0), StatusCode::kOk);
  EXPECT_TRUE(after.sdk().view_valid(fresh.views[0].id));
  EXPECT_TRUE(after.sdk().verify(fresh.views[0].id).ok());
  EXPECT_EQ(node->counter("warm_verified_objects"), 1u);
}

TEST(WarmNodeTest, NodesOfOneHostDoNotMixUp) {
  ScratchDirectory one, two;
  {
    NodeProcess a(flags_for(one, "keeper"));
    NodeProcess b(flags_for(two, "keeper"));
    TestClient to_a(a.endpoint(), 1u << 20);
    TestClient to_b(b.endpoint(), 1u << 20);
    ASSERT_EQ(put_surely(&to_a, "of a", 5'000), StatusCode::kOk);
    ASSERT_EQ(put_surely(&to_b, "of b", 5'000), StatusCode::kOk);
    a.kill();
    b.kill();
  }
  NodeProcess a(flags_for(one, "keeper"));
  NodeProcess b(flags_for(two, "keeper"));
  TestClient to_a(a.endpoint(), 1u << 20);
  TestClient to_b(b.endpoint(), 1u << 20);
  expect_from_dram(&to_a, {{"of a", 5'000}});
  expect_from_dram(&to_b, {{"of b", 5'000}});
  EXPECT_EQ(to_a.fetch("of b", 5'000), StatusCode::kNotFound);
  EXPECT_EQ(to_b.fetch("of a", 5'000), StatusCode::kNotFound);
  // A keeper is one data directory's: the other node says so and does not start.
  std::string command = std::string(TERRACE_NODE_PROGRAM) +
                        " --dev --control-port 0 --data-port 0 --metrics-port 0 --keeper-socket " +
                        one.path() + "/KEEPER";
  b.kill();
  for (const std::string& flag : flags_for(two, "keeper")) command += " " + flag;
  EXPECT_NE(std::system((command + " >/dev/null 2>&1").c_str()), 0);
}

/// Stores what it is sent, and starts nodes with it, as systemd does.
class PlaysSystemd {
 public:
  explicit PlaysSystemd(const std::string& path) : path_(path) {
    socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    TERRACE_CHECK(
        ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  }
  std::unique_ptr<NodeProcess> start(const std::vector<std::string>& flags) {
    return std::make_unique<NodeProcess>(flags, [this] {
      ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
      ::setenv("FDSTORE", "64", 1);
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::setenv("LISTEN_FDS", std::to_string(stored_.size()).c_str(), 1);
      std::string names;
      std::vector<int> files;
      for (const auto& [name, file] : stored_) {
        names += (names.empty() ? "" : ":") + name;
        files.push_back(::fcntl(file.get(), F_DUPFD, 500));  // out of the way of those below
      }
      ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
      for (size_t i = 0; i < files.size(); ++i) ::dup2(files[i], 3 + static_cast<int>(i));
    });
  }
  /// Reads what was sent so far: how much it stores then.
  size_t look() {
    for (;;) {
      std::array<char, 512> text{};
      iovec run{text.data(), text.size() - 1};
      alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
      msghdr message{};
      message.msg_iov = &run;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      if (::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC) <= 0) return stored_.size();
      const std::string said = text.data();
      const size_t at = said.find("FDNAME=") + 7;
      const std::string name = said.substr(at, said.find('\n', at) - at);
      if (said.starts_with("FDSTOREREMOVE=1\n")) stored_.erase(name);
      const cmsghdr* const head = CMSG_FIRSTHDR(&message);
      if (!said.starts_with("FDSTORE=1\n") || head == nullptr) continue;
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head), sizeof(fd));
      stored_[name] = Fd(fd);
    }
  }

 private:
  const std::string path_;
  Fd socket_;
  std::map<std::string, Fd> stored_;
};

TEST(WarmNodeTest, SystemdKeepsItToo) {
  ScratchDirectory scratch;
  PlaysSystemd systemd(scratch.path() + "/notify");
  Stored stored;
  for (int life = 0; life < 3; ++life) {
    SCOPED_TRACE("life " + std::to_string(life));
    const auto node = systemd.start(flags_for(scratch, "auto"));
    TestClient client(node->endpoint(), 16u << 20);
    EXPECT_EQ(node->counter("warm_objects"), stored.size());
    expect_from_dram(&client, stored);
    if (life == 0) stored = store_some(&client, "s");
    node->kill();
    EXPECT_EQ(systemd.look(), 5u) << "four slabs and the board";
  }
  // Not wanted any more: taken out of the store.
  const auto node = systemd.start(flags_for(scratch, "off"));
  EXPECT_EQ(systemd.look(), 0u);
}

bool goes(const std::string& path, milliseconds within) {
  struct stat facts {};
  for (milliseconds waited{0}; waited < within; waited += milliseconds(20)) {
    if (::stat(path.c_str(), &facts) != 0) return true;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return false;
}

TEST(WarmNodeTest, TheKeeperEndsWhenNobodyComesOrTheNodeWantsItNoMore) {
  ScratchDirectory scratch;
  const std::string socket = scratch.path() + "/KEEPER";
  {
    std::vector<std::string> flags = flags_for(scratch, "keeper");
    flags.insert(flags.end(), {"--keeper-linger-s", "1"});
    NodeProcess node(flags);
    EXPECT_FALSE(goes(socket, milliseconds(1500))) << "while the node is there it stays";
    node.kill();
    EXPECT_TRUE(goes(socket, seconds(4)));
  }
  {
    NodeProcess node(flags_for(scratch, "keeper"));
    TestClient client(node.endpoint(), 1u << 20);
    ASSERT_EQ(put_surely(&client, "x", 5'000), StatusCode::kOk);
    node.kill();
  }
  NodeProcess node(flags_for(scratch, "off"));
  EXPECT_TRUE(goes(socket, seconds(2))) << "its memory would be held twice";
  TestClient client(node.endpoint(), 1u << 20);
  EXPECT_EQ(client.fetch("x", 5'000), StatusCode::kNotFound);
}
}  // namespace
}  // namespace terrace::e2e
