// Who has which slab of the arena, and how one changes hands.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "storage/arena.h"
#include "storage/arena_slab.h"

namespace terrace {
namespace {
constexpr seconds kReplaceAgain{1};
}

void Arena::adopt_ready() {
  const uint32_t ready = ready_.load(std::memory_order_acquire);
  for (; adopted_ < ready; ++adopted_) {
    const uint32_t slab = order_[adopted_];
    if (slabs_[slab]->state == Slab::State::unowned) unowned_.push_back(slab);
  }
}

const Arena::Holding& Arena::holding(DomainId domain) const {
  static const Holding nothing;
  const auto it = holdings_.find(static_cast<uint32_t>(domain));
  return it == holdings_.end() ? nothing : it->second;
}

void Arena::claim(uint32_t index, DomainId domain) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(slab.state == Slab::State::unowned && unowned_.front() == index);
  unowned_.pop_front();
  taken_ += slab.space.capacity_bytes();
  slab.domain = domain;
  slab.memory.claim_word().store(1, std::memory_order_release);
  restore(index);
}

/// Takes the slab out of what its domain has.
void Arena::disown(uint32_t index) {
  Slab& slab = *slabs_[index];
  const auto it = holdings_.find(static_cast<uint32_t>(slab.domain));
  std::erase(it->second.slabs, index);
  it->second.capacity -= slab.space.capacity_bytes();
  it->second.free -= slab.space.free_bytes();
  if (it->second.slabs.empty()) holdings_.erase(it);
}

/// A slab that was claimed and then not used: nobody saw it, nothing was written there.
void Arena::return_untouched(uint32_t index) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(empty(index) && !slab.exported);
  disown(index);
  slab.state = Slab::State::unowned;
  slab.domain = kNobody;
  taken_ -= slab.space.capacity_bytes();
  unowned_.push_front(index);
}

void Arena::retire(uint32_t index) {
  TERRACE_CHECK(slabs_[index]->state == Slab::State::owned);
  disown(index);
  slabs_[index]->state = Slab::State::retired;
}

bool Arena::retired(uint32_t slab) const {
  return slabs_[slab]->state == Slab::State::retired;
}

void Arena::restore(uint32_t index) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(slab.state != Slab::State::owned);
  slab.state = Slab::State::owned;
  Holding& held = holdings_[static_cast<uint32_t>(slab.domain)];
  held.slabs.push_back(index);
  held.capacity += slab.space.capacity_bytes();
  held.free += slab.space.free_bytes();
}

std::span<ArenaSpace* const> Arena::spaces_in(uint32_t slab) const {
  return slabs_[slab]->spaces;
}

bool Arena::empty(uint32_t slab) const {
  return slabs_[slab]->spaces.empty() && slabs_[slab]->withheld == 0;
}

bool Arena::has_withheld(uint32_t slab) const {
  return slabs_[slab]->withheld > 0;
}

void Arena::replace(uint32_t index, DomainId next) {
  Slab& slab = *slabs_[index];
  TERRACE_CHECK(slab.state == Slab::State::retired && empty(index));
  slab.work = next == kNobody ? Slab::Work::remove : Slab::Work::replace;
  if (next == kNobody) {
    const uint64_t bytes = slab.space.capacity_bytes();
    capacity_ -= bytes;
    taken_ -= bytes;
    resized_ -= static_cast<int64_t>(bytes);
    --slab_count_;
  }
  hand_to_worker(index, next);
}

void Arena::hand_to_worker(uint32_t index, DomainId next) {
  TERRACE_CHECK(populated());  // the worker is through with it
  Slab& slab = *slabs_[index];
  slab.state = Slab::State::replacing;
  slab.domain = kNobody;
  slab.epoch = ++epoch_;
  next_owner_.emplace(index, next);
  {
    const std::lock_guard lock(mutex_);
    to_replace_.push_back(index);
  }
  wake_.notify_one();
}

std::vector<Arena::Replaced> Arena::replaced() {
  if (next_owner_.empty()) return {};
  if (!worker_.joinable()) work_on_replacements(false, false);
  std::vector<uint32_t> over;
  {
    const std::lock_guard lock(mutex_);
    over.swap(over_);
  }
  std::vector<Replaced> out;
  for (uint32_t index : over) out.push_back({index, settle_replaced(index)});
  return out;
}

/// True: it has memory.
bool Arena::settle_replaced(uint32_t index) {
  Slab& slab = *slabs_[index];
  slab.exported = false;
  slab.domain = next_owner_.extract(index).mapped();
  if (!slab.memory.mapped()) {
    slab.state = Slab::State::absent;
    return false;
  }
  if (slab.work == Slab::Work::add) {
    const uint64_t bytes = slab.space.capacity_bytes();
    slab.state = Slab::State::unowned;
    unowned_.push_back(index);
    capacity_ += bytes;
    resized_ += static_cast<int64_t>(bytes);
    ++slab_count_;
    return true;
  }
  slab.memory.claim_word().store(1, std::memory_order_release);
  restore(index);
  return true;
}

std::optional<uint32_t> Arena::retire_unowned() {
  adopt_ready();
  if (unowned_.empty()) return std::nullopt;
  const uint32_t index = unowned_.back();
  unowned_.pop_back();
  taken_ += slabs_[index]->space.capacity_bytes();
  slabs_[index]->state = Slab::State::retired;
  return index;
}

// The worker.

void Arena::work(bool lock) {
  give_refused_back();  // first: the machine may not have the memory twice
  for (uint32_t i = 0; i < order_.size(); ++i) {
    // One that cannot be populated is used all the same, for the others of its tenant lie behind
    // it: what the machine has then comes page by page.
    const Status there = slabs_[order_[i]]->memory.populate(lock, stop_, &locked_);
    if (!there.ok()) {
      failures_.fetch_add(1, std::memory_order_relaxed);
      spdlog::error("event=slab_not_populated slab={} error=\"{}\": lower dram_bytes", order_[i],
                    there.to_string());
    }
    if (stop_.load(std::memory_order_relaxed)) return;
    ready_.store(std::max(i + 1, ready_.load(std::memory_order_relaxed)),
                 std::memory_order_release);
    populated_.store(i + 1, std::memory_order_release);
  }
  work_on_replacements(lock, true);
}

/// All there are; with `wait`, until the arena goes.
void Arena::work_on_replacements(bool lock, bool wait) {
  std::unique_lock guard(mutex_);
  for (;;) {
    if (wait) wake_.wait(guard, [this] { return stop_.load() || !to_replace_.empty(); });
    if (stop_.load() || to_replace_.empty()) return;
    const uint32_t slab = to_replace_.front();
    guard.unlock();
    const bool replaced = replace_now(slab, wait, lock);
    guard.lock();
    if (replaced) {
      to_replace_.pop_front();
      over_.push_back(slab);
    } else if (!wait) {
      return;
    } else {
      to_replace_.pop_front();
      to_replace_.push_back(slab);  // others may give memory back
      wake_.wait_for(guard, kReplaceAgain, [this] { return stop_.load(); });
    }
  }
}

/// False: to be tried again.
bool Arena::replace_now(uint32_t index, bool populate, bool lock) {
  SlabMemory& memory = slabs_[index]->memory;
  const Slab::Work work = slabs_[index]->work;
  if (keeper_ != nullptr && work != Slab::Work::add) keeper_->forget(memory.name());
  if (work == Slab::Work::remove) {
    memory.drop(&locked_);
    return true;
  }
  Status there = memory.map(owner_, slabs_[index]->epoch);
  if (there.ok() && populate) {
    there = memory.populate(lock, stop_, &locked_);
    if (!there.ok()) memory.drop(&locked_);
  }
  if (!there.ok()) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    spdlog::warn("event=slab_not_replaced slab={} error=\"{}\"", index, there.to_string());
    return work == Slab::Work::add;
  }
  offer(index);
  return true;
}

// Those outside.

std::optional<SlabPlace> Arena::place_of(const std::byte* address) const {
  if (address < base_ || address >= base_ + slabs_.size() * slab_bytes_) return std::nullopt;
  const auto at = static_cast<uint64_t>(address - base_);
  const auto index = static_cast<uint32_t>(at / slab_bytes_);
  const Slab& slab = *slabs_[index];
  if (slab.domain == kNobody) return std::nullopt;
  return SlabPlace{index, slab.epoch, at % slab_bytes_, slab.domain};
}

StatusOr<SlabDescriptor> Arena::export_slab(uint32_t index) {
  if (index >= slabs_.size()) {
    return error(StatusCode::kInvalidArgument, "export of slab " + std::to_string(index) +
                                                   "; there are " + std::to_string(slabs_.size()));
  }
  Slab& slab = *slabs_[index];
  if (slab.domain == kNobody) {
    return error(StatusCode::kFailedPrecondition,
                 "export of slab " + std::to_string(index) +
                     ", which belongs to nobody: ask for the place of the bytes again");
  }
  TERRACE_ASSIGN_OR_RETURN(Fd fd, slab.memory.open_read_only());
  slab.exported = true;
  const std::span<std::byte> data = slab.memory.data();
  return SlabDescriptor{std::move(fd), slab_data_offset(data.size()), data.size(), slab.epoch};
}

bool Arena::exported(uint32_t slab) const {
  return slabs_[slab]->exported;
}
}  // namespace terrace
