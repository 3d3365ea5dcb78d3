// Goal: a client opens, loses its node, finds it again and closes, and no call ever hangs or lies
// about it; arguments are refused with a message that names the limit.
// Method: the real client and transport against a scripted node that dies, freezes and comes back.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "client/client_fixture.h"

namespace terrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Fault = FakeNode::Fault;

class ClientLifeTest : public ClientFixture {
 protected:
  /// Tries until the node answers again.
  Status until_up() {
    SystemClock clock;
    const Nanos give_up = clock.now() + seconds(15);
    Status last = StatusCode::kUnknown;
    while (clock.now() < give_up) {
      const auto op = client_->lookup(ns_, std::vector{key_of(1)}, {});
      if (op.ok()) {
        last = finish(op).status;
        if (last.ok()) break;
      } else {
        last = op.status();
      }
    }
    return last;
  }
};

TEST_F(ClientLifeTest, ReconnectsAndReopensAfterTheNodeDied) {
  stored(1, 1000);
  node_->set(Fault::frozen);
  const auto waiting = fetch(1, 1000, 0);
  node_->drop_peers();
  EXPECT_EQ(finish(waiting).status.code(), StatusCode::kUnavailable);
  node_->set(Fault::none);
  EXPECT_TRUE(until_up().ok());
  EXPECT_TRUE(finish(fetch(1, 1000, 0)).status.ok()) << "regions survive a reconnect";
  EXPECT_EQ(client_->statistics().reconnects, 1u);
  EXPECT_EQ(client_->nodes().at(0).node_id, "fake");
}

TEST_F(ClientLifeTest, ANodeThatDropsItsSessionsIsReconnectedToEverMoreSlowly) {
  const auto sessions = [this] {
    const std::lock_guard lock(control_->mutex);
    return control_->sessions;
  };
  const uint32_t enough = sessions() + 6;
  SystemClock clock;
  const Nanos begin = clock.now();
  while (sessions() < enough && clock.now() < begin + seconds(15)) node_->drop_peers();
  EXPECT_GE(sessions(), enough);
  // Half of 20, 40, 80, 160, 320 and 500 ms at least.
  EXPECT_GE(clock.now() - begin, milliseconds(560));
  EXPECT_TRUE(until_up().ok());
}

TEST_F(ClientLifeTest, ANodeThatIsGoneIsSkippedAtOnceAndProbed) {
  {
    const std::lock_guard lock(control_->mutex);
    control_->node = nullptr;
  }
  node_->drop_peers();
  SystemClock clock;
  const Nanos give_up = clock.now() + seconds(10);
  bool skipped = false;
  while (!skipped && clock.now() < give_up) {
    const auto op = client_->lookup(ns_, std::vector{key_of(1)}, {});
    skipped = op.status().code() == StatusCode::kUnavailable;
    if (op.ok()) {
      EXPECT_FALSE(finish(op).status.ok());
    }
  }
  ASSERT_TRUE(skipped);
  constexpr int kCalls = 1000;
  const Nanos begin = clock.now();
  for (int i = 0; i < kCalls; ++i) {
    ASSERT_EQ(client_->lookup(ns_, std::vector{key_of(1)}, {}).status().code(),
              StatusCode::kUnavailable);
  }
  EXPECT_LT((clock.now() - begin) / kCalls, std::chrono::microseconds(50));
  {
    const std::lock_guard lock(control_->mutex);
    control_->node = node_.get();
  }
  EXPECT_TRUE(until_up().ok());
}

TEST_F(ClientLifeTest, SilenceIsNoticedAndOperationsReturnByTheirDeadline) {
  node_->set(Fault::frozen);
  SystemClock clock;
  const Nanos begin = clock.now();
  std::vector<OpId> ops;
  LookupOptions options;
  options.deadline = milliseconds(300);
  for (int i = 0; i < 20; ++i) {
    ops.push_back(*client_->lookup(ns_, std::vector{key_of(1)}, options));
  }
  for (const OpId op : ops) {
    const StatusCode code = finish(op).status.code();
    EXPECT_TRUE(code == StatusCode::kDeadlineExceeded || code == StatusCode::kUnavailable);
  }
  EXPECT_LT(clock.now() - begin, seconds(2));
  node_->set(Fault::none);
  EXPECT_TRUE(until_up().ok());
}

TEST_F(ClientLifeTest, ANamespaceRefusedOnReconnectFailsItsOperationsOnly) {
  {
    const std::lock_guard lock(control_->mutex);
    control_->refuse_namespace = error(StatusCode::kFailedPrecondition, "dtype: \"a\" != \"b\"");
  }
  node_->drop_peers();
  SystemClock clock;
  StatusCode code = StatusCode::kOk;  // until the loss was noticed and the session is back
  for (const Nanos end = clock.now() + seconds(10);
       clock.now() < end && code != StatusCode::kFailedPrecondition;) {
    const auto op = client_->lookup(ns_, std::vector{key_of(1)}, {});
    if (op.ok()) code = finish(op).status.code();
  }
  EXPECT_EQ(code, StatusCode::kFailedPrecondition);
}

TEST_F(ClientLifeTest, LeasesOfAnOldSessionAreNotTheNewOnes) {
  LookupOptions leased;
  leased.lease = seconds(1);
  const Completion first = finish(client_->lookup(ns_, std::vector{key_of(1)}, leased));
  ASSERT_NE(first.lease, kNoLease);
  node_->drop_peers();
  ASSERT_TRUE(until_up().ok());
  SystemClock clock;
  LeaseId second = first.lease;
  for (const Nanos end = clock.now() + seconds(5); clock.now() < end && second == first.lease;) {
    const auto op = client_->lookup(ns_, std::vector{key_of(1)}, leased);
    if (!op.ok()) continue;
    const Completion done = finish(op);
    if (done.status.ok()) second = done.lease;
  }
  EXPECT_NE(second, first.lease) << "the node gave the same number in both sessions";
  client_->release(first.lease);
  client_->release(second);
}

TEST_F(ClientLifeTest, LeasesThatComeTooLateGoBack) {
  stored(1, 1000);
  const std::vector keys{key_of(1)};
  const GroupKeys group{keys, 0};
  LookupOptions leased;
  leased.lease = seconds(60);
  leased.deadline = milliseconds(50);
  node_->set(Fault::frozen);
  EXPECT_EQ(finish(client_->lookup(ns_, keys, leased)).status.code(),
            StatusCode::kDeadlineExceeded);
  EXPECT_EQ(finish(client_->match_prefix(ns_, {&group, 1}, leased)).status.code(),
            StatusCode::kDeadlineExceeded);
  node_->set(Fault::none);  // it answers now
  // The first one's answer is behind those that were late, the second is behind what they cost.
  finish(client_->lookup(ns_, keys, {}));
  finish(client_->lookup(ns_, keys, {}));
  EXPECT_EQ(node_->leases(), 2u);
  EXPECT_EQ(node_->releases(), 2u);
}

TEST_F(ClientLifeTest, CloseCompletesEverythingOnceAndIsIdempotent) {
  stored(1, 100'000);
  node_->set(Fault::frozen);
  std::vector<OpId> ops;
  for (uint64_t i = 0; i < 10; ++i) {
    ops.push_back(*fetch(1, 100'000, i * 200'000));
    ops.push_back(*put(100 + i, 50'000, i * 200'000 + 100'000));
    ops.push_back(*client_->lookup(ns_, std::vector{key_of(1)}, {}));
  }
  client_->close();
  client_->close();
  std::fill(memory_.begin(), memory_.end(), kGuard);
  std::vector<Completion> out(100);
  ASSERT_EQ(client_->drain(out), ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(out[i].status.code(), StatusCode::kCancelled) << out[i].status.to_string();
  }
  EXPECT_EQ(fetch(1, 10, 0).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(client_->register_memory(memory_).status().code(), StatusCode::kFailedPrecondition);
  node_->set(Fault::none);
  EXPECT_TRUE(guarded(0, kMemoryBytes));
}

TEST_F(ClientLifeTest, AForkedChildIsRefused) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool refused = client_->lookup(ns_, std::vector{key_of(1)}, {}).status().code() ==
                         StatusCode::kFailedPrecondition;
    client_->cancel(OpId{1});
    client_->close();
    client_.reset();
    ::_exit(refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(finish(client_->lookup(ns_, std::vector{key_of(1)}, {})).status.ok());
}

TEST_F(ClientLifeTest, AForkedChildTakesNothingFromItsParent) {
  const auto op = client_->lookup(ns_, std::vector{key_of(1)}, {});
  ASSERT_TRUE(op.ok());
  pollfd event{client_->event_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&event, 1, 10'000), 1);
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr StatusCode kRefused = StatusCode::kFailedPrecondition;
    std::vector<Completion> out(10);
    const bool kept_out = client_->drain(out) == 0 &&
                          client_->wait(*op, milliseconds(0)).status().code() == kRefused &&
                          client_->wait_layer(*op, 0, milliseconds(0)).code() == kRefused &&
                          client_->keys_lost(*op).status().code() == kRefused &&
                          client_->verify(ViewId{1}).code() == kRefused &&
                          !client_->view_valid(ViewId{1}) && client_->view_memory().empty() &&
                          client_->view_memory_version() == 0;
    ::_exit(kept_out ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(::poll(&event, 1, 0), 1) << "the parent's completion waits, and says so";
  EXPECT_TRUE(finish(op).status.ok());
}

TEST_F(ClientLifeTest, OpenTellsWhatIsWrong) {
  control_->node = nullptr;
  const auto nobody = Client::open({}, FakeControl::channels({&control_, 1}));
  EXPECT_EQ(nobody.status().code(), StatusCode::kUnavailable);
}

TEST_F(ClientLifeTest, OperationsInFlightAreBounded) {
  client_.reset();
  ClientConfig config;
  config.operations_max = 3;
  open(config);
  node_->set(Fault::frozen);
  std::vector<OpId> ops;
  for (int i = 0; i < 3; ++i) ops.push_back(*client_->lookup(ns_, std::vector{key_of(1)}, {}));
  const auto over = client_->lookup(ns_, std::vector{key_of(1)}, {});
  EXPECT_EQ(over.status().code(), StatusCode::kResourceExhausted);
  node_->set(Fault::none);
  for (const OpId op : ops) EXPECT_TRUE(finish(op).status.ok());
  pollfd event{client_->event_fd(), POLLIN, 0};
  const OpId last = *client_->lookup(ns_, std::vector{key_of(1)}, {});
  EXPECT_EQ(::poll(&event, 1, 10'000), 1);
  EXPECT_TRUE(finish(last).status.ok());
  EXPECT_EQ(::poll(&event, 1, 0), 0);
}

TEST_F(ClientLifeTest, ArgumentsAreRefusedWithTheLimit) {
  const auto says = [](const Status& status, const std::string& what) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
    EXPECT_NE(status.message().find(what), std::string::npos) << status.to_string();
  };
  const std::vector<ChunkKey> many(kKeysPerRequestMax + 1);
  says(client_->lookup(ns_, many, {}).status(), "512");
  says(client_->lookup(ns_, {}, {}).status(), "512");
  says(client_->erase(ns_, many, {}).status(), "512");
  says(client_->list(ns_, "", 513, {}).status(), "512");
  says(client_->list(ns_, "zz", 1, {}).status(), "cursor");
  const std::vector<GroupKeys> groups = {{{many.data(), 300}, 0}, {{many.data(), 300}, 0}};
  says(client_->match_prefix(ns_, groups, {}).status(), "512");
  LookupOptions lease;
  lease.lease = seconds(61);
  says(client_->lookup(ns_, {many.data(), 1}, lease).status(), "60000");
  OpOptions late;
  late.deadline = std::chrono::hours(2);
  says(client_->erase(ns_, {many.data(), 1}, late).status(), "3600000");
  says(client_->lookup(NamespaceId{77}, {many.data(), 1}, {}).status(), "77");
  says(client_->raw_key(ns_, std::string(1025, 'k')).status(), "1024");
  says(client_->prefix_keys(ns_, {}).status(), "raw");
  says(fetch(1, kMemoryBytes + 1, 0).status(), std::to_string(kMemoryBytes));
  says(fetch(1, 2, kMemoryBytes - 1).status(), std::to_string(kMemoryBytes));
  std::vector<Fragment> crumbs;
  for (uint64_t i = 0; i <= kFragmentsPerRequestMax; ++i) crumbs.push_back({i, region_, i, 1});
  FetchItem item{key_of(1), crumbs};
  says(client_->fetch(ns_, {&item, 1}, {}).status(), "65536");
  item.fragments = std::span(crumbs).first(kFragmentsPerRequestMax);
  says(client_->fetch(ns_, {&item, 1}, {}).status(), std::to_string(kBodyBytesMax - 64));
  const Fragment overlapping[] = {{0, region_, 0, 10}, {9, region_, 100, 10}};
  item.fragments = overlapping;
  says(client_->fetch(ns_, {&item, 1}, {}).status(), "overlaps");
  PutItem bad;
  const Fragment ten{0, region_, 0, 10};
  bad.fragments = {&ten, 1};
  says(client_->put(ns_, {&bad, 1}, {}).status(), "section table");
  const SectionSpec eleven{SectionKind::raw, Codec::identity, 0, 11};
  bad.sections = {&eleven, 1};
  says(client_->put(ns_, {&bad, 1}, {}).status(), "11");
  EXPECT_EQ(client_->statistics().operations, 0u);
}
}  // namespace
}  // namespace terrace
