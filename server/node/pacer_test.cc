// Goal: lanes share a full window by weight, tenants and operations take turns, caps and stalled
// peers hold nobody else up, and every byte taken is accounted for.
// Method: a wire simulated by hand on a manual clock: so many bytes per millisecond are through, in
// the order in which they were let on.
#include "server/node/pacer.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/prng.h"

namespace terrace {
namespace {

constexpr uint64_t kFrame = 256 * kKiB;

class PacerTest : public testing::Test {
 protected:
  /// An operation that always has another frame to move.
  struct Mover {
    Mover(PacerTest* t, Lane lane, const std::string& tenant, uint64_t peer)
        : test(t),
          peer_id(peer),
          flow(t->pacer.get(), lane, tenant, PeerId{peer}, [this] { go_on(); }) {}
    void go_on() {
      while (!over && flow.take(kFrame)) test->wire.push_back(this);
    }
    PacerTest* const test;
    const uint64_t peer_id;
    bool over = false;
    uint64_t moved = 0;
    PacedFlow flow;
  };
  Mover* mover(Lane lane, const std::string& tenant, uint64_t peer) {
    movers.push_back(std::make_unique<Mover>(this, lane, tenant, peer));
    return movers.back().get();
  }
  void open(PacerOptions options) { pacer = std::make_unique<Pacer>(loop.get(), options); }
  void go() {
    for (const auto& each : movers) each->go_on();
  }
  /// A millisecond of a wire that carries `frames`; peers in `deaf` take nothing.
  void tick(uint32_t frames) {
    std::deque<Mover*> kept;
    while (frames > 0 && !wire.empty()) {
      Mover* const next = wire.front();
      wire.pop_front();
      if (next->peer_id == deaf) {
        kept.push_back(next);
        continue;
      }
      --frames;
      next->moved += kFrame;
      next->flow.give_back(kFrame);
      next->go_on();
    }
    for (auto it = kept.rbegin(); it != kept.rend(); ++it) wire.push_front(*it);
    clock.advance(milliseconds(1));
    for (int i = 0; i < 4; ++i) loop->turn(Nanos(0));
  }
  void TearDown() override {
    for (const auto& each : movers) each->over = true;
    movers.clear();
    loop->turn(Nanos(0));
    EXPECT_EQ(pacer->metrics().in_flight_bytes.get(), 0u);
    pacer.reset();
  }

  ManualClock clock;
  std::unique_ptr<Loop> loop = *Loop::create({}, &clock);
  std::unique_ptr<Pacer> pacer;
  std::vector<std::unique_ptr<Mover>> movers;
  std::deque<Mover*> wire;
  uint64_t deaf = 0;
};

TEST_F(PacerTest, everybody_goes_at_once_while_there_is_room) {
  open({.window_bytes = 8 * kMiB});
  Mover* const store = mover(Lane::store, "a", 1);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(store->flow.take(kFrame));
  EXPECT_EQ(pacer->metrics().granted_bytes[2].get(), 8 * kFrame);
  EXPECT_EQ(pacer->metrics().waiting[2].get(), 0u);
}

TEST_F(PacerTest, lanes_share_by_weight) {
  open({.window_bytes = 4 * kMiB, .weights = {16, 4, 1}});
  Mover* const load = mover(Lane::load, "a", 1);
  Mover* const prefetch = mover(Lane::prefetch, "a", 2);
  Mover* const store = mover(Lane::store, "a", 3);
  go();
  for (int i = 0; i < 2000; ++i) tick(4);
  const auto share = [&](const Mover* m) {
    return static_cast<double>(m->moved) /
           static_cast<double>(load->moved + prefetch->moved + store->moved);
  };
  EXPECT_NEAR(share(load), 16.0 / 21, 0.02);
  EXPECT_NEAR(share(prefetch), 4.0 / 21, 0.02);
  EXPECT_NEAR(share(store), 1.0 / 21, 0.01);
}

TEST_F(PacerTest, a_lane_that_was_idle_neither_owes_nor_saved) {
  open({.window_bytes = 4 * kMiB, .weights = {16, 4, 1}});
  Mover* const store = mover(Lane::store, "a", 1);
  Mover* const other = mover(Lane::store, "a", 2);
  go();
  for (int i = 0; i < 500; ++i) tick(4);  // alone: all of the wire
  EXPECT_NEAR(static_cast<double>(store->moved + other->moved), 2000.0 * kFrame, 32.0 * kFrame);
  Mover* const load = mover(Lane::load, "a", 3);
  const uint64_t before = store->moved + other->moved;
  load->go_on();
  for (int i = 0; i < 500; ++i) tick(4);
  // What the stores had alone is not held against them, and the load has its share at once.
  EXPECT_NEAR(static_cast<double>(load->moved), 2000.0 * kFrame * 16 / 17, 60.0 * kFrame);
  EXPECT_GT(store->moved + other->moved, before);
}

TEST_F(PacerTest, tenants_take_turns_however_many_operations_they_have) {
  open({.window_bytes = 4 * kMiB});
  for (uint64_t i = 0; i < 20; ++i) mover(Lane::load, "many", 10 + i % 4);
  Mover* const few = mover(Lane::load, "few", 1);
  go();
  for (int i = 0; i < 1000; ++i) tick(4);
  EXPECT_NEAR(static_cast<double>(few->moved), 2000.0 * kFrame, 100.0 * kFrame);
}

TEST_F(PacerTest, a_tenants_stores_go_one_after_the_other_in_half_of_the_window) {
  open({.window_bytes = 4 * kMiB});
  Mover* const first = mover(Lane::store, "a", 1);
  Mover* const second = mover(Lane::store, "a", 1);
  second->go_on();  // asks before the older one does
  EXPECT_EQ(wire.size(), 2 * kMiB / kFrame);
  first->go_on();
  for (int i = 0; i < 100; ++i) tick(4);
  EXPECT_LE(second->moved, 3 * kMiB);
  first->over = true;
  first->flow.stop();
  const uint64_t before = second->moved;
  for (int i = 0; i < 100; ++i) tick(4);
  EXPECT_GE(second->moved - before, 380 * kFrame);
}

TEST_F(PacerTest, a_capped_tenant_gets_its_rate_and_the_others_the_rest) {
  open({.window_bytes = 4 * kMiB, .tenant_bytes_per_s_max = {{"capped", 100 * kMiB}}});
  Mover* const capped = mover(Lane::load, "capped", 1);
  Mover* const free = mover(Lane::store, "free", 2);
  go();
  for (int i = 0; i < 2000; ++i) tick(4);
  EXPECT_NEAR(static_cast<double>(capped->moved), 200.0 * kMiB, 6.0 * kMiB);
  EXPECT_NEAR(static_cast<double>(free->moved), 8000.0 * kFrame - 200.0 * kMiB, 20.0 * kMiB);
}

TEST_F(PacerTest, a_peer_that_takes_nothing_lets_go_of_the_window) {
  open({.window_bytes = 4 * kMiB});
  deaf = 1;
  for (int i = 0; i < 8; ++i) mover(Lane::load, "a", 1);
  Mover* const honest = mover(Lane::store, "a", 2);
  go();
  for (int i = 0; i < 1000; ++i) tick(4);
  EXPECT_EQ(pacer->metrics().slow_peers.get(), 1u);
  EXPECT_GE(honest->moved, 3200 * kFrame);
  deaf = 0;  // it reads again: back in the window with its weight
  const uint64_t before = honest->moved;
  for (int i = 0; i < 1000; ++i) tick(4);
  EXPECT_EQ(pacer->metrics().slow_peers.get(), 0u);
  EXPECT_LE(honest->moved - before, 1500 * kFrame);
}

TEST_F(PacerTest, many_clients_of_one_slow_wire_are_not_slow_clients) {
  open({.window_bytes = 16 * kMiB});
  for (uint64_t peer = 1; peer <= 100; ++peer) mover(Lane::load, "a", peer);
  Mover* const store = mover(Lane::store, "a", 200);
  go();
  for (int i = 0; i < 3000; ++i) tick(1);  // 64 frames in the window: more than three periods
  EXPECT_EQ(pacer->metrics().slow_peers.get(), 0u);
  EXPECT_LE(store->moved, 250 * kFrame) << "its weight, a seventeenth";
}

TEST_F(PacerTest, a_lane_that_may_not_go_saves_nothing_up) {
  open({.window_bytes = 4 * kMiB, .tenant_bytes_per_s_max = {{"capped", kMiB}}});
  Mover* const load = mover(Lane::load, "a", 1);
  mover(Lane::prefetch, "capped", 2);  // in debt nearly always
  go();
  for (int i = 0; i < 5000; ++i) tick(4);
  mover(Lane::prefetch, "free", 3)->go_on();
  const uint64_t before = load->moved;
  for (int i = 0; i < 1000; ++i) tick(4);
  EXPECT_GE(load->moved - before, 4000 * kFrame * 7 / 10) << "16 to 4";
}

TEST_F(PacerTest, what_the_transport_refused_costs_nothing) {
  open({.window_bytes = 4 * kMiB, .tenant_bytes_per_s_max = {{"capped", 10 * kMiB}}});
  Mover* const capped = mover(Lane::store, "capped", 1);
  for (int i = 0; i < 1000; ++i) {
    if (capped->flow.take(kFrame)) capped->flow.refund(kFrame);
    loop->turn(Nanos(0));
  }
  EXPECT_EQ(pacer->metrics().granted_bytes[2].get(), 0u);
  EXPECT_TRUE(capped->flow.take(kFrame));
  capped->flow.give_back(kFrame);
}

TEST_F(PacerTest, a_slow_reader_does_not_hold_the_window) {
  open({.window_bytes = 4 * kMiB});
  for (int i = 0; i < 8; ++i) mover(Lane::load, "a", 1);
  Mover* const honest = mover(Lane::load, "a", 2);
  go();
  for (int i = 0; i < 2000; ++i) {
    deaf = i % 25 == 0 ? 0 : 1;  // a frame or four now and then
    tick(4);
  }
  EXPECT_GE(honest->moved, 6000 * kFrame);
}

TEST_F(PacerTest, who_stops_waits_no_longer_and_gives_a_grant_back) {
  open({.window_bytes = 2 * kMiB});
  Mover* const one = mover(Lane::load, "a", 1);
  Mover* const two = mover(Lane::load, "b", 2);
  Mover* const three = mover(Lane::load, "c", 3);
  go();
  three->over = true;
  three->flow.stop();
  EXPECT_EQ(pacer->metrics().waiting[0].get(), 2u);
  // A grant that nobody picked up yet.
  wire.front()->flow.give_back(kFrame);
  wire.pop_front();
  one->flow.stop();
  two->flow.stop();
  EXPECT_EQ(pacer->metrics().waiting[0].get(), 0u);
  for (Mover* each : wire) each->flow.give_back(kFrame);
  wire.clear();
  EXPECT_EQ(pacer->metrics().in_flight_bytes.get(), 0u);
}

TEST_F(PacerTest, random_comings_and_goings_leave_nothing_behind) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    open({.window_bytes = 2 * kMiB, .tenant_bytes_per_s_max = {{"t1", 50 * kMiB}}});
    for (int step = 0; step < 60; ++step) {
      if (prng.chance(40)) {
        mover(static_cast<Lane>(prng.below(3)), "t" + std::to_string(prng.below(3)), prng.below(4))
            ->go_on();
      }
      if (prng.chance(20) && !movers.empty()) {
        const size_t i = prng.below(movers.size());
        std::erase(wire, movers[i].get());  // what it took goes back with it
        movers.erase(movers.begin() + static_cast<ptrdiff_t>(i));
      }
      if (prng.chance(10)) deaf = prng.below(5);
      tick(static_cast<uint32_t>(prng.below(5)));
    }
    wire.clear();
    TearDown();
  }
  open({});
}

TEST(LaneTest, priorities_are_checked) {
  EXPECT_EQ(*lane_of(1), Lane::prefetch);
  EXPECT_EQ(lane_of(3).status().code(), StatusCode::kInvalidArgument);
}
}  // namespace
}  // namespace terrace
