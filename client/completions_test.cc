// Goal: each operation completes exactly once, through drain or through wait; the event descriptor
// is readable exactly while completions wait; everything is bounded.
// Method: direct calls, then random ones against a model, then two threads.
#include "client/completions.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <deque>
#include <set>
#include <thread>

#include "base/prng.h"

namespace terrace {
namespace {

using std::chrono::milliseconds;

bool readable(const Completions& completions) {
  pollfd event{completions.event_fd(), POLLIN, 0};
  return ::poll(&event, 1, 0) == 1;
}

Completion completion_of(OpId op, StatusCode code = StatusCode::kOk) {
  Completion completion;
  completion.op = op;
  completion.status = code;
  return completion;
}

TEST(Completions, BoundsAreNamedAndLiftedAgain) {
  Completions completions(2);
  const auto a = completions.begin();
  const auto b = completions.begin();
  ASSERT_TRUE(a.ok() && b.ok());
  const auto over = completions.begin();
  EXPECT_EQ(over.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(over.status().message().find("operations_max"), std::string::npos);
  completions.abandon(*a);
  completions.publish(completion_of(*b));
  // Nobody drains: 4 x 2 wait at most.
  int begun = 0;
  for (; begun < 100; ++begun) {
    const auto op = completions.begin();
    if (!op.ok()) break;
    completions.publish(completion_of(*op));
  }
  EXPECT_EQ(begun, 7);
  std::vector<Completion> out(100);
  EXPECT_EQ(completions.drain(out), 8u);
  EXPECT_TRUE(completions.begin().ok());
}

TEST(Completions, RandomCallsMatchAModel) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    Completions completions(4);
    std::vector<OpId> live;
    std::deque<OpId> waiting;
    std::set<OpId> taken;
    for (int step = 0; step < 300; ++step) {
      switch (prng.below(5)) {
        case 0: {
          const auto op = completions.begin();
          ASSERT_EQ(op.ok(), live.size() < 4 && live.size() + waiting.size() < 16);
          if (op.ok()) {
            ASSERT_FALSE(taken.contains(*op)) << "an id came back";
            live.push_back(*op);
          }
          break;
        }
        case 1:
          if (!live.empty()) {
            const size_t i = prng.below(live.size());
            completions.publish(completion_of(live[i]));
            waiting.push_back(live[i]);
            live.erase(live.begin() + static_cast<ptrdiff_t>(i));
          }
          break;
        case 2: {
          std::vector<Completion> out(prng.below(3));
          const size_t n = completions.drain(out);
          ASSERT_EQ(n, std::min(out.size(), waiting.size()));
          for (size_t i = 0; i < n; ++i) {
            ASSERT_EQ(out[i].op, waiting.front()) << "oldest first";
            taken.insert(waiting.front());
            waiting.pop_front();
          }
          break;
        }
        case 3:
          if (!waiting.empty()) {
            const size_t i = prng.below(waiting.size());
            const OpId op = waiting[i];
            ASSERT_TRUE(completions.wait(op, milliseconds(0)).ok());
            ASSERT_EQ(completions.wait(op, milliseconds(0)).status().code(), StatusCode::kNotFound);
            waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(i));
            taken.insert(op);
          }
          break;
        default:
          if (!live.empty()) {
            ASSERT_EQ(completions.wait(live[0], milliseconds(0)).status().code(),
                      StatusCode::kDeadlineExceeded);
          }
      }
      ASSERT_EQ(readable(completions), !waiting.empty());
    }
  }
}

TEST(Completions, LayersGrowAndEndWithTheOperationsOwnCode) {
  Completions completions(4);
  const OpId op = *completions.begin();
  EXPECT_EQ(completions.layers(op), 0u);
  completions.set_layers(op, 3);
  EXPECT_EQ(completions.layers(op), 3u);
  EXPECT_TRUE(completions.wait_layer(op, 2, milliseconds(0)).ok());
  EXPECT_EQ(completions.wait_layer(op, 3, milliseconds(0)).code(), StatusCode::kDeadlineExceeded);
  completions.publish(completion_of(op, StatusCode::kDataLoss));
  EXPECT_TRUE(completions.wait_layer(op, 2, milliseconds(0)).ok());
  EXPECT_EQ(completions.wait_layer(op, 3, milliseconds(0)).code(), StatusCode::kDataLoss);
  ASSERT_TRUE(completions.wait(op, milliseconds(0)).ok());
  EXPECT_EQ(completions.wait_layer(op, 3, milliseconds(0)).code(), StatusCode::kNotFound);
  EXPECT_EQ(completions.layers(OpId{12345}), 0u);
  EXPECT_EQ(completions.layers(OpId{~uint64_t{0}}), 0u);
}

TEST(Completions, SourcesAreCheckedAgainstThePut) {
  Completions completions(4);
  const OpId put = *completions.begin({3, 1});
  EXPECT_TRUE(completions.check_source(put, 0, 0, 3).ok());
  EXPECT_TRUE(completions.check_source(put, 1, 0, 1).ok());
  for (const auto& [item, first, count] :
       {std::array<uint32_t, 3>{2, 0, 1}, {0, 3, 1}, {0, 1, 3}, {0, 0, 0}, {0, 1, ~0u}}) {
    EXPECT_EQ(completions.check_source(put, item, first, count).code(),
              StatusCode::kInvalidArgument);
  }
  const OpId other = *completions.begin();
  EXPECT_EQ(completions.check_source(other, 0, 0, 1).code(), StatusCode::kNotFound);
  completions.publish(completion_of(put));
  EXPECT_EQ(completions.check_source(put, 0, 0, 1).code(), StatusCode::kNotFound);
}

TEST(Completions, AnotherThreadsWaitersWake) {
  Completions completions(64);
  constexpr int kRounds = 2000;
  std::vector<OpId> ops;
  for (int i = 0; i < 64; ++i) ops.push_back(*completions.begin());
  std::thread loop([&] {
    for (int i = 0; i < kRounds; ++i) completions.set_layers(ops[0], static_cast<uint32_t>(i) + 1);
    for (const OpId op : ops) completions.publish(completion_of(op));
  });
  for (uint32_t layer = 0; layer < kRounds; layer += 97) {
    ASSERT_TRUE(completions.wait_layer(ops[0], layer, milliseconds(10'000)).ok());
  }
  for (const OpId op : ops) ASSERT_TRUE(completions.wait(op, milliseconds(10'000)).ok());
  loop.join();
  EXPECT_FALSE(readable(completions));
}
TEST(Completions, LostKeysAreNamedBeforeTheLayersPassThem) {
  Completions completions(2);
  const OpId op = *completions.begin();
  completions.set_layers(op, 2);
  EXPECT_TRUE(completions.keys_lost(op)->empty());
  completions.lose(op, std::vector<uint32_t>{7, 3}, error(StatusCode::kUnavailable, "node b died"));
  completions.lose(op, std::vector<uint32_t>{1}, error(StatusCode::kDataLoss, "later"));
  EXPECT_EQ(*completions.keys_lost(op), (std::vector<uint32_t>{1, 3, 7}));
  EXPECT_EQ(completions.layers(op), 2u);
  EXPECT_EQ(completions.wait_layer(op, 1, milliseconds(10)).message(), "node b died")
      << "it is whole, but no longer for all keys";
  EXPECT_EQ(completions.wait_layer(op, 2, milliseconds(10)).code(), StatusCode::kDeadlineExceeded);
  completions.set_layers(op, 5);
  EXPECT_EQ(completions.layers(op), 5u);
  EXPECT_EQ(completions.wait_layer(op, 4, milliseconds(10)).code(), StatusCode::kUnavailable);
  Completion completion = completion_of(op);
  completion.key_codes = {StatusCode::kOk, StatusCode::kNotFound, StatusCode::kOk};
  completions.publish(std::move(completion));
  EXPECT_EQ(*completions.keys_lost(op), std::vector<uint32_t>{1}) << "the codes have the last word";
  EXPECT_TRUE(completions.wait(op, milliseconds(0)).ok());
  EXPECT_EQ(completions.keys_lost(op).status().code(), StatusCode::kNotFound)
      << "taken: no list is not an empty list";
  const OpId next = *completions.begin();
  completions.set_layers(next, 1);
  EXPECT_TRUE(completions.wait_layer(next, 0, milliseconds(10)).ok()) << "a slot forgets";
}

TEST(Completions, AnEngineMayClearTheEventItself) {
  Completions completions(2);
  const auto op = completions.begin();
  completions.publish(completion_of(*op));
  uint64_t count = 0;
  ASSERT_EQ(::read(completions.event_fd(), &count, sizeof(count)), 8);
  std::array<Completion, 2> out;
  EXPECT_EQ(completions.drain(out), 1u);
  completions.publish(completion_of(*completions.begin()));
  EXPECT_TRUE(readable(completions)) << "it works on";
}

TEST(Completions, AnEngineThatClearsTheEventAndTakesSomeIsToldOfTheRest) {
  Completions completions(4);
  std::vector<OpId> ops;
  for (int i = 0; i < 3; ++i) ops.push_back(*completions.begin());
  for (const OpId op : ops) completions.publish(completion_of(op));
  const auto clear = [&completions] {
    uint64_t count = 0;
    return ::read(completions.event_fd(), &count, sizeof(count)) == sizeof(count);
  };
  std::array<Completion, 1> out;
  ASSERT_TRUE(clear());
  EXPECT_EQ(completions.drain(out), 1u);
  EXPECT_TRUE(readable(completions));
  ASSERT_TRUE(clear());
  EXPECT_TRUE(completions.wait(ops[1], milliseconds(0)).ok());
  EXPECT_TRUE(readable(completions));
  EXPECT_EQ(completions.drain(out), 1u);
  EXPECT_FALSE(readable(completions));
}
}  // namespace
}  // namespace terrace
