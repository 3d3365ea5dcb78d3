// Goal: an RDMA peer that lies ends itself and nobody else, whatever it says or writes; half-made
// sessions end by our timers; registered memory is never copied on the way.
// Method: bare queue pairs that send hand-made frames and immediates to a transport, beside an
// honest peer that must still be served afterwards. Runs where there is an RDMA device.
#include <sys/mman.h>

#include "base/limits.h"
#include "tests/rdma/rdma_world.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

class RdmaTransportTest : public RdmaWorld {
 protected:
  void SetUp() override {
    RdmaWorld::SetUp();
    if (IsSkipped()) return;
    RdmaOptions options;
    options.handshake_timeout = milliseconds(300);
    options.paths_max = 1;
    start(options, options);
    const StatusOr<RegionId> made = b.side.register_region(memory);
    ASSERT_TRUE(made.ok());
    region = *made;
  }
  void TearDown() override {
    for (auto& raw : raws) {
      raw->close();
      EXPECT_TRUE(turn_until([&] { return raw->drained(); }));
    }
    raws.clear();
  }
  /// Accepted by b, and greeted when `greet`. On a's loop.
  RawRdmaPeer* raw_peer(bool greet = true) {
    raws.push_back(std::make_unique<RawRdmaPeer>(a.side.loop.get()));
    RawRdmaPeer* raw = raws.back().get();
    const int who = 100 + static_cast<int>(raws.size());
    const auto answered = b.rdma->accept(secret_of(who), raw->endpoint());
    EXPECT_TRUE(answered.ok()) << answered.status().to_string();
    raw->connect(answered->endpoint);
    if (greet) {
      raw->send({.type = RdmaRecordType::hello}, secret_of(who));
      EXPECT_TRUE(turn_until([&] { return raw->got.contains(RdmaRecordType::hello_ok); }));
    }
    return raw;
  }
  void expect_served(PeerId peer) {
    std::vector<std::byte> bytes(kMiB, std::byte{3});
    CountingOp op;
    const int before = b.side.writes[77];
    a.side.peer = peer;
    ASSERT_TRUE(a.side.write(77, {region, 0, kMiB}, {bytes.data(), bytes.size()}, &op).ok());
    EXPECT_TRUE(turn_until([&] { return op.runs == 1 && b.side.writes[77] == before + 1; }));
    EXPECT_EQ(memory[kMiB - 1], std::byte{3});
    memory[kMiB - 1] = std::byte{0};
  }
  std::vector<std::byte> table(uint64_t offset, uint64_t length) const {
    std::vector<std::byte> out(kRemoteSpanBytes);
    const RemoteSpan span{region, offset, length};
    encode({&span, 1}, out);
    return out;
  }
  RdmaRecord ask(uint64_t id, RdmaRecordType type = RdmaRecordType::write) const {
    return {.type = type, .count = 1, .tag = 5, .id = id, .unfinished = 1, .bytes = 8};
  }
  std::vector<std::byte> memory = std::vector<std::byte>(kMiB);
  RegionId region{};
  std::vector<std::unique_ptr<RawRdmaPeer>> raws;
};

TEST_F(RdmaTransportTest, TheExchangeRefusesWhatItMust) {
  const auto asked = a.rdma->open(secret_of(1));
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(b.rdma->accept(secret_of(1), "noise").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(b.rdma->accept(secret_of(1), "").status().code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(b.rdma->accept(secret_of(1), asked->endpoint).ok());
  EXPECT_EQ(b.rdma->accept(secret_of(1), asked->endpoint).status().code(),
            StatusCode::kAlreadyExists);
  CountingOp op;
  EXPECT_EQ(a.rdma->establish(PeerId{12345}, asked->endpoint, clock.now(), &op).code(),
            StatusCode::kNotFound);
  EXPECT_EQ(a.rdma->establish(asked->peer, "noise", clock.now(), &op).code(),
            StatusCode::kInvalidArgument);
  // The offer is forgotten with it.
  EXPECT_EQ(a.rdma->establish(asked->peer, asked->endpoint, clock.now(), &op).code(),
            StatusCode::kNotFound);
  EXPECT_EQ(op.runs, 0);
  EXPECT_EQ(a.rdma->metrics().peers.get(), 0u);
  const auto given_up = a.rdma->open(secret_of(2));
  a.rdma->close_peer(given_up->peer, StatusCode::kCancelled);
  EXPECT_TRUE(turn_until([&] { return a.rdma->metrics().peers.get() == 0; }));
  EXPECT_EQ(a.side.closes + b.side.closes, 0);
}

TEST_F(RdmaTransportTest, HalfMadeSessionsTimeOut) {
  const auto asked = a.rdma->open(secret_of(1));
  ASSERT_TRUE(b.rdma->accept(secret_of(1), asked->endpoint).ok());
  EXPECT_TRUE(turn_until([&] { return b.rdma->metrics().peers.get() == 0; }));
  EXPECT_EQ(b.side.peer, PeerId{});
  // And the caller's, by its deadline: nobody answers there.
  RawRdmaPeer mute(a.side.loop.get());
  CountingOp op;
  ASSERT_TRUE(
      a.rdma->establish(asked->peer, mute.endpoint(), clock.now() + milliseconds(200), &op).ok());
  ASSERT_TRUE(turn_until([&] { return op.runs == 1; }));
  EXPECT_EQ(op.result.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(a.side.closes + b.side.closes, 0);
  mute.close();
  EXPECT_TRUE(turn_until([&] { return mute.drained(); }));
  connect(1);  // the secret may still be used
}

TEST_F(RdmaTransportTest, HostileRecordsEndTheirSenderOnly) {
  using enum RdmaRecordType;
  const PeerId honest = connect(1);
  struct Case {
    const char* name;
    std::function<void(RawRdmaPeer*)> act;
  };
  const std::vector<Case> cases{
      {"another length",
       [&](RawRdmaPeer* raw) {
         raw->send_frame({.bytes = 3, .sequence = 2}, std::vector<std::byte>(9));
       }},
      {"a frame is missing", [&](RawRdmaPeer* raw) { raw->send_frame({.sequence = 9}, {}); }},
      {"acknowledges the future",
       [&](RawRdmaPeer* raw) { raw->send_frame({.acknowledged = 1000}, {}); }},
      {"noise",
       [&](RawRdmaPeer* raw) {
         raw->send_frame({.bytes = 99, .sequence = ++raw->sequence},
                         std::vector<std::byte>(99, std::byte{0xEE}));
       }},
      {"second hello", [&](RawRdmaPeer* raw) { raw->send({.type = hello}, secret_of(0)); }},
      {"out of order", [&](RawRdmaPeer* raw) { raw->send(ask(2), table(0, 8)); }},
      {"past the region", [&](RawRdmaPeer* raw) { raw->send(ask(1), table(kMiB - 4, 8)); }},
      {"overflow", [&](RawRdmaPeer* raw) { raw->send(ask(1), table(UINT64_MAX - 2, 8)); }},
      {"another length", [&](RawRdmaPeer* raw) { raw->send(ask(1, read), table(0, 9)); }},
      {"finishes the future",
       [&](RawRdmaPeer* raw) { raw->send({.type = finished, .id = 1, .unfinished = 50}); }},
      {"grant of nothing",
       [&](RawRdmaPeer* raw) {
         raw->send({.type = grant, .count = 1, .id = 1, .argument = 1}, std::vector<std::byte>(16));
       }},
      {"no such path",
       [&](RawRdmaPeer* raw) { raw->send({.type = lane, .path = 3, .id = 2, .argument = 5}); }},
      {"lane out of turn",
       [&](RawRdmaPeer* raw) { raw->send({.type = lane, .id = 7, .argument = 5}); }},
      {"no such lane",
       [&](RawRdmaPeer* raw) { raw->send({.type = lane, .id = 2, .argument = 0xFFFFFFFF}); }},
      {"too many transfers",
       [&](RawRdmaPeer* raw) {
         for (uint64_t id = 1; id <= kRdmaTransfers + 1; ++id) {
           raw->send(ask(id), table(0, 8));
           EXPECT_TRUE(turn_until([&] { return raw->statuses.size() >= id; }));
         }
       }},
  };
  for (const Case& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    RawRdmaPeer* raw = raw_peer();
    const int closes = b.side.closes;
    hostile.act(raw);
    ASSERT_TRUE(turn_until([&] { return b.side.closes == closes + 1; }));
    EXPECT_TRUE(turn_until([&] { return raw->goodbye; }));
    expect_served(honest);
  }
  EXPECT_EQ(b.side.messages.size(), 0u);
}

TEST_F(RdmaTransportTest, APeerThatAsksAndNeverReadsDoesNotFillOurMemory) {
  RawRdmaPeer* raw = raw_peer();
  raw->deaf = true;
  std::vector<std::byte> table(kFramesFragmentsMax * kRemoteSpanBytes);
  encode(std::vector<RemoteSpan>(kFramesFragmentsMax, {region, 0, 1}), table);
  RdmaRecord record = ask(0);
  record.count = kFramesFragmentsMax;
  record.bytes = kFramesFragmentsMax;
  for (uint64_t id = 1; id < 8000 && b.side.closes == 0; ++id) {
    const size_t before = raw->statuses.size();
    record.id = record.unfinished = id;
    raw->send(record, table);
    raw->send({.type = RdmaRecordType::abandoned, .id = id, .unfinished = id});
    turn_until([&] { return raw->statuses.size() >= before + 2 || b.side.closes == 1; });
  }
  ASSERT_TRUE(turn_until([&] { return b.side.closes == 1; }));
  const auto& closes = b.rdma->metrics().closes;
  EXPECT_EQ(closes[static_cast<size_t>(CloseReason::full)].get(), 1u);
}

TEST_F(RdmaTransportTest, NothingIsHeardBeforeTheRightSecret) {
  RawRdmaPeer* early = raw_peer(false);
  early->send({.type = RdmaRecordType::message});
  RawRdmaPeer* wrong = raw_peer(false);
  wrong->send({.type = RdmaRecordType::hello}, secret_of(9));
  EXPECT_TRUE(turn_until([&] { return early->goodbye && wrong->goodbye; }));
  EXPECT_EQ(b.side.peer, PeerId{});
  EXPECT_TRUE(b.side.messages.empty());
}

TEST_F(RdmaTransportTest, AnImmediateCountsOnceAndOnlyForItsOwnGrant) {
  RawRdmaPeer* raw = raw_peer();
  raw->send(ask(1), table(16, 8));
  ASSERT_TRUE(turn_until([&] { return raw->grant.ok(); }));
  const RdmaGrantEntry place = (*raw->grant)[0];
  EXPECT_EQ(place.address, reinterpret_cast<uint64_t>(memory.data()) + 16);
  raw->write_immediate(0, 0, 0, 2);                      // a slot that is free
  raw->write_immediate(0, 0, 0, 1 + kRdmaTransfers);     // the slot, another generation
  raw->write_immediate(place.address, place.key, 8, 1);  // as granted
  raw->write_immediate(0, 0, 0, 1);                      // once more
  const auto& metrics = b.rdma->metrics();
  ASSERT_TRUE(turn_until([&] { return metrics.stale_immediates.get() == 3; }));
  EXPECT_EQ(b.side.writes[5], 1);
  EXPECT_EQ(b.side.closes, 0);
}

TEST_F(RdmaTransportTest, WithoutAGrantThereIsNoWayIn) {
  const PeerId honest = connect(1);
  RawRdmaPeer* raw = raw_peer();
  raw->write_immediate(reinterpret_cast<uint64_t>(memory.data()), 0x1234, 8, 1);
  ASSERT_TRUE(turn_until([&] {
    return std::count(raw->statuses.begin(), raw->statuses.end(), IBV_WC_REM_ACCESS_ERR) == 1;
  }));
  EXPECT_EQ(memory, std::vector<std::byte>(kMiB));
  expect_served(honest);
}

TEST_F(RdmaTransportTest, AGrantOfNoMemoryEndsThePeerThatGaveIt) {
  const PeerId honest = connect(1);
  RawRdmaPeer* raw = raw_peer();
  std::vector<std::byte> from(kMiB, std::byte{7});
  CountingOp op;
  ASSERT_TRUE(b.side.write(9, {RegionId{1}, 0, 8}, {from.data(), 8}, &op).ok());
  ASSERT_TRUE(turn_until([&] { return raw->got.contains(RdmaRecordType::write); }));
  RdmaGrantEntry entry = raw->grant_of_ours(8);
  entry.key ^= 0x5555;
  raw->send({.type = RdmaRecordType::grant, .count = 1, .id = 1, .unfinished = 1, .argument = 1},
            encode(std::span(&entry, 1)));
  ASSERT_TRUE(turn_until([&] { return op.runs == 1 && b.side.closes == 1; }));
  EXPECT_EQ(op.result.code(), StatusCode::kUnavailable);
  const auto& closes = b.rdma->metrics().closes;
  EXPECT_EQ(closes[static_cast<size_t>(CloseReason::bad_frame)].get(), 1u);
  expect_served(honest);
}

TEST_F(RdmaTransportTest, RegisteredMemoryIsNeverCopied) {
  connect(1);
  constexpr size_t kOps = 10'000;
  constexpr size_t kStride = 16 * kKiB;
  std::vector<std::byte> local(16 * kMiB);
  std::vector<std::byte> remote(16 * kMiB);
  Prng prng(5);
  prng.fill(local);
  a.side.transport->expect_memory(local);
  ASSERT_TRUE(turn_until([&] { return a.rdma->metrics().registrations_flying.get() == 0; }));
  const StatusOr<RegionId> there = b.side.register_region(remote);
  ASSERT_TRUE(there.ok());
  std::vector<std::unique_ptr<CountingOp>> ops;
  std::vector<std::byte> model(16 * kMiB);
  for (size_t i = 0; i < kOps; ++i) {
    const size_t at = i % (remote.size() / kStride) * kStride;
    const size_t bytes = 1 + prng.below(kStride);
    const size_t from = prng.below(local.size() - bytes);
    std::copy_n(local.begin() + static_cast<long>(from), bytes,
                model.begin() + static_cast<long>(at));
    ops.push_back(std::make_unique<CountingOp>());
    CountingOp* op = ops.back().get();
    Status status;
    ASSERT_TRUE(turn_until([&] {
      // The place is written again only after the write before it: they may overtake each other.
      if (i >= remote.size() / kStride && ops[i - remote.size() / kStride]->runs == 0) return false;
      status = a.side.write(i, {*there, at, bytes}, {local.data() + from, bytes}, op);
      return status.code() != StatusCode::kResourceExhausted;
    }));
    ASSERT_TRUE(status.ok());
  }
  ASSERT_TRUE(turn_until([&] { return b.side.writes.size() == kOps && ops.back()->runs == 1; }))
      << b.side.writes.size() << " landed, last " << ops.back()->runs << ", resets "
      << a.rdma->metrics().lane_resets.get() << " of " << b.rdma->metrics().lane_resets.get()
      << ", stale " << b.rdma->metrics().stale_immediates.get() << ", grants "
      << b.rdma->metrics().grants.get();
  EXPECT_TRUE(model == remote);
  EXPECT_EQ(a.rdma->metrics().bounced_bytes.get(), 0u);
  EXPECT_EQ(b.rdma->metrics().bounced_bytes.get(), 0u);
  a.side.transport->forget_memory(local);
}

TEST_F(RdmaTransportTest, MessagesGoOnWhileTheCardLearnsMemory) {
  connect(1);
  std::vector<std::byte> large(256 * kMiB);
  const StatusOr<RegionId> slow = b.side.register_region(large);
  ASSERT_TRUE(slow.ok());
  b.side.transport->expect_memory(large);
  std::vector<std::byte> from(kMiB, std::byte{8});
  const StatusOr<RegionId> at_a = a.side.register_region(from);
  ASSERT_TRUE(at_a.ok());
  CountingOp into_flying;
  CountingOp out_of_flying;
  ASSERT_TRUE(a.side.write(1, {*slow, 0, kMiB}, {from.data(), kMiB}, &into_flying).ok());
  ASSERT_TRUE(b.side.write(2, {*at_a, 0, 8}, {large.data() + kMiB, 8}, &out_of_flying).ok());
  size_t round_trips = 0;
  const auto& flying = b.rdma->metrics().registrations_flying;
  while (flying.get() > 0 && round_trips < 10'000) {
    ASSERT_TRUE(a.side.transport->send_message(a.side.peer, {.body = {}}).ok());
    ASSERT_TRUE(turn_until([&] { return b.side.messages.size() == round_trips + 1; }));
    ASSERT_TRUE(b.side.transport->send_message(b.side.peer, {.body = {}}).ok());
    ASSERT_TRUE(turn_until([&] { return a.side.messages.size() == round_trips + 1; }));
    ++round_trips;
  }
  // Few on one CPU, which the software device's own work takes away for long.
  EXPECT_GE(round_trips, 1u);
  RecordProperty("round_trips", std::to_string(round_trips));
  ASSERT_TRUE(turn_until([&] { return into_flying.runs == 1 && b.side.writes[1] == 1; }));
  EXPECT_EQ(large[kMiB - 1], std::byte{8});
  ASSERT_TRUE(turn_until([&] { return out_of_flying.runs == 1; }));
  b.side.transport->forget_memory(large);
}

TEST_F(RdmaTransportTest, DeviceMemoryThatACardDoesNotTakeIsRefusedByName) {
  std::vector<std::byte> addresses(64 * kKiB);
  EXPECT_EQ(a.rdma->register_device_memory({-1, 0, addresses}).status().code(),
            StatusCode::kInvalidArgument);
  const Fd file(::memfd_create("no dmabuf", MFD_CLOEXEC));
  const StatusOr<RegionId> made = a.rdma->register_device_memory({file.get(), 0, addresses});
  ASSERT_TRUE(made.ok());
  CountingOp op;
  a.rdma->when_prepared(*made, &op);
  ASSERT_TRUE(turn_until([&] { return op.runs == 1; }));
  // The software device has no dmabufs; one that has them does not take a file of memory for one.
  EXPECT_TRUE(op.result.code() == StatusCode::kUnimplemented ||
              op.result.code() == StatusCode::kFailedPrecondition)
      << op.result.to_string();
  EXPECT_NE(op.result.message().find(rdma_devices().front()), std::string::npos)
      << op.result.to_string();
  RecordProperty("refusal", op.result.message());
  EXPECT_TRUE(a.rdma->unregister_region(*made).ok());
}

TEST_F(RdmaTransportTest, WritesWithLargeBodiesTakeTurns) {
  connect(1);
  std::vector<std::byte> from(8, std::byte{4});
  const std::vector<std::byte> body(kBodyBytesMax - kRemoteSpanBytes, std::byte{6});
  std::vector<std::unique_ptr<CountingOp>> ops;
  for (uint64_t i = 0; i < 12; ++i) {
    const RemoteSpan target{region, i * 8, 8};
    const iovec piece{from.data(), 8};
    ops.push_back(std::make_unique<CountingOp>());
    ASSERT_TRUE(a.side.transport
                    ->write(a.side.peer,
                            {.tag = i, .body = body, .targets = {&target, 1}, .from = {&piece, 1}},
                            ops.back().get())
                    .ok());
  }
  ASSERT_TRUE(turn_until([&] { return b.side.writes.size() == 12; }));
  for (uint64_t i = 0; i < 12; ++i) EXPECT_EQ(b.side.write_bodies[i], body);
}

TEST_F(RdmaTransportTest, ManyPeersShareTheQueuesOfOnePort) {
  for (int i = 1; i <= 30; ++i) connect(i);
  EXPECT_EQ(b.rdma->metrics().peers.get(), 30u);
  expect_served(a.side.peer);
}
}  // namespace
}  // namespace terrace
