// Goal: memory that a transport said is free is free: after a cancel, a quiesce, the end of a peer,
// with the peer alive or frozen.
// Method: transfers interrupted after a random number of turns; the memory is poisoned the moment
// it is said to be free, and looked at again when everything else is through.
#include "base/limits.h"
#include "tests/contract/transport_pair.h"

namespace terrace {
namespace {

constexpr std::byte kPoison{0xA5};

TEST_P(TransportContract, ACancelledWriteFreesItsMemoryThoughThePeerIsFrozen) {
  open();
  Prng prng(3);
  std::vector<std::byte> at_b(40 * kMiB, kPoison);
  const StatusOr<RegionId> region = b.register_region(at_b);
  ASSERT_TRUE(region.ok());
  const std::vector<std::byte> truth = random_bytes(&prng, kMiB);
  std::vector<std::vector<std::byte>> local;
  std::vector<std::unique_ptr<CountingOp>> ops;
  for (uint64_t i = 0; i < 40; ++i) {
    local.push_back(truth);
    ops.push_back(std::make_unique<CountingOp>());
    const RemoteSpan target{*region, i * kMiB, kMiB};
    const iovec from{local[i].data(), kMiB};
    ASSERT_TRUE(a.transport
                    ->write(a.peer,
                            {.tag = i, .body = {}, .targets = {&target, 1}, .from = {&from, 1}},
                            ops[i].get())
                    .ok());
  }
  for (int i = 0; i < 50; ++i) a.loop->turn(Nanos(0));
  EXPECT_GT(a.transport->queued_bytes(a.peer), 0u);
  for (auto& op : ops) a.transport->cancel(op.get());
  ASSERT_TRUE(turn_a_until([&] {
    return std::all_of(ops.begin(), ops.end(), [](const auto& op) { return op->runs == 1; });
  }));
  int cancelled = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    std::fill(local[i].begin(), local[i].end(), std::byte{0xEE});
    cancelled += ops[i]->result.code() == StatusCode::kCancelled;
  }
  EXPECT_GT(cancelled, 0);
  if (!a.transport->send_message(a.peer, {})
           .ok()) {  // a transport may have no other way to free memory
    ASSERT_TRUE(turn_until([&] { return a.closes == 1; }));
    return;
  }
  CountingOp last;
  ASSERT_TRUE(a.signal(99, &last).ok());
  ASSERT_TRUE(turn_until([&] {
    return b.writes.contains(99) && static_cast<int>(b.writes.size()) == 41 - cancelled;
  }));
  for (uint64_t i = 0; i < 40; ++i) {
    const std::byte* got = at_b.data() + i * kMiB;
    EXPECT_EQ(ops[i]->result.ok(), b.writes.contains(i));
    if (ops[i]->result.ok()) {
      EXPECT_TRUE(std::equal(truth.begin(), truth.end(), got)) << i;
    } else {
      EXPECT_EQ(std::count(got, got + kMiB, kPoison), static_cast<long>(kMiB)) << i;
    }
  }
}

TEST_P(TransportContract, ACancelledReadTouchesItsMemoryNoMore) {
  open();
  std::vector<std::byte> at_b(kMiB, std::byte{1});
  const StatusOr<RegionId> region = b.register_region(at_b);
  ASSERT_TRUE(region.ok());
  int cancelled = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> into(kMiB);
    const RemoteSpan source{*region, 0, kMiB};
    const iovec piece{into.data(), kMiB};
    CountingOp read;
    CountingOp next;
    ASSERT_TRUE(
        a.transport
            ->read(a.peer, {.tag = seed, .sources = {&source, 1}, .into = {&piece, 1}}, &read)
            .ok());
    turn_random(&prng, 30);
    a.transport->cancel(&read);
    // Half of the time the peer is frozen from here on.
    const auto done = [&] { return read.runs == 1; };
    ASSERT_TRUE(prng.chance(50) ? turn_a_until(done) : turn_until(done));
    cancelled += read.result.code() == StatusCode::kCancelled;
    std::fill(into.begin(), into.end(), kPoison);
    std::vector<std::byte> good(kMiB);
    const iovec other{good.data(), kMiB};
    ASSERT_TRUE(a.read(0, source, other, &next).ok());
    ASSERT_TRUE(turn_until([&] { return next.runs == 1; }));
    ASSERT_TRUE(next.result.ok()) << next.result.to_string();
    EXPECT_TRUE(good == at_b);
    EXPECT_EQ(std::count(into.begin(), into.end(), kPoison), static_cast<long>(kMiB));
    EXPECT_EQ(read.runs, 1);
  }
  EXPECT_GT(cancelled, 20);
}

TEST_P(TransportContract, AfterAQuiesceNoByteIsWritten) {
  open();
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> memory(2 * kMiB);
    std::vector<std::byte> local(kMiB, std::byte{1});
    const StatusOr<RegionId> region = a.register_region(memory);
    ASSERT_TRUE(region.ok());
    std::vector<std::unique_ptr<CountingOp>> ops;
    for (uint64_t i = 0; i < 6; ++i) {
      ops.push_back(std::make_unique<CountingOp>());
      const RemoteSpan target{*region, (i % 2) * kMiB, kMiB};
      const iovec from{local.data(), kMiB};
      ASSERT_TRUE(
          b.transport
              ->write(b.peer,
                      {.tag = seed, .body = {}, .targets = {&target, 1}, .from = {&from, 1}},
                      ops.back().get())
              .ok());
    }
    turn_random(&prng, 60);
    a.refused.insert(seed);
    CountingOp quiet;
    a.transport->quiesce(a.peer, seed, &quiet);
    ASSERT_EQ(quiet.runs, 0);
    const auto done = [&] { return quiet.runs == 1; };
    ASSERT_TRUE(prng.chance(50) ? turn_a_until(done) : turn_until(done));
    EXPECT_TRUE(quiet.result.ok());
    std::fill(memory.begin(), memory.end(), kPoison);
    // Late frames name a region gone.
    EXPECT_TRUE(turn_a_until([&] { return a.transport->unregister_region(*region).ok(); }));
    CountingOp last;
    ASSERT_TRUE(b.signal(0, &last).ok());
    ASSERT_TRUE(turn_until([&] {
      return a.writes[0] == static_cast<int>(seed) &&
             std::all_of(ops.begin(), ops.end(), [](const auto& op) { return op->runs == 1; });
    }));
    for (int i = 0; i < 50; ++i) turn();
    EXPECT_EQ(std::count(memory.begin(), memory.end(), kPoison), static_cast<long>(2 * kMiB));
  }
  EXPECT_EQ(a.closes + b.closes, 0);
}

TEST_P(TransportContract, APeersEndFailsEverythingOnceAndIsToldLast) {
  for (const bool by_us : {false, true}) {
    SCOPED_TRACE(by_us ? "closed here" : "closed there");
    if (a.transport) TearDown();
    a.closes = b.closes = 0;
    a.peer = b.peer = PeerId{};
    open();
    std::vector<std::byte> memory(kMiB);
    const StatusOr<RegionId> region = b.register_region(memory);
    ASSERT_TRUE(region.ok());
    const RemoteSpan span{*region, 0, kMiB};
    const iovec piece{memory.data(), kMiB};
    std::vector<std::unique_ptr<CountingOp>> ops;
    for (int i = 0; i < 30; ++i) {
      ops.push_back(std::make_unique<CountingOp>());
      CountingOp* op = ops.back().get();
      const Status started = i % 2 == 0 ? a.write(1, span, piece, op) : a.read(1, span, piece, op);
      ASSERT_TRUE(started.ok());
    }
    CountingOp quiet;
    int at_close = 0;
    a.on_close = [&] {
      for (const auto& op : ops) at_close += op->runs;
    };
    for (int i = 0; i < 5; ++i) a.loop->turn(Nanos(0));
    a.transport->quiesce(a.peer, 1, &quiet);
    (by_us ? a : b).transport->close_peer((by_us ? a : b).peer, StatusCode::kAborted);
    EXPECT_EQ(a.closes + b.closes, 0);  // later
    ASSERT_TRUE(turn_until([&] { return a.closes == 1 && b.closes == 1; }));
    EXPECT_EQ(at_close, 30);
    int unavailable = 0;
    for (const auto& op : ops) {
      EXPECT_EQ(op->runs, 1);
      EXPECT_TRUE(op->result.ok() || op->result.code() == StatusCode::kUnavailable);
      unavailable += !op->result.ok();
    }
    EXPECT_GT(unavailable, 0);
    EXPECT_EQ(quiet.runs, 1);
    CountingOp late;
    EXPECT_EQ(a.transport
                  ->write(a.peer,
                          {.tag = 1, .body = {}, .targets = {&span, 1}, .from = {&piece, 1}}, &late)
                  .code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(a.transport->send_message(a.peer, {}).code(), StatusCode::kUnavailable);
    EXPECT_EQ(late.runs, 0);
    EXPECT_TRUE(turn_until([&] { return b.transport->unregister_region(*region).ok(); }));
    a.on_close = nullptr;
  }
}

}  // namespace
}  // namespace terrace
