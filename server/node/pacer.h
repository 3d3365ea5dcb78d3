// server/node/pacer.h - who may put bytes on the wire next, in lanes with weights.
//
// A window bounds the bytes that are on their way at once, so that a queue forms here, where it can
// be ordered, and not in the transport. Between lanes start-time fair queueing (Goyal, Vin, Cheng
// 1996) shares by weight; within a lane tenants take turns. A tenant's loads take turns too; its
// stores go one after the other, because stores that share the time all end together, and then the
// wire idles while the device makes them durable. While there is room everybody goes at once. Loop
// thread only.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/counter.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/status.h"
#include "transport/transport.h"

namespace terrace {

/// Most urgent first; the numbers travel as the priority of a request. Lookups are messages and
/// never wait here.
enum class Lane : uint8_t { load, prefetch, store };
inline constexpr size_t kLanes = 3;
const char* name_of(Lane lane);
/// kInvalidArgument names the number.
StatusOr<Lane> lane_of(uint32_t priority);

struct PacerOptions {
  uint64_t window_bytes = 16 * kMiB;  // half of it for stores
  std::array<uint32_t, kLanes> weights{16, 4, 1};
  /// A peer whose bytes are on their way for longer than this, and for eight times as long as the
  /// fastest peer's, is slow: its bytes do not count, so that it cannot hold the window, and it
  /// gets slow_peer_bytes at a time.
  Nanos slow_after = milliseconds(20);
  uint64_t slow_peer_bytes = 2 * kMiB;
  std::map<std::string, uint64_t> tenant_bytes_per_s_max = {};  // by tenant; not in it: no cap
};

/// What an operation that moves bytes holds of the pacer. Gives everything back when it goes.
class PacedFlow;

class Pacer {
 public:
  Pacer(Loop* loop, PacerOptions options);
  /// No flow may be left.
  ~Pacer();
  struct Metrics {
    std::array<Counter, kLanes> granted_bytes;
    std::array<Counter, kLanes> waiting;  // flows now
    Counter in_flight_bytes, slow_peers;
  };
  const Metrics& metrics() const { return metrics_; }

 private:
  friend class PacedFlow;
  struct Tenant {
    uint64_t bytes_per_s_max = 0;  // 0: no cap
    double tokens = 0;             // bytes it may move now; below 0: in debt
    Nanos refilled{0};
    uint32_t flows = 0;
  };
  struct Peer {
    std::array<uint64_t, kLanes> in_flight{};
    uint64_t total() const { return in_flight[0] + in_flight[1] + in_flight[2]; }
    // Since the period began: bytes moved, and byte-seconds in flight. By Little's law their
    // quotient is how long a byte was on its way.
    uint64_t moved = 0;
    double byte_seconds = 0;
    Nanos changed{0};  // up to when byte_seconds counts
    bool slow = false;
    uint32_t flows = 0;
    std::deque<PacedFlow*> blocked;  // it is slow, and has what it may have
  };
  struct Line {  // one tenant in a lane
    Tenant* tenant = nullptr;
    std::deque<PacedFlow*> flows;
  };
  struct LaneQueue {
    double tag = 0;          // virtual start time of its next grant
    uint64_t in_flight = 0;  // of peers that are not slow
    std::deque<Line> lines;
  };
  static std::deque<Line>::iterator line_of(const PacedFlow* flow, LaneQueue* lane);
  void enqueue(PacedFlow* flow);
  void remove(PacedFlow* flow);
  uint64_t in_flight() const;
  bool has_room() const { return in_flight() < options_.window_bytes; }
  void run();
  void schedule();
  PacedFlow* next_of(LaneQueue* lane);
  PacedFlow* next();
  void grant(PacedFlow* flow);
  void release(PacedFlow* flow, uint64_t bytes);
  void give_back(PacedFlow* flow, uint64_t bytes);
  void refund(PacedFlow* flow, uint64_t bytes);
  void tick();
  void begin_period();
  void account(Peer* peer) const;
  void judge_all();
  void set_slow(Peer* peer, bool slow);
  void refill(Tenant* tenant) const;
  Peer& peer_of(PacedFlow* flow);

  Loop* const loop_;
  const PacerOptions options_;
  Metrics metrics_;
  std::array<LaneQueue, kLanes> lanes_;
  double virtual_time_ = 0;
  uint32_t waiting_ = 0;   // flows, blocked ones too
  uint64_t next_age_ = 0;  // of flows
  std::unordered_map<uint64_t, Peer> peers_;
  std::map<std::string, Tenant> tenants_;
  Nanos period_began_{0};
  Nanos ticked_{0};
  Timer turn_;  // a run on the next turn of the loop
  Timer tick_;  // while somebody waits
};

class PacedFlow {
 public:
  /// `go_on` is called on a later turn when take() was refused and may be asked again.
  PacedFlow(Pacer* pacer, Lane lane, const std::string& tenant, PeerId peer,
            std::function<void()> go_on);
  ~PacedFlow();
  PacedFlow(const PacedFlow&) = delete;
  PacedFlow& operator=(const PacedFlow&) = delete;

  /// True: these bytes may go now; give_back() says when they are through. False: `go_on` comes,
  /// and a take() of as many bytes in it succeeds.
  bool take(uint64_t bytes);
  void give_back(uint64_t bytes);
  /// Taken bytes that did not go after all: the transport refused them.
  void refund(uint64_t bytes);
  /// Wants nothing more: out of the queue. What was taken stays taken.
  void stop();

 private:
  friend class Pacer;
  enum class State : uint8_t { idle, waiting, blocked, granted };
  Pacer* const pacer_;
  const Lane lane_;
  const uint64_t age_;  // the older, the smaller
  const PeerId peer_;
  const std::function<void()> go_on_;
  Pacer::Tenant* const tenant_;
  const std::string tenant_name_;
  State state_ = State::idle;
  uint64_t wanted_ = 0;  // waiting or granted
  uint64_t taken_ = 0;
};
}  // namespace terrace
