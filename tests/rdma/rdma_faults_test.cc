// Goal: RDMA goes on when a path dies under it, takes memory back from a network that swallows
// everything, and notices peers that were killed or frozen; without permission to lock memory it
// copies. Method: real devices, links and processes of a virtual machine. Each test skips, with the
// reason, where the machine has not what it needs.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/limits.h"
#include "tests/rdma/rdma_world.h"
#include "transport/tcp_transport.h"
#include "transport/transport_set.h"

namespace terrace {
namespace {

/// Runs a command of the guest, which is ours to break.
void run(const std::string& command) {
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

class RdmaFaultsTest : public RdmaWorld {
 protected:
  /// Writes and reads of registered memory, each at its own place, all verified at the end.
  struct Load {
    Load(RdmaWorld* of, RdmaNode* from, RdmaNode* to, size_t places_of_it)
        : world(of),
          a(from),
          b(to),
          places(places_of_it),
          local(places * kBytes),
          remote(places * kBytes),
          back(places * kBytes) {
      Prng(7).fill(local);
      a->side.transport->expect_memory(local);
      a->side.transport->expect_memory(back);
      region = *b->side.register_region(remote);
    }
    void start(size_t i) {
      ops.push_back(std::make_unique<CountingOp>());
      const RemoteSpan there{region, i * kBytes, kBytes};
      ASSERT_TRUE(
          a->side.write(1000 + i, there, {local.data() + i * kBytes, kBytes}, ops.back().get())
              .ok());
      ops.back()->then = [this, i, there] {
        reads.push_back(std::make_unique<CountingOp>());
        ASSERT_TRUE(
            a->side.read(1, there, {back.data() + i * kBytes, kBytes}, reads.back().get()).ok());
      };
    }
    bool done() const {
      const auto over = [](const auto& op) { return op->runs == 1 && op->result.ok(); };
      return reads.size() == ops.size() && std::all_of(ops.begin(), ops.end(), over) &&
             std::all_of(reads.begin(), reads.end(), over) && b->side.writes.size() == ops.size();
    }
    void verify() const {
      EXPECT_TRUE(local == remote);
      EXPECT_TRUE(local == back);
      for (const auto& [tag, times] : b->side.writes) EXPECT_EQ(times, 1) << tag;
    }
    static constexpr size_t kBytes = 64 * kKiB;
    RdmaWorld* const world;
    RdmaNode* const a;
    RdmaNode* const b;
    const size_t places;
    std::vector<std::byte> local;
    std::vector<std::byte> remote;
    std::vector<std::byte> back;
    RegionId region{};
    std::vector<std::unique_ptr<CountingOp>> ops;
    std::vector<std::unique_ptr<CountingOp>> reads;
  };
  /// A node in another process, which serves until it is killed. Returns its process id.
  pid_t fork_node() {
    int request[2];
    int answer[2];
    EXPECT_EQ(::pipe(request) + ::pipe(answer), 0);
    const pid_t child = ::fork();
    if (child == 0) serve(request[0], answer[1]);
    RdmaOptions options;
    options.paths_max = 1;
    options.send_queue_bytes_max = 8 * kMiB;
    options.send_stall_timeout = seconds(2);
    a.start(options);
    const auto asked = a.rdma->open(secret_of(1));
    EXPECT_EQ(::write(request[1], asked->endpoint.data(), asked->endpoint.size()),
              static_cast<ssize_t>(asked->endpoint.size()));
    std::string answered(asked->endpoint.size(), '\0');
    EXPECT_EQ(::read(answer[0], answered.data(), answered.size()),
              static_cast<ssize_t>(answered.size()));
    for (const int fd : {request[0], request[1], answer[0], answer[1]}) ::close(fd);
    CountingOp connected;
    EXPECT_TRUE(
        a.rdma->establish(asked->peer, answered, clock.now() + seconds(5), &connected).ok());
    EXPECT_TRUE(turn_until([&] { return connected.runs == 1; }));
    EXPECT_TRUE(connected.result.ok()) << connected.result.to_string();
    a.side.peer = asked->peer;
    return child;
  }
  [[noreturn]] static void serve(int request, int answer) {
    SystemClock clock;
    RdmaNode node(&clock);
    RdmaOptions options;
    options.paths_max = 1;
    node.start(options);
    std::vector<std::byte> memory(4 * kMiB);
    (void)node.side.register_region(memory);
    std::string endpoint(56, '\0');
    if (::read(request, endpoint.data(), endpoint.size()) != 56) ::_exit(1);
    const auto answered = node.rdma->accept(secret_of(1), endpoint);
    if (!answered.ok() || ::write(answer, answered->endpoint.data(), 56) != 56) ::_exit(1);
    while (node.side.closes == 0) node.side.loop->turn(milliseconds(10));
    ::_exit(0);
  }
  /// Keeps writes going until the peer is gone; how long that took from now.
  Nanos write_until_closed(std::vector<std::unique_ptr<CountingOp>>* ops, bool* refused) {
    std::vector<std::byte> from(256 * kKiB);
    const Nanos begin = clock.now();
    EXPECT_TRUE(turn_until([&] {
      if (a.side.closes == 1) return true;
      ops->push_back(std::make_unique<CountingOp>());
      const Status status = a.side.write(1, {RegionId{1}, 0, from.size()},
                                         {from.data(), from.size()}, ops->back().get());
      if (!status.ok()) ops->pop_back();
      *refused = *refused || status.code() == StatusCode::kResourceExhausted;
      return false;
    }));
    return clock.now() - begin;
  }
};

/// a and b at the ends of cables of their own: rxe0 to rxe1, rxe2 to rxe3.
template <size_t Cables>
class RdmaCables : public RdmaFaultsTest {
 protected:
  void SetUp() override {
    RdmaFaultsTest::SetUp();
    if (IsSkipped()) return;
    if (rdma_devices().size() < 2 * Cables) {
      GTEST_SKIP() << "needs " << 2 * Cables << " devices, " << Cables << " cables";
    }
    for (size_t cable = 0; cable < Cables; ++cable) {
      of_a.devices.push_back("rxe" + std::to_string(2 * cable));
      of_b.devices.push_back("rxe" + std::to_string(2 * cable + 1));
    }
  }
  void start_and_connect() {
    start(of_a, of_b);
    connect(1);
  }
  RdmaOptions of_a;
  RdmaOptions of_b;
};
using RdmaCableTest = RdmaCables<1>;

class RdmaTwoCablesTest : public RdmaCables<2> {
 protected:
  /// The cable at `port` is cut in the middle of the load.
  void cut_in_the_middle(const std::string& port, bool carried_messages) {
    start_and_connect();
    Load load(this, &a, &b, 400);
    std::vector<Side::Got> sent;
    uint64_t messages = 0;
    for (size_t i = 0; i < load.places; ++i) {
      load.start(i);
      if (i % 4 == 0) {
        ASSERT_TRUE(
            a.side.transport->send_message(a.side.peer, {.tag = messages++, .body = {}}).ok());
      }
      if (i == 150) run("ip link set " + port + " down");
      turn_until([&] { return a.rdma->queued_bytes(a.side.peer) < 2 * kMiB; });
    }
    const Nanos begin = clock.now();
    ASSERT_TRUE(turn_until([&] { return load.done() && b.side.messages.size() == messages; }))
        << load.reads.size() << " of " << load.ops.size() << ", messages " << b.side.messages.size()
        << " of " << messages;
    RecordProperty("milliseconds", std::to_string((clock.now() - begin).count() / 1'000'000));
    run("ip link set " + port + " up");
    load.verify();
    for (uint64_t i = 0; i < messages; ++i) ASSERT_EQ(b.side.messages[i].tag, i);
    EXPECT_EQ(a.rdma->metrics().path_failures.get(), 1u);
    EXPECT_EQ(b.rdma->metrics().path_failures.get(), 1u);
    EXPECT_EQ(a.rdma->metrics().paths_up.get(), 1u);
    EXPECT_EQ(a.side.closes + b.side.closes, 0);
    if (carried_messages) {
      EXPECT_GT(a.rdma->metrics().frames_again.get() + b.rdma->metrics().frames_again.get(), 0u);
    }
  }
};

TEST_F(RdmaTwoCablesTest, APathThatCarriesOnlyDataDies) {
  cut_in_the_middle("rdma3", false);
}

TEST_F(RdmaTwoCablesTest, ThePathThatCarriesMessagesDies) {
  cut_in_the_middle("rdma1", true);
}

TEST_F(RdmaCableTest, AnAddressThatNobodyAnswersIsFoundOutBeforeTheLoopWaitsForIt) {
  start(of_a, of_b);
  const auto asked = a.rdma->open(secret_of(1));
  ASSERT_TRUE(asked.ok());
  ASSERT_TRUE(b.rdma->find_way(asked->endpoint).ok());
  StatusOr<RdmaEndpoint> liar = decode_rdma_endpoint(asked->endpoint);
  ASSERT_TRUE(liar.ok());
  liar->paths[0].gid[15] = 99;  // the last byte of an IPv4 address
  EXPECT_EQ(b.rdma->find_way(encode(*liar)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(b.rdma->find_way("no endpoint").code(), StatusCode::kInvalidArgument);
  a.rdma->close_peer(asked->peer, StatusCode::kCancelled);
}

TEST_F(RdmaCableTest, TheLastPathsEndIsThePeersEnd) {
  start_and_connect();
  run("ip link set rdma1 down");
  EXPECT_TRUE(turn_until([&] { return a.side.closes == 1 && b.side.closes == 1; }, seconds(6)));
  run("ip link set rdma1 up");
}

TEST_F(RdmaCableTest, MemoryIsTakenBackFromANetworkThatSwallowsEverything) {
  of_a.release_timeout = milliseconds(300);
  constexpr uint64_t kWrites = 8;
  start_and_connect();
  run("tc qdisc add dev rdma0 root netem rate 80mbit");  // still busy when it is cut
  std::vector<std::byte> local(kMiB, std::byte{1});
  std::vector<std::byte> remote(kWrites * kMiB);
  a.side.transport->expect_memory(local);
  const RegionId region = *b.side.register_region(remote);
  std::vector<std::unique_ptr<CountingOp>> ops;
  for (uint64_t i = 0; i < kWrites; ++i) {
    ops.push_back(std::make_unique<CountingOp>());
    ASSERT_TRUE(a.side.write(i, {region, i * kMiB, kMiB}, {local.data(), kMiB}, ops[i].get()).ok());
  }
  ASSERT_TRUE(turn_until([&] { return a.rdma->metrics().writes.get() >= 1; }));
  run("tc qdisc change dev rdma0 root netem loss 100%");
  const Nanos begin = clock.now();
  for (const auto& op : ops) a.side.transport->cancel(op.get());
  const auto all_over = [&] {
    return std::all_of(ops.begin(), ops.end(), [](const auto& op) { return op->runs == 1; });
  };
  ASSERT_TRUE(turn_until(all_over, seconds(2)));
  EXPECT_LT(clock.now() - begin, seconds(1));
  std::fill(local.begin(), local.end(), std::byte{0xA5});  // it is free
  run("tc qdisc del dev rdma0 root");
  int late = 0;
  for (const auto& op : ops) late += op->result.code() == StatusCode::kUnavailable;
  EXPECT_GE(late, 1);
  EXPECT_EQ(a.rdma->metrics().lane_resets.get(), 1u);
  // The peer is the same as before, over another queue pair.
  CountingOp again;
  ASSERT_TRUE(a.side.write(99, {region, 0, kMiB}, {local.data(), kMiB}, &again).ok());
  ASSERT_TRUE(turn_until([&] { return again.runs == 1 && b.side.writes[99] == 1; }));
  EXPECT_TRUE(again.result.ok());
  EXPECT_EQ(a.side.closes + b.side.closes, 0);
  // What the first queue pair left half done was never shown, and holds none of the poison.
  EXPECT_EQ(std::count(remote.begin() + kMiB, remote.end(), std::byte{0xA5}), 0);
  for (uint64_t i = 0; i < kWrites; ++i) {
    if (ops[i]->result.code() != StatusCode::kOk) {
      EXPECT_EQ(b.side.writes.count(i), 0u) << i;
    }
  }
}

TEST_F(RdmaCableTest, ALossyNetworkLosesNothing) {
  start_and_connect();
  run("tc qdisc add dev rdma0 root netem loss 0.1%");
  Load load(this, &a, &b, 100);
  for (size_t i = 0; i < load.places; ++i) load.start(i);
  EXPECT_TRUE(turn_until([&] { return load.done(); }, seconds(60)));
  run("tc qdisc del dev rdma0 root");
  load.verify();
}

TEST_F(RdmaFaultsTest, APeerThatIsKilledIsNoticed) {
  const pid_t child = fork_node();
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  std::vector<std::unique_ptr<CountingOp>> ops;
  bool refused = false;
  const Nanos took = write_until_closed(&ops, &refused);
  EXPECT_LT(took, seconds(5));
  for (const auto& op : ops) EXPECT_EQ(op->runs, 1);
}

TEST_F(RdmaFaultsTest, AnIdlePeerThatIsKilledIsNoticed) {
  const pid_t child = fork_node();
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(turn_until([&] { return a.side.closes == 1; }, seconds(6)));
}

TEST_F(RdmaFaultsTest, APeerThatIsFrozenIsBackPressureThenStalled) {
  const pid_t child = fork_node();
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  std::vector<std::unique_ptr<CountingOp>> ops;
  bool refused = false;
  const Nanos took = write_until_closed(&ops, &refused);
  EXPECT_TRUE(refused);
  EXPECT_GT(took, seconds(1));
  EXPECT_LT(took, seconds(6));
  for (const auto& op : ops) EXPECT_EQ(op->runs, 1);
  const auto& closes = a.rdma->metrics().closes;
  EXPECT_EQ(closes[static_cast<size_t>(CloseReason::stalled)].get(), 1u);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST_F(RdmaFaultsTest, WithoutPermissionToLockMemoryItIsCopied) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 64 * kMiB) {
    GTEST_SKIP() << "needs a memlock limit of at most 64 MiB";
  }
  RdmaOptions options;
  options.paths_max = 1;
  options.bounce_buffers = 2;
  options.small_bounce_buffers = 16;
  start(options, options);
  connect(1);
  std::vector<std::byte> large(limit.rlim_cur + kMiB);
  const Status refused = prepared(&b, large);
  ASSERT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("RLIMIT_MEMLOCK"), std::string::npos);
  a.side.transport->expect_memory(large);
  ASSERT_TRUE(turn_until([&] { return a.rdma->metrics().registration_failures.get() == 1; }));
  std::vector<std::byte> small(64 * kKiB);
  const StatusOr<RegionId> region = b.side.register_region(small);
  ASSERT_TRUE(region.ok()) << region.status().to_string();
  // In a set the ids stay in step, whoever refuses.
  TcpTransport tcp(b.side.loop.get(), &b.side, {});
  TransportSet set(b.side.loop.get());
  set.add(TransportKind::rdma, b.rdma);
  EXPECT_TRUE(tcp.register_region(small).ok());
  EXPECT_TRUE(tcp.register_region(small).ok());
  set.add(TransportKind::tcp, &tcp);
  const StatusOr<RegionId> over = set.register_region(large);
  ASSERT_TRUE(over.ok());
  CountingOp why;
  set.when_prepared(*over, &why);
  ASSERT_TRUE(turn_until([&] { return why.runs == 1; }));
  EXPECT_EQ(why.result.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(set.unregister_region(*over).ok());
  EXPECT_TRUE(set.register_region(small).ok());
  CountingOp tcp_closed;
  tcp.close(&tcp_closed);
  ASSERT_TRUE(turn_until([&] { return tcp_closed.runs == 1; }));
  large[5] = std::byte{9};
  CountingOp op;
  ASSERT_TRUE(a.side.write(1, {*region, 0, small.size()}, {large.data(), small.size()}, &op).ok());
  ASSERT_TRUE(turn_until([&] { return op.runs == 1 && b.side.writes[1] == 1; }));
  EXPECT_EQ(small[5], std::byte{9});
  EXPECT_EQ(a.rdma->metrics().bounced_bytes.get(), small.size());
}
}  // namespace
}  // namespace terrace
