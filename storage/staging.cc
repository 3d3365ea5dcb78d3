#include "storage/staging.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace terrace {

StagingLease::~StagingLease() {
  pool_->pool_.give_back(buffer_);
  disown();
}

void StagingLease::disown() {
  if (owner_) pool_->count_back(*owner_);
  owner_.reset();
  pool_->look_soon();
}

Staging::Staging(Loop* loop, BufferPool pool, Nanos patience)
    : loop_(loop), pool_(std::move(pool)), patience_(patience), late_([this] { give_up(); }) {}

Staging::~Staging() {
  loop_->disarm(&late_);
}

bool Staging::may_have(const Owner& owner) const {
  const size_t quarter = std::max<size_t>(1, pool_.count() / 4);
  if (owner.held == 0) return pool_.free_count() > 0;
  return owner.held < quarter && pool_.free_count() > pool_.count() / 4;
}

std::shared_ptr<StagingLease> Staging::lend(uint64_t name, Owner* owner) {
  const std::span<std::byte> buffer = pool_.take();
  TERRACE_CHECK(!buffer.empty());
  ++owner->held;
  owner->progress = loop_->now();
  return std::make_shared<StagingLease>(this, name, buffer);
}

std::shared_ptr<StagingLease> Staging::take(uint64_t owner) {
  Owner& asking = owners_[owner];
  if (asking.waiters.empty() && may_have(asking)) return lend(owner, &asking);
  if (asking.held == 0 && asking.waiters.empty()) owners_.erase(owner);
  return nullptr;
}

Status Staging::wait(uint64_t owner, Ready ready) {
  if (waiting_ >= kWaitersMax) {
    return error(StatusCode::kResourceExhausted, "65536 reads wait for a staging buffer");
  }
  ++waiting_;
  owners_[owner].waiters.push_back({loop_->now(), std::move(ready)});
  if (!late_.armed()) loop_->arm(&late_, loop_->now() + patience_);
  return ok_status();
}

void Staging::abandon() {
  static auto* const kept = new std::deque<BufferPool>;  // reachable, so no leak is reported
  kept->push_back(std::move(pool_));
}

void Staging::count_back(uint64_t name) {
  const auto owner = owners_.find(name);
  TERRACE_CHECK(owner != owners_.end() && owner->second.held > 0);
  if (--owner->second.held == 0 && owner->second.waiters.empty()) owners_.erase(owner);
}

void Staging::look_soon() {
  if (waiting_ > 0 && !serving_) {
    serving_ = true;  // on a turn of its own: a lease may die deep inside somebody's call
    loop_->defer([this] { serve(); });
  }
}

void Staging::serve() {
  serving_ = false;
  while (waiting_ > 0 && serve_one()) {
  }
}

/// The next owner, in turn, that waits and may have one.
bool Staging::serve_one() {
  auto at = owners_.upper_bound(last_served_);
  for (size_t left = owners_.size(); left > 0; --left, ++at) {
    if (at == owners_.end()) at = owners_.begin();
    Owner& owner = at->second;
    if (owner.waiters.empty() || !may_have(owner)) continue;
    last_served_ = at->first;
    const Ready ready = std::move(owner.waiters.front().ready);
    owner.waiters.pop_front();
    --waiting_;
    ready(lend(last_served_, &owner));
    return true;
  }
  return false;
}

void Staging::give_up() {
  const Nanos now = loop_->now();
  std::vector<Ready> late;
  for (auto at = owners_.begin(); at != owners_.end();) {
    Owner& owner = at->second;
    while (!owner.waiters.empty() && now - owner.waiters.front().since >= patience_ &&
           now - owner.progress >= patience_) {
      late.push_back(std::move(owner.waiters.front().ready));
      owner.waiters.pop_front();
      --waiting_;
    }
    at = owner.held == 0 && owner.waiters.empty() ? owners_.erase(at) : std::next(at);
  }
  if (waiting_ > 0) loop_->arm(&late_, now + patience_ / 4);
  for (const Ready& ready : late) ready(nullptr);
}
}  // namespace terrace
