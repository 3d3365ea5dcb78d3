// Goal: who registers memory hears what the slowest transport says, and a region that nobody waits
// for any more goes again. Method: a transport that prepares when the test says so; one thread.
#include "client/registering.h"

#include <gtest/gtest.h>

#include <utility>

#include "base/op.h"

namespace terrace {
namespace {

class SlowTransport final : public Transport {
 public:
  StatusOr<RegionId> register_region(std::span<std::byte>) override {
    if (!refusal.ok()) return refusal;
    ++regions;
    return RegionId{7};
  }
  void when_prepared(RegionId, Op* op) override { waiting = op; }
  Status unregister_region(RegionId) override {
    --regions;
    return ok_status();
  }
  void prepared(Status result) { std::exchange(waiting, nullptr)->done(std::move(result)); }

  bool region_in_use(RegionId) const override { return false; }
  void expect_memory(std::span<std::byte>) override {}
  void forget_memory(std::span<std::byte>) override {}
  Status send_message(PeerId, const Message&) override { return StatusCode::kUnavailable; }
  Status write(PeerId, const Write&, Op*) override { return StatusCode::kUnavailable; }
  Status read(PeerId, const Read&, Op*) override { return StatusCode::kUnavailable; }
  void cancel(Op*) override {}
  void quiesce(PeerId, uint64_t, Op*) override {}
  uint64_t queued_bytes(PeerId) const override { return 0; }
  void close_peer(PeerId, Status) override {}
  void close(Op*) override {}

  Status refusal;
  Op* waiting = nullptr;
  int regions = 0;
};

class RegisteringTest : public testing::Test {
 protected:
  std::vector<std::byte> memory = std::vector<std::byte>(4096);
  SlowTransport transport;
  MemoryTable table;
  std::shared_ptr<Registering> registering = std::make_shared<Registering>(memory);
};

TEST_F(RegisteringTest, ARegionIsKnownOnceItIsPrepared) {
  registering->start(registering, &transport, &table);
  EXPECT_EQ(table.size(), 0u);
  transport.prepared(ok_status());
  const StatusOr<RegionId> region = registering->wait(seconds(5));
  ASSERT_TRUE(region.ok());
  EXPECT_EQ(*region, RegionId{7});
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(RegisteringTest, ARefusalLeavesNothing) {
  registering->start(registering, &transport, &table);
  transport.prepared(error(StatusCode::kResourceExhausted, "over RLIMIT_MEMLOCK"));
  EXPECT_EQ(registering->wait(seconds(5)).status().message(), "over RLIMIT_MEMLOCK");
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(transport.regions, 0);
}

TEST_F(RegisteringTest, ARefusalAtOnceIsHeardToo) {
  transport.refusal = error(StatusCode::kResourceExhausted, "over 4096 regions");
  registering->start(registering, &transport, &table);
  EXPECT_EQ(registering->wait(seconds(5)).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(transport.waiting, nullptr);
}

TEST_F(RegisteringTest, WhatComesTooLateGoesAgain) {
  for (const bool works : {true, false}) {
    registering = std::make_shared<Registering>(memory);
    registering->start(registering, &transport, &table);
    EXPECT_EQ(registering->wait(milliseconds(1)).status().code(), StatusCode::kDeadlineExceeded);
    registering.reset();  // the transport keeps what it still needs
    EXPECT_EQ(transport.regions, 1);
    transport.prepared(works ? ok_status() : error(StatusCode::kResourceExhausted, "full"));
    EXPECT_EQ(transport.regions, 0);
    EXPECT_EQ(table.size(), 0u);
  }
}
}  // namespace
}  // namespace terrace
