#include "storage/slab_balancer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/core.h"

namespace terrace {
namespace {
constexpr Nanos kAskAgain = milliseconds(20);  // looking for a victim costs a look at every slab
constexpr Nanos kStepPeriod = microseconds(200);
constexpr Nanos kIdlePeriod = milliseconds(5);  // when all that is left is in use
constexpr size_t kUsesMax = 1024;               // before idle domains are forgotten
constexpr Nanos kForgetPeriod = seconds(1);     // which costs a look at all
}  // namespace

SlabBalancer::SlabBalancer(ChunkStore::Core& core) : core_(core), timer_([this] { step(); }) {}

void SlabBalancer::stop() {
  core_.loop->disarm(&timer_);
}

void SlabBalancer::used(DomainId domain) {
  const Nanos now = core_.loop->now();
  if (uses_.size() >= kUsesMax && now - forgot_ >= kForgetPeriod) forget_idle();
  uses_[static_cast<uint32_t>(domain)].last = now;
}

/// Domains without slabs come and go; those with slabs keep their record, it says how long they
/// have been idle.
void SlabBalancer::forget_idle() {
  forgot_ = core_.loop->now();
  const Nanos before = forgot_ - kActiveFor;
  std::erase_if(uses_, [&](const auto& use) {
    return use.second.last < before && core_.arena->holding(DomainId{use.first}).slabs.empty();
  });
}

bool SlabBalancer::active(DomainId domain) const {
  const auto it = uses_.find(static_cast<uint32_t>(domain));
  return it != uses_.end() && core_.loop->now() - it->second.last < kActiveFor;
}

size_t SlabBalancer::held(DomainId domain) const {
  const auto coming =
      std::count_if(moves_.begin(), moves_.end(), [&](const Move& m) { return m.to == domain; });
  return core_.arena->holding(domain).slabs.size() + static_cast<size_t>(coming);
}

size_t SlabBalancer::share() const {
  const Nanos now = core_.loop->now();
  size_t domains = 0;
  for (const auto& [domain, use] : uses_) {
    const bool asks = use.wants && now - use.asked < kActiveFor;
    if (asks || (active(DomainId{domain}) && held(DomainId{domain}) > 0)) ++domains;
  }
  return core_.arena->slab_count() / std::max<size_t>(1, domains);
}

bool SlabBalancer::want(DomainId domain) {
  const Nanos now = core_.loop->now();
  Use& use = uses_[static_cast<uint32_t>(domain)];
  use.asked = now;
  use.wants = true;
  if (core_.closing()) return false;
  // Those that the arena still populates come first, and cost nobody anything.
  if (!core_.registry.knows_all()) return true;
  if (std::any_of(moves_.begin(), moves_.end(), [&](const Move& m) { return m.to == domain; })) {
    return true;
  }
  if (now < use.ask_again) return false;
  if (moves_.size() >= kRunningMax) return true;
  const std::optional<uint32_t> slab = choose(domain);
  if (!slab) {
    use.ask_again = now + kAskAgain;
    return false;
  }
  begin(*slab, domain);
  return true;
}

bool SlabBalancer::may_move(uint32_t slab) const {
  const auto rest = resting_.find(slab);
  const bool rests = rest != resting_.end() && core_.loop->now() < rest->second;
  return !rests && !core_.arena->has_withheld(slab);
}

std::optional<uint32_t> SlabBalancer::empty_slab_for(DomainId taker) const {
  const size_t fair = share();
  for (const auto& [domain, holding] : core_.arena->holdings()) {
    if (DomainId{domain} == taker) continue;
    // One that just arrived is empty too.
    if (holding.slabs.size() <= fair && active(DomainId{domain})) continue;
    for (uint32_t slab : holding.slabs) {
      if (core_.arena->empty(slab) && may_move(slab)) return slab;
    }
  }
  return std::nullopt;
}

std::optional<uint32_t> SlabBalancer::least_used_of(DomainId victim) const {
  std::optional<uint32_t> best;
  for (uint32_t slab : core_.arena->holding(victim).slabs) {
    if (!may_move(slab)) continue;
    const uint64_t free = core_.arena->slab_free_bytes(slab);
    if (!best || free > core_.arena->slab_free_bytes(*best)) best = slab;
  }
  return best;
}

/// The slab that the taker may have, by the rule at the top of the header.
std::optional<uint32_t> SlabBalancer::choose(DomainId taker) const {
  if (const auto empty = empty_slab_for(taker)) return empty;
  const size_t mine = held(taker);
  if (mine >= share()) return std::nullopt;
  std::optional<uint32_t> richest, idlest;
  size_t most = mine + 1;
  Nanos longest = kActiveFor;
  for (const auto& [number, holding] : core_.arena->holdings()) {
    const DomainId domain{number};
    if (domain == taker) continue;
    const auto use = uses_.find(number);
    const Nanos idle = use == uses_.end() ? Nanos::max() : core_.loop->now() - use->second.last;
    if (holding.slabs.size() > most) {
      if (const auto slab = least_used_of(domain)) {
        richest = slab;
        most = holding.slabs.size();
      }
    }
    if (idle >= longest) {
      if (const auto slab = least_used_of(domain)) {
        idlest = slab;
        longest = idle;
      }
    }
  }
  return richest ? richest : idlest;
}

void SlabBalancer::begin(uint32_t slab, DomainId to) {
  core_.arena->retire(slab);
  start_move(slab, to);
}

void SlabBalancer::start_move(uint32_t slab, DomainId to) {
  Move move;
  move.slab = slab;
  move.to = to;
  move.since = core_.loop->now();
  moves_.push_back(move);
  if (!timer_.armed()) core_.loop->arm(&timer_, move.since);
}

void SlabBalancer::step() {
  if (core_.closing()) return;
  const Nanos now = core_.loop->now();
  bool more = false;
  bool progress = false;
  for (auto move = moves_.begin(); move != moves_.end();) {
    if (!move->replacing && core_.arena->empty(move->slab)) {
      move->replacing = true;
      core_.registry.replace(move->slab, move->to);
    }
    if (!move->replacing && now - move->since >= kPatience) {
      core_.arena->restore(move->slab);
      resting_[move->slab] = now + kRest;
      core_.metrics.slab_moves_given_up.add();
      move = moves_.erase(move);
      core_.evictor.kick();
      continue;
    }
    if (!move->replacing) {
      empty(&*move);
      progress |= move->progress;
      more = true;
    }
    ++move;
  }
  if (more) core_.loop->arm(&timer_, now + (progress ? kStepPeriod : kIdlePeriod));
}

/// The next objects of the slab are evicted; those in use are passed by and come again in the next
/// pass, as those that are being written to nvme do.
void SlabBalancer::empty(Move* move) {
  const std::span<ArenaSpace* const> spaces = core_.arena->spaces_in(move->slab);
  if (move->next >= spaces.size()) {
    move->next = 0;
    move->progress = false;
  }
  std::vector<uint32_t> ids;
  const size_t end = std::min(spaces.size(), move->next + kBatch);
  for (size_t i = move->next; i < end; ++i) {
    if (spaces[i]->entry() != kNoEntry) ids.push_back(spaces[i]->entry());
  }
  const size_t before = spaces.size();
  core_.evictor.evict_from_dram(ids);
  const size_t gone = before - core_.arena->spaces_in(move->slab).size();
  move->next = end - std::min(gone, end);
  move->progress |= gone > 0;
}

void SlabBalancer::replaced(uint32_t slab) {
  const auto move =
      std::find_if(moves_.begin(), moves_.end(), [&](const Move& m) { return m.slab == slab; });
  if (move == moves_.end()) return;  // it was added
  if (move->to != kNobody) core_.metrics.slabs_replaced.add();
  moves_.erase(move);
}

bool SlabBalancer::shed() {
  if (moves_.size() >= kRunningMax || core_.closing()) return false;
  if (const std::optional<uint32_t> slab = core_.arena->retire_unowned()) {
    start_move(*slab, kNobody);
    moves_.back().replacing = true;
    core_.registry.replace(*slab, kNobody);
    return true;
  }
  const std::optional<uint32_t> slab = slab_to_shed();
  if (!slab) return false;
  begin(*slab, kNobody);
  return true;
}

std::optional<uint32_t> SlabBalancer::slab_to_shed() const {
  std::optional<uint32_t> best;
  size_t most = 0;
  for (const auto& [domain, holding] : core_.arena->holdings()) {
    for (uint32_t slab : holding.slabs) {
      if (core_.arena->empty(slab) && may_move(slab)) return slab;
    }
    if (holding.slabs.size() <= most) continue;
    if (const auto slab = least_used_of(DomainId{domain})) {
      best = slab;
      most = holding.slabs.size();
    }
  }
  return best;
}

uint64_t SlabBalancer::shedding_bytes() const {
  uint64_t bytes = 0;
  for (const Move& move : moves_) {
    if (move.to == kNobody && core_.arena->retired(move.slab))
      bytes += core_.arena->memory_of(move.slab).size();
  }
  return bytes;
}

void SlabBalancer::stop_shedding() {
  const size_t stay = std::erase_if(moves_, [this](const Move& move) {
    if (move.to != kNobody || move.replacing) return false;
    core_.arena->restore(move.slab);
    return true;
  });
  if (stay > 0) core_.evictor.kick();
}
}  // namespace terrace
