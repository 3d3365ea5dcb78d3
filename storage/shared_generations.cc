#include "storage/shared_generations.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/identity.h"
#include "storage/core.h"

namespace terrace {
namespace {

constexpr size_t kListMax = 65536;

/// The newest copy of the key, by a look at its folder.
StatusOr<SharedGeneration> look_for(SharedMedium* medium, const NamespaceDigest& ns,
                                    const ChunkKey& key) {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           medium->list(shared_folder_path(ns, shared_folder_of(key)), kListMax));
  SharedGeneration newest;
  for (const std::string& name : names) {
    const auto leaf = parse_shared_leaf(name);
    if (leaf && leaf->key == key) newest = std::max(newest, leaf->generation);
  }
  if (newest.number == 0) return StatusCode::kNotFound;
  return newest;
}
}  // namespace

GenerationRight::GenerationRight(GenerationRight&& other) noexcept
    : from_(std::exchange(other.from_, nullptr)),
      ns_(other.ns_),
      key_(other.key_),
      token_(other.token_) {}

GenerationRight::~GenerationRight() {
  if (from_ != nullptr) from_->drop(ns_, key_, token_);
}

GenerationRight& GenerationRight::operator=(GenerationRight&& other) noexcept {
  std::swap(from_, other.from_);
  std::swap(ns_, other.ns_);
  std::swap(key_, other.key_);
  std::swap(token_, other.token_);
  return *this;
}

/// What one look at the medium brings.
struct SharedGenerations::Poll {
  std::shared_ptr<SharedGeneration> there = std::make_shared<SharedGeneration>();
  std::shared_ptr<SharedLease> lease = std::make_shared<SharedLease>();
  Nanos since{0};
};

SharedGenerations::SharedGenerations(ChunkStore::Core& core)
    : core_(core), timer_([this] { tick(); }) {}

SharedGenerations::~SharedGenerations() {
  core_.loop->disarm(&timer_);
}

std::string SharedGenerations::lease_name(const NamespaceDigest& ns, const ChunkKey& key) {
  return "generate-" + sha256(ns.hex() + key.hex()).hex();
}

Status SharedGenerations::wait(NamespaceId ns, const ChunkKey& key, Nanos patience, Nanos hold_max,
                               GenerationRight* right, Op* op) {
  TERRACE_CHECK(!*right);
  if (core_.find(ns, key) != kNoEntry || core_.shared->find(ns, key)) {
    core_.metrics.shared.generations_found.add();
    core_.defer(op, ok_status());
    return ok_status();
  }
  if (stopped_ || !core_.shared->works(ns)) {
    return error(StatusCode::kUnavailable, "the shared tier does not answer: compute it");
  }
  if (waiters_ >= kWaitersMax) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(kWaitersMax) + " callers wait for chunks, the limit");
  }
  const Nanos now = core_.loop->now();
  ++waiters_;
  keys_[{ns, key}].waiters.push_back({now + patience, hold_max, right, op});
  if (!timer_.armed()) core_.loop->arm(&timer_, now);
  return ok_status();
}

void SharedGenerations::cancel(const GenerationRight* right, StatusCode why) {
  for (auto& [name, key] : keys_) {
    const auto it = std::find_if(key.waiters.begin(), key.waiters.end(),
                                 [&](const Waiter& waiter) { return waiter.right == right; });
    if (it == key.waiters.end()) continue;
    core_.defer(it->op, why);
    key.waiters.erase(it);
    --waiters_;
    return;
  }
}

void SharedGenerations::stop() {
  stopped_ = true;
  for (auto& [name, key] : keys_) {
    for (const Waiter& waiter : std::exchange(key.waiters, {})) {
      --waiters_;
      core_.defer(waiter.op, StatusCode::kUnavailable);
    }
    if (key.token != 0) release(&key);
  }
}

void SharedGenerations::tick() {
  const Nanos now = core_.loop->now();
  std::vector<std::pair<Nanos, ObjectName>> due;
  for (auto it = keys_.begin(); it != keys_.end();) {
    const ObjectName name = it->first;
    Key& key = it->second;
    expire(&key);
    if (!key.waiters.empty() && core_.find(name.ns, name.key) != kNoEntry) found(&key);
    if (!key.waiters.empty() && key.token == 0 && !core_.shared->works(name.ns)) {
      give_up(&key, error(StatusCode::kUnavailable, "it does not answer"));
    }
    if (key.token != 0) {
      renew(name, &key);
    } else if (!key.waiters.empty() && !key.polling && now >= key.poll_at) {
      due.emplace_back(key.poll_at, name);
    }
    const bool over = key.waiters.empty() && !key.polling && !key.renewing && key.token == 0;
    it = over ? keys_.erase(it) : std::next(it);
  }
  // Who waits for a look the longest is next.
  const size_t polls = std::min(due.size(), kPollsMax - polls_);
  std::partial_sort(due.begin(), due.begin() + static_cast<ptrdiff_t>(polls), due.end(),
                    [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i < polls; ++i) poll(due[i].second, &keys_.at(due[i].second));
  if (!keys_.empty() && !stopped_) core_.loop->arm(&timer_, now + kTick);
}

void SharedGenerations::expire(Key* key) {
  const Nanos now = core_.loop->now();
  for (auto it = key->waiters.begin(); it != key->waiters.end();) {
    if (it->until > now) {
      ++it;
      continue;
    }
    core_.metrics.shared.generations_late.add();
    core_.defer(it->op, error(StatusCode::kDeadlineExceeded, "nobody published it in time"));
    it = key->waiters.erase(it);
    --waiters_;
  }
}

/// Is it there? If not, may we? And once more, because it may have been published in between.
void SharedGenerations::poll(const ObjectName& name, Key* key) {
  const Poll poll{.since = core_.loop->now()};
  SharedCall call;
  call.lane = SharedLane::background;  // loads go first
  const NamespaceDigest digest = *core_.shared->digest_of(name.ns);
  call.work = [medium = core_.shared->medium(), digest, name, poll,
               ttl = Nanos(core_.config.shared_generate_lease)]() -> Status {
    for (const bool holding : {false, true}) {
      const auto there = look_for(medium.get(), digest, name.key);
      if (there.ok()) {
        *poll.there = *there;
        if (holding) release_lease(medium.get(), *poll.lease);
        return ok_status();
      }
      const bool absent = there.status().code() == StatusCode::kNotFound;
      if (holding && !absent) release_lease(medium.get(), *poll.lease);
      if (!absent) return there.status();
      if (holding) break;
      TERRACE_ASSIGN_OR_RETURN(*poll.lease,
                               claim_lease(medium.get(), lease_name(digest, name.key), ttl));
    }
    return ok_status();
  };
  call.then = [this, name, poll](const Status& result) { polled(name, poll, result); };
  if (!core_.shared->calls().start(std::move(call)).ok()) {
    key->poll_at = core_.loop->now() + key->pause;
    return;
  }
  key->polling = true;
  ++polls_;
}

void SharedGenerations::polled(const ObjectName& name, const Poll& poll, const Status& result) {
  --polls_;
  if (!stopped_) core_.loop->arm(&timer_, core_.loop->now());  // the next one's turn
  Key& key = keys_.at(name);
  key.polling = false;
  if (!result.ok() && result.code() != StatusCode::kAborted) return give_up(&key, result);
  if (!result.ok()) {  // another one has it: later again
    key.poll_at = core_.loop->now() + key.pause;
    key.pause = std::min(kPollLongest, key.pause * 3 / 2);
    return;
  }
  if (poll.there->number != 0) {
    core_.shared->listed(name.ns, name.key, *poll.there);
    return found(&key);
  }
  grant(name, &key, *poll.lease, poll.since);
}

void SharedGenerations::grant(const ObjectName& name, Key* key, SharedLease lease, Nanos since) {
  key->lease = std::move(lease);
  key->token = key->lease.token;
  key->lease_until = since + Nanos(core_.config.shared_generate_lease);
  key->pause = kPollFirst;
  if (key->waiters.empty() || stopped_) return release(key);
  Waiter first = key->waiters.front();
  key->waiters.pop_front();
  --waiters_;
  key->hold_until = core_.loop->now() + first.hold_max;
  core_.metrics.shared.generations_granted.add();
  first.right->from_ = this;
  first.right->ns_ = name.ns;
  first.right->key_ = name.key;
  first.right->token_ = key->token;
  core_.defer(first.op, ok_status());
}

/// The medium fails: everybody computes, as without it.
void SharedGenerations::give_up(Key* key, const Status& why) {
  for (const Waiter& waiter : std::exchange(key->waiters, {})) {
    --waiters_;
    core_.defer(waiter.op, error(StatusCode::kUnavailable,
                                 "the shared tier fails: compute it: " + why.message()));
  }
}

void SharedGenerations::found(Key* key) {
  for (const Waiter& waiter : std::exchange(key->waiters, {})) {
    --waiters_;
    core_.metrics.shared.generations_found.add();
    core_.defer(waiter.op, ok_status());
  }
}

/// As long as its holder may have it; one that computes for ever loses it.
void SharedGenerations::renew(const ObjectName& name, Key* key) {
  const Nanos now = core_.loop->now();
  const Nanos ttl(core_.config.shared_generate_lease);
  if (now >= key->hold_until || now >= key->lease_until) return release(key);
  if (key->renewing || key->lease_until - now > ttl * 2 / 3) return;
  SharedCall call;
  call.work = [medium = core_.shared->medium(), lease = key->lease] {
    return renew_lease(medium.get(), lease);
  };
  call.then = [this, name, token = key->token, now, ttl](const Status& result) {
    Key& held = keys_.at(name);
    held.renewing = false;
    if (held.token != token) return;
    if (result.ok()) held.lease_until = now + ttl;
    if (result.code() == StatusCode::kAborted) held.token = 0;  // lost: nothing to release
  };
  if (core_.shared->calls().start(std::move(call)).ok()) key->renewing = true;
}

void SharedGenerations::release(Key* key) {
  key->token = 0;
  key->poll_at = core_.loop->now();
  SharedCall call;
  call.work = [medium = core_.shared->medium(), lease = key->lease] {
    release_lease(medium.get(), lease);
    return ok_status();
  };
  call.then = [](const Status&) {};
  (void)core_.shared->calls().start(std::move(call));  // else it runs out by itself
}

void SharedGenerations::drop(NamespaceId ns, const ChunkKey& key, uint64_t token) {
  const auto it = keys_.find({ns, key});
  if (it != keys_.end() && it->second.token == token) release(&it->second);
}

void SharedGenerations::published(NamespaceId ns, const ChunkKey& key) {
  const auto it = keys_.find({ns, key});
  if (it != keys_.end()) found(&it->second);
}
}  // namespace terrace
