// Goal: nodes that are down, die, freeze and come back cost the keys that lie there and nothing
// else; every operation over them completes once, by its deadline, and then touches no memory.
// Method: the real client and transport against three scripted nodes; one trouble at a time, then
// all of them with random operations over all nodes.
#include <gtest/gtest.h>

#include <map>

#include "client/nodes_fixture.h"

namespace terrace {
namespace {

class NodesLifeTest : public NodesFixture {
 protected:
  static constexpr uint64_t kBytes = 200'000;
  /// Numbers with keys on every node, all stored.
  std::vector<uint64_t> stored(uint64_t count) {
    std::vector<uint64_t> numbers;
    for (uint64_t number = 0; number < count; ++number) {
      store(number, kBytes);
      numbers.push_back(number);
    }
    return numbers;
  }
  /// All but the keys of `node` are whole; those have `code`.
  void expect_lost(const Completion& done, uint32_t node, StatusCode code) {
    ASSERT_FALSE(done.key_codes.empty());
    for (uint64_t number = 0; number < done.key_codes.size(); ++number) {
      if (owner(number) == node) {
        EXPECT_EQ(done.key_codes[number], code) << number;
      } else {
        EXPECT_EQ(done.key_codes[number], StatusCode::kOk) << number;
        EXPECT_TRUE(memory_is(number * kBytes, content(number, kBytes))) << number;
      }
    }
    EXPECT_EQ(done.status.code(), code) << done.status.to_string();
    EXPECT_NE(done.status.message().find(config_.endpoints[node]), std::string::npos)
        << done.status.to_string();
  }
};

TEST_F(NodesLifeTest, ANodeThatDiesInMidFetchCostsItsKeysOnly) {
  const std::vector<uint64_t> numbers = stored(60);
  nodes_[1]->set(Fault::dies_midway);
  const SystemClock clock;
  const Nanos begin = clock.now();
  const Completion done = finish(fetch(numbers, kBytes));
  EXPECT_LT(clock.now() - begin, seconds(5)) << "nobody waits for the deadline";
  uint32_t lost = 0;
  for (const uint64_t number : numbers) {
    const StatusCode code = done.key_codes.at(number);
    if (code == StatusCode::kOk) {
      EXPECT_TRUE(memory_is(number * kBytes, content(number, kBytes))) << number;
      continue;
    }
    EXPECT_EQ(code, StatusCode::kUnavailable);
    EXPECT_EQ(owner(number), 1u) << "another node's key is lost";
    ++lost;
  }
  EXPECT_GT(lost, 0u);
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable) << done.status.to_string();
}

TEST_F(NodesLifeTest, AFrozenNodeCostsItsKeysAndTheTimeUntilTheDeadline) {
  const std::vector<uint64_t> numbers = stored(60);
  nodes_[2]->set(Fault::frozen);
  FetchOptions options;
  options.deadline = milliseconds(400);
  const SystemClock clock;
  const Nanos begin = clock.now();
  const Completion done = finish(fetch(numbers, kBytes, options));
  EXPECT_GE(clock.now() - begin, milliseconds(400));
  EXPECT_LT(clock.now() - begin, seconds(3));
  expect_lost(done, 2, StatusCode::kDeadlineExceeded);
  EXPECT_EQ(client_->statistics().expired, 1u);
  // It wakes up: the late bytes find no memory.
  std::fill(memory_.begin(), memory_.end(), kGuard);
  nodes_[2]->set(Fault::none);
  LookupOptions in_order;
  EXPECT_TRUE(finish(client_->lookup(ns_, keys_of(numbers_on(2, 1)), in_order)).status.ok());
  EXPECT_TRUE(guarded(0, kMemoryBytes));
}

TEST_F(NodesLifeTest, KeysOfASkippedNodeFailAtOnceAndTheOthersDoNotWait) {
  const std::vector<uint64_t> numbers = stored(60);
  client_.reset();
  unlist(1);
  const SystemClock clock;
  Nanos begin = clock.now();
  open();
  EXPECT_LT(clock.now() - begin, seconds(4));
  EXPECT_FALSE(client_->nodes().at(1).up);
  EXPECT_TRUE(client_->nodes().at(0).up);
  EXPECT_EQ(client_->nodes().at(2).endpoint, "c:3");
  begin = clock.now();
  const auto op = fetch(numbers, kBytes);
  const Completion done = finish(op);
  EXPECT_LT(clock.now() - begin, seconds(3));
  expect_lost(done, 1, StatusCode::kUnavailable);
  EXPECT_EQ(client_->layers_ready(*op), 1u) << "for the keys that could be had";
  const auto refused = fetch(numbers_on(1, 5), kBytes);
  EXPECT_EQ(refused.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.status().message().find("b:2"), std::string::npos);
  const Completion found = finish(client_->lookup(ns_, keys_of(numbers), {}));
  for (const uint64_t number : numbers) {
    EXPECT_EQ(found.keys.at(number).code,
              owner(number) == 1 ? StatusCode::kUnavailable : StatusCode::kOk);
  }
  // It comes back, and gets the namespace it missed.
  revive(1);
  ASSERT_TRUE(until(1, true));
  const Completion all = finish(fetch(numbers, kBytes));
  EXPECT_TRUE(all.status.ok()) << all.status.to_string();
}

TEST_F(NodesLifeTest, ANodeThatCameBackHasItsKeysAgain) {
  const std::vector<uint64_t> numbers = stored(30);
  for (uint32_t round = 0; round < 5; ++round) {
    kill(round % kNodes);
    ASSERT_TRUE(until(round % kNodes, false));
    FetchOptions options;
    options.deadline = milliseconds(3000);
    const Completion without = finish(fetch(numbers, kBytes, options));
    expect_lost(without, round % kNodes, StatusCode::kUnavailable);
    revive(round % kNodes);
    ASSERT_TRUE(until(round % kNodes, true));
    const Completion with = finish(fetch(numbers, kBytes));
    EXPECT_TRUE(with.status.ok()) << with.status.to_string();
  }
  EXPECT_EQ(client_->statistics().reconnects, 5u);
}

TEST_F(NodesLifeTest, ANodeLostInAHoleIsNotWaitedFor) {
  const std::vector<uint64_t> numbers = stored(30);
  {
    const std::lock_guard lock(controls_[2]->mutex);
    controls_[2]->hangs = true;
  }
  nodes_[2]->drop_peers();
  ASSERT_TRUE(until(2, false));
  // A probe takes two seconds to come to nothing.
  const Completion done = finish(fetch(numbers, kBytes));
  EXPECT_LT(done.elapsed, seconds(1));
  expect_lost(done, 2, StatusCode::kUnavailable);
}

TEST_F(NodesLifeTest, ACancelledOperationIsQuietOnAllNodes) {
  const std::vector<uint64_t> numbers = stored(60);
  for (const auto& node : nodes_) node->set(Fault::frozen);
  const auto op = fetch(numbers, kBytes);
  EXPECT_EQ(client_->unregister_memory(region_).code(), StatusCode::kFailedPrecondition);
  client_->cancel(*op);
  const Completion done = finish(op);
  EXPECT_EQ(done.status.code(), StatusCode::kCancelled) << done.status.to_string();
  EXPECT_EQ(done.key_codes, std::vector<StatusCode>(60, StatusCode::kCancelled));
  for (const auto& node : nodes_) node->set(Fault::none);
  const Completion after = finish(client_->lookup(ns_, keys_of(numbers), {}));
  EXPECT_TRUE(after.status.ok());
  EXPECT_TRUE(guarded(0, kMemoryBytes));
  for (const auto& node : nodes_) EXPECT_EQ(node->cancels(), 1u);
  EXPECT_TRUE(client_->unregister_memory(region_).ok());
}

TEST_F(NodesLifeTest, CloseEndsJoinedOperationsOnce) {
  const std::vector<uint64_t> numbers = stored(30);
  nodes_[0]->set(Fault::frozen);
  std::vector<OpId> ops;
  for (int i = 0; i < 5; ++i) ops.push_back(*client_->lookup(ns_, keys_of(numbers), {}));
  ops.push_back(*fetch(numbers, kBytes));
  client_->close();
  std::vector<Completion> out(100);
  ASSERT_EQ(client_->drain(out), ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(out[i].status.code(), StatusCode::kCancelled) << out[i].status.to_string();
  }
}

TEST_F(NodesLifeTest, OpenNeedsOneNodeAndNamespacesNeedNoContradiction) {
  client_.reset();
  for (uint32_t n = 0; n < kNodes; ++n) unlist(n);
  const auto nobody = Client::open(config_, FakeControl::channels(controls_));
  EXPECT_EQ(nobody.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(nobody.status().message().find(":"), std::string::npos) << "names a node";
  revive(2);
  open();
  revive(0);
  ASSERT_TRUE(until(0, true));
  {
    const std::lock_guard lock(controls_[0]->mutex);
    controls_[0]->refuse_namespace = error(StatusCode::kFailedPrecondition, "dtype differs");
  }
  Fingerprint other;
  other.model_id = "other";
  const auto refused = client_->open_namespace("other", other);
  EXPECT_EQ(refused.status().code(), StatusCode::kFailedPrecondition)
      << "one node that says no outweighs the others";
  EXPECT_EQ(client_->nodes().size(), kNodes);
}

TEST_F(NodesLifeTest, ANamespaceThatOneNodeMissedComesToItWhileItsSessionLives) {
  const auto answer = [&](const Status& status) {
    const std::lock_guard lock(controls_[1]->mutex);
    controls_[1]->refuse_namespace = status;
  };
  answer(error(StatusCode::kUnavailable, "the control call was lost"));
  Fingerprint raw;
  raw.model_id = "raw";
  const auto ns = client_->open_namespace("late", raw);
  ASSERT_TRUE(ns.ok()) << ns.status().to_string();
  const uint64_t number = numbers_on(1, 1)[0];
  store(number, 1000);
  EXPECT_EQ(finish(fetch({number}, 1000, {}, *ns)).status.code(), StatusCode::kUnavailable);
  ASSERT_TRUE(client_->nodes().at(1).up) << "the session is as it was";
  answer(ok_status());
  StatusCode code = StatusCode::kUnavailable;
  const SystemClock clock;
  for (const Nanos end = clock.now() + seconds(15); clock.now() < end && code != StatusCode::kOk;) {
    code = finish(fetch({number}, 1000, {}, *ns)).status.code();
  }
  EXPECT_EQ(code, StatusCode::kOk);
}

TEST_F(NodesLifeTest, RandomTroubleNeverCostsAnotherNodesKeys) {
  constexpr uint64_t kObject = 40'000;
  constexpr uint64_t kKeys = 24;
  constexpr uint64_t kSlot = kKeys * kObject;
  constexpr uint64_t kSlots = kMemoryBytes / kSlot;
  for (uint64_t number = 0; number < 3 * kKeys; ++number) store(number, kObject);
  struct Running {
    uint64_t slot;
    std::vector<uint64_t> numbers;
  };
  std::map<OpId, Running> running;
  Prng prng(17);
  const SystemClock clock;
  uint64_t started = 0, completed = 0, whole = 0;
  const auto drain = [&] {
    std::array<Completion, 8> out;
    for (size_t i = 0, n = client_->drain(out); i < n; ++i) {
      const auto found = running.find(out[i].op);
      ASSERT_NE(found, running.end()) << "completed twice";
      const Running& r = found->second;
      ASSERT_EQ(out[i].key_codes.size(), r.numbers.size());
      for (size_t k = 0; k < r.numbers.size(); ++k) {
        if (out[i].key_codes[k] != StatusCode::kOk) continue;
        ASSERT_TRUE(memory_is(r.slot * kSlot + k * kObject, content(r.numbers[k], kObject)));
        ++whole;
      }
      std::fill_n(memory_.begin() + static_cast<ptrdiff_t>(r.slot * kSlot), kSlot, kGuard);
      running.erase(found);
      ++completed;
    }
  };
  const Fault faults[] = {Fault::none,        Fault::none,          Fault::wrong_crc,
                          Fault::reply_first, Fault::never_replies, Fault::missing_frame,
                          Fault::frozen,      Fault::dies_midway,   Fault::wrong_target};
  const Nanos give_up = clock.now() + seconds(40);
  // Deadlines are of real time: on a busy machine fewer keys come whole.
  while ((started < 300 || whole <= 500) && clock.now() < give_up) {
    if (prng.chance(6)) nodes_[prng.below(kNodes)]->set(faults[prng.below(std::size(faults))]);
    if (prng.chance(2)) nodes_[prng.below(kNodes)]->drop_peers();
    const uint64_t slot = prng.below(kSlots);
    const bool in_use = std::any_of(running.begin(), running.end(),
                                    [&](const auto& r) { return r.second.slot == slot; });
    if (!in_use) {
      Running next{slot, {}};
      std::vector<Fragment> places;
      std::vector<FetchItem> items(1 + prng.below(kKeys));
      for (size_t k = 0; k < items.size(); ++k) {
        next.numbers.push_back(prng.below(3 * kKeys));
        places.push_back({0, region_, slot * kSlot + k * kObject, kObject});
      }
      for (size_t k = 0; k < items.size(); ++k) {
        items[k].key = key_of(next.numbers[k]);
        items[k].fragments = {&places[k], 1};
      }
      FetchOptions options;
      options.deadline = milliseconds(1 + prng.below(150));
      const auto op = client_->fetch(ns_, items, options);
      if (op.ok()) {
        running[*op] = std::move(next);
        ++started;
        if (prng.chance(5)) client_->cancel(*op);
      }
    }
    drain();
    if (HasFatalFailure()) return;
  }
  for (const auto& node : nodes_) node->set(Fault::none);
  while (!running.empty() && clock.now() < give_up + seconds(10)) {
    drain();
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(running.empty());
  EXPECT_EQ(started, completed);
  EXPECT_GT(whole, 500u);
  EXPECT_TRUE(guarded(0, kMemoryBytes)) << "bytes were written after a completion";
}
}  // namespace
}  // namespace terrace
