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
  if (user_) pool_->count_back(*user_);
  user_.reset();
  pool_->look_soon();
}

Staging::Staging(Loop* loop, BufferPool pool, Nanos patience, size_t devices)
    : loop_(loop),
      pool_(std::move(pool)),
      patience_(patience),
      device_max_(std::max<size_t>(1, pool_.count() * 2 / (devices + 1))),
      late_([this] { give_up(); }) {}

Staging::~Staging() {
  loop_->disarm(&late_);
}

bool Staging::may_have(const StagingUser& name, const User& owner) const {
  const auto device = of_device_.find(name.device);
  if (device != of_device_.end() && device->second >= device_max_) return false;
  const size_t quarter = std::max<size_t>(1, pool_.count() / 4);
  if (owner.held == 0) return pool_.free_count() > 0;
  return owner.held < quarter && pool_.free_count() > pool_.count() / 4;
}

std::shared_ptr<StagingLease> Staging::lend(const StagingUser& name, User* owner) {
  const std::span<std::byte> buffer = pool_.take();
  TERRACE_CHECK(!buffer.empty());
  ++owner->held;
  ++of_device_[name.device];
  owner->progress = loop_->now();
  return std::make_shared<StagingLease>(this, name, buffer);
}

std::shared_ptr<StagingLease> Staging::take(const StagingUser& user) {
  User& asking = users_[user];
  if (asking.waiters.empty() && may_have(user, asking)) return lend(user, &asking);
  if (asking.held == 0 && asking.waiters.empty()) users_.erase(user);
  return nullptr;
}

Status Staging::wait(const StagingUser& user, Ready ready) {
  if (waiting_ >= kWaitersMax) {
    return error(StatusCode::kResourceExhausted, "65536 reads wait for a staging buffer");
  }
  ++waiting_;
  users_[user].waiters.push_back({loop_->now(), std::move(ready)});
  if (!late_.armed()) loop_->arm(&late_, loop_->now() + patience_);
  return ok_status();
}

void Staging::abandon() {
  static auto* const kept = new std::deque<BufferPool>;  // reachable, so no leak is reported
  kept->push_back(std::move(pool_));
}

void Staging::count_back(const StagingUser& name) {
  --of_device_[name.device];
  const auto owner = users_.find(name);
  TERRACE_CHECK(owner != users_.end() && owner->second.held > 0);
  if (--owner->second.held == 0 && owner->second.waiters.empty()) users_.erase(owner);
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
  auto at = users_.upper_bound(last_served_);
  for (size_t left = users_.size(); left > 0; --left, ++at) {
    if (at == users_.end()) at = users_.begin();
    User& owner = at->second;
    if (owner.waiters.empty() || !may_have(at->first, owner)) continue;
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
  for (auto at = users_.begin(); at != users_.end();) {
    User& owner = at->second;
    while (!owner.waiters.empty() && now - owner.waiters.front().since >= patience_ &&
           now - owner.progress >= patience_) {
      late.push_back(std::move(owner.waiters.front().ready));
      owner.waiters.pop_front();
      --waiting_;
    }
    at = owner.held == 0 && owner.waiters.empty() ? users_.erase(at) : std::next(at);
  }
  if (waiting_ > 0) loop_->arm(&late_, now + patience_ / 4);
  for (const Ready& ready : late) ready(nullptr);
}
}  // namespace terrace
