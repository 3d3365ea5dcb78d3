#include "server/node/pacer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr Nanos kTickPeriod = milliseconds(1);
constexpr double kSlowerThanFastest = 8;
constexpr double kBurstSeconds = 0.02;  // of a capped tenant that was quiet

double seconds_of(Nanos duration) {
  return static_cast<double>(duration.count()) * 1e-9;
}
}  // namespace

const char* name_of(Lane lane) {
  switch (lane) {
    case Lane::load:
      return "load";
    case Lane::prefetch:
      return "prefetch";
    case Lane::store:
      return "store";
  }
  return "unknown";
}

StatusOr<Lane> lane_of(uint32_t priority) {
  if (priority < kLanes) return static_cast<Lane>(priority);
  return error(StatusCode::kInvalidArgument,
               "priority " + std::to_string(priority) + " is unknown; 0 load, 1 prefetch, 2 store");
}

Pacer::Pacer(Loop* loop, PacerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      turn_([this] { run(); }),
      tick_([this] { tick(); }) {
  for (const auto& [name, rate] : options_.tenant_bytes_per_s_max) {
    Tenant& tenant = tenants_[name];
    tenant.bytes_per_s_max = rate;
    tenant.refilled = loop_->now();
  }
}

Pacer::~Pacer() {
  TERRACE_CHECK(peers_.empty() && waiting_ == 0);
  loop_->disarm(&turn_);
  loop_->disarm(&tick_);
}

Pacer::Peer& Pacer::peer_of(PacedFlow* flow) {
  return peers_.at(static_cast<uint64_t>(flow->peer_));
}

uint64_t Pacer::in_flight() const {
  uint64_t bytes = 0;
  for (const LaneQueue& lane : lanes_) bytes += lane.in_flight;
  return bytes;
}

std::deque<Pacer::Line>::iterator Pacer::line_of(const PacedFlow* flow, LaneQueue* lane) {
  return std::find_if(lane->lines.begin(), lane->lines.end(),
                      [&](const Line& line) { return line.tenant == flow->tenant_; });
}

void Pacer::enqueue(PacedFlow* flow) {
  LaneQueue& lane = lanes_[static_cast<size_t>(flow->lane_)];
  // A lane that was idle starts now: it neither saves up what it did not use nor pays for it.
  if (lane.lines.empty()) lane.tag = std::max(lane.tag, virtual_time_);
  const auto line = line_of(flow, &lane);
  if (line != lane.lines.end()) {
    auto place = line->flows.end();
    if (flow->lane_ == Lane::store) {
      place = std::find_if(line->flows.begin(), line->flows.end(),
                           [&](const PacedFlow* other) { return other->age_ > flow->age_; });
    }
    line->flows.insert(place, flow);
  } else {
    lane.lines.push_back({flow->tenant_, {flow}});
  }
  flow->state_ = PacedFlow::State::waiting;
}

void Pacer::remove(PacedFlow* flow) {
  if (flow->state_ == PacedFlow::State::blocked) {
    std::erase(peer_of(flow).blocked, flow);
  } else {
    LaneQueue& lane = lanes_[static_cast<size_t>(flow->lane_)];
    const auto line = line_of(flow, &lane);
    TERRACE_CHECK(line != lane.lines.end());
    std::erase(line->flows, flow);
    if (line->flows.empty()) lane.lines.erase(line);
  }
  --waiting_;
  metrics_.waiting[static_cast<size_t>(flow->lane_)].sub();
  flow->state_ = PacedFlow::State::idle;
}

void Pacer::refill(Tenant* tenant) const {
  const double burst = static_cast<double>(tenant->bytes_per_s_max) * kBurstSeconds;
  const double more =
      seconds_of(loop_->now() - tenant->refilled) * static_cast<double>(tenant->bytes_per_s_max);
  tenant->tokens = std::min(tenant->tokens + more, burst);
  tenant->refilled = loop_->now();
}

/// The first flow of the lane, by tenants' turns, whose tenant and peer have room.
PacedFlow* Pacer::next_of(LaneQueue* lane) {
  for (size_t left = lane->lines.size(); left > 0; --left) {
    Line line = std::move(lane->lines.front());
    lane->lines.pop_front();
    if (line.tenant->bytes_per_s_max > 0) refill(line.tenant);
    PacedFlow* found = nullptr;
    const bool capped = line.tenant->bytes_per_s_max > 0 && line.tenant->tokens < 0;
    while (!capped && !line.flows.empty() && found == nullptr) {
      PacedFlow* const flow = line.flows.front();
      line.flows.pop_front();
      Peer& peer = peer_of(flow);
      const bool full = peer.total() > 0 && peer.total() + flow->wanted_ > options_.slow_peer_bytes;
      if (peer.slow && full) {
        flow->state_ = PacedFlow::State::blocked;
        peer.blocked.push_back(flow);
      } else {
        found = flow;
      }
    }
    if (!line.flows.empty()) lane->lines.push_back(std::move(line));
    if (found != nullptr) return found;
  }
  return nullptr;
}

PacedFlow* Pacer::next() {
  std::array<LaneQueue*, kLanes> order{};
  for (size_t i = 0; i < kLanes; ++i) order[i] = &lanes_[i];
  std::stable_sort(order.begin(), order.end(),
                   [](const LaneQueue* a, const LaneQueue* b) { return a->tag < b->tag; });
  for (size_t i = 0; i < kLanes; ++i) {
    LaneQueue* const lane = order[i];
    if (lane->lines.empty()) continue;
    const bool stores = lane == &lanes_[static_cast<size_t>(Lane::store)];
    if (stores && lane->in_flight >= options_.window_bytes / 2) continue;
    PacedFlow* const flow = next_of(lane);
    if (flow == nullptr) continue;
    // A lane whose flows may not go now does not save up what it misses.
    for (size_t passed = 0; passed < i; ++passed) {
      order[passed]->tag = std::max(order[passed]->tag, lane->tag);
    }
    return flow;
  }
  return nullptr;
}

void Pacer::grant(PacedFlow* flow) {
  const auto l = static_cast<size_t>(flow->lane_);
  LaneQueue& lane = lanes_[l];
  virtual_time_ = std::max(virtual_time_, lane.tag);
  lane.tag += static_cast<double>(flow->wanted_) / options_.weights[l];
  if (flow->tenant_->bytes_per_s_max > 0) {
    flow->tenant_->tokens -= static_cast<double>(flow->wanted_);
  }
  Peer& peer = peer_of(flow);
  account(&peer);
  peer.in_flight[l] += flow->wanted_;
  if (!peer.slow) lane.in_flight += flow->wanted_;
  --waiting_;
  metrics_.waiting[l].sub();
  metrics_.granted_bytes[l].add(flow->wanted_);
  metrics_.in_flight_bytes.set(in_flight());
  flow->state_ = PacedFlow::State::granted;
}

void Pacer::schedule() {
  if (waiting_ == 0) return;
  if (!turn_.armed()) loop_->arm(&turn_, loop_->now());
}

/// Lets on who may go. Each asks again at once, so that its lane is never empty for a moment only.
void Pacer::run() {
  while (waiting_ > 0 && has_room()) {
    PacedFlow* const flow = next();
    if (flow == nullptr) break;
    grant(flow);
    flow->go_on_();
    if (flow->state_ == PacedFlow::State::granted) flow->stop();
  }
  if (waiting_ == 0 || tick_.armed()) return;
  // Nobody waited for a while: what peers did then says nothing of how they share.
  if (loop_->now() - ticked_ > options_.slow_after) begin_period();
  loop_->arm(&tick_, loop_->now() + kTickPeriod);
}

/// While somebody waits: tenants earn, and peers are judged by how fast they are.
void Pacer::tick() {
  ticked_ = loop_->now();
  if (ticked_ - period_began_ >= options_.slow_after) {
    judge_all();
    period_began_ = ticked_;
  }
  run();
}

void Pacer::begin_period() {
  for (auto& [id, peer] : peers_) {
    account(&peer);
    peer.moved = 0;
    peer.byte_seconds = 0;
  }
  period_began_ = loop_->now();
  ticked_ = period_began_;
}

void Pacer::account(Peer* peer) const {
  const Nanos now = loop_->now();
  peer->byte_seconds += static_cast<double>(peer->total()) * seconds_of(now - peer->changed);
  peer->changed = now;
}

void Pacer::judge_all() {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  double fastest = kNever;
  for (auto& [id, peer] : peers_) {
    account(&peer);
    if (peer.moved > 0) {
      fastest = std::min(fastest, peer.byte_seconds / static_cast<double>(peer.moved));
    }
  }
  const double floor = seconds_of(options_.slow_after);
  const double limit =
      fastest < kNever ? std::max(floor, kSlowerThanFastest * fastest) : kSlowerThanFastest * floor;
  for (auto& [id, peer] : peers_) {
    if (peer.byte_seconds == 0) continue;
    // Of one that moved nothing yet: how long its bytes are on their way so far. The next period
    // knows more, and goes on counting.
    const uint64_t bytes = peer.moved > 0 ? peer.moved : peer.total();
    if (bytes > 0) set_slow(&peer, peer.byte_seconds / static_cast<double>(bytes) > limit);
    if (peer.moved == 0 && bytes > 0) continue;
    peer.moved = 0;
    peer.byte_seconds = 0;
  }
}

void Pacer::set_slow(Peer* peer, bool slow) {
  if (slow == peer->slow) return;
  peer->slow = slow;
  for (size_t l = 0; l < kLanes; ++l) {
    if (slow) {
      lanes_[l].in_flight -= peer->in_flight[l];
    } else {
      lanes_[l].in_flight += peer->in_flight[l];
    }
  }
  if (slow) return metrics_.slow_peers.add();
  metrics_.slow_peers.sub();
  for (PacedFlow* blocked : std::exchange(peer->blocked, {})) enqueue(blocked);
}

void Pacer::release(PacedFlow* flow, uint64_t bytes) {
  const auto l = static_cast<size_t>(flow->lane_);
  Peer& peer = peer_of(flow);
  TERRACE_CHECK(peer.in_flight[l] >= bytes);
  account(&peer);
  peer.in_flight[l] -= bytes;
  if (!peer.slow) lanes_[l].in_flight -= bytes;
  for (PacedFlow* blocked : std::exchange(peer.blocked, {})) enqueue(blocked);
  metrics_.in_flight_bytes.set(in_flight());
  schedule();
}

void Pacer::give_back(PacedFlow* flow, uint64_t bytes) {
  peer_of(flow).moved += bytes;
  release(flow, bytes);
}

/// As if it had never been granted.
void Pacer::refund(PacedFlow* flow, uint64_t bytes) {
  const auto l = static_cast<size_t>(flow->lane_);
  lanes_[l].tag -= static_cast<double>(bytes) / options_.weights[l];
  metrics_.granted_bytes[l].sub(bytes);
  if (flow->tenant_->bytes_per_s_max > 0) flow->tenant_->tokens += static_cast<double>(bytes);
  release(flow, bytes);
}

PacedFlow::PacedFlow(Pacer* pacer, Lane lane, const std::string& tenant, PeerId peer,
                     std::function<void()> go_on)
    : pacer_(pacer),
      lane_(lane),
      age_(pacer->next_age_++),
      peer_(peer),
      go_on_(std::move(go_on)),
      tenant_(&pacer->tenants_[tenant]),
      tenant_name_(tenant) {
  ++tenant_->flows;
  ++pacer_->peers_[static_cast<uint64_t>(peer_)].flows;
}

PacedFlow::~PacedFlow() {
  stop();
  if (taken_ > 0) give_back(taken_);
  const auto peer = pacer_->peers_.find(static_cast<uint64_t>(peer_));
  if (--peer->second.flows == 0) {
    if (peer->second.slow) pacer_->metrics_.slow_peers.sub();
    pacer_->peers_.erase(peer);
  }
  if (--tenant_->flows == 0 && tenant_->bytes_per_s_max == 0) {
    pacer_->tenants_.erase(tenant_name_);
  }
}

bool PacedFlow::take(uint64_t bytes) {
  TERRACE_CHECK(bytes > 0);
  if (state_ == State::granted && wanted_ != bytes) stop();  // asks for something else now
  if (state_ == State::idle) {
    wanted_ = bytes;
    ++pacer_->waiting_;
    pacer_->metrics_.waiting[static_cast<size_t>(lane_)].add();
    pacer_->enqueue(this);
    const bool alone = pacer_->waiting_ == 1 && pacer_->has_room();
    if (alone && pacer_->next() == this) pacer_->grant(this);
  }
  if (state_ != State::granted) {
    pacer_->schedule();
    return false;
  }
  state_ = State::idle;
  taken_ += bytes;
  return true;
}

void PacedFlow::give_back(uint64_t bytes) {
  TERRACE_CHECK(taken_ >= bytes);
  taken_ -= bytes;
  pacer_->give_back(this, bytes);
}

void PacedFlow::refund(uint64_t bytes) {
  TERRACE_CHECK(taken_ >= bytes);
  taken_ -= bytes;
  pacer_->refund(this, bytes);
}

void PacedFlow::stop() {
  if (state_ == State::idle) return;
  if (state_ != State::granted) {
    pacer_->remove(this);
    return;
  }
  state_ = State::idle;
  pacer_->refund(this, wanted_);
}
}  // namespace terrace
