#include "storage/shared_tier.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/shared_listing.h"
#include "storage/shared_load.h"

namespace terrace {
namespace {

SharedCalls::Options options_of(const StoreConfig& config) {
  SharedCalls::Options options;
  options.threads = config.shared_threads;
  options.timeout = config.shared_timeout;
  options.probe_period = std::min<Nanos>(config.shared_timeout, seconds(1));
  return options;
}

constexpr const char* kErased = "put: the key was erased meanwhile: try again";
constexpr size_t kErasedNamesMax = 65536;      // of a folder
constexpr size_t kErasedGenerationsMax = 256;  // a key gets a new one every half grace

/// Moves every copy of the key to the trash, whoever published it. kNotFound: there is none.
/// Nothing more is moved once `late` is set: what is published after that is not for this erase.
Status trash_generations(SharedMedium* medium, const NamespaceDigest& ns, const ChunkKey& key,
                         const std::atomic<bool>& late, std::vector<SharedGeneration>* moved) {
  const std::string folder = shared_folder_path(ns, shared_folder_of(key));
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           medium->list(folder, kErasedNamesMax));
  for (const std::string& name : names) {
    const std::optional<SharedLeaf> leaf = parse_shared_leaf(name);
    if (!leaf || leaf->key != key) continue;
    if (late) return error(StatusCode::kAborted, "the erase was late");
    if (moved->size() == kErasedGenerationsMax) {
      return error(StatusCode::kResourceExhausted, "too many copies: erase it again");
    }
    const SharedName copy{ns, key, leaf->generation};
    const Status gone = medium->move(shared_path(copy), shared_aside_path(kSharedTrash, copy));
    if (!gone.ok() && gone.code() != StatusCode::kNotFound) return gone;
    moved->push_back(leaf->generation);
  }
  if (names.size() >= kErasedNamesMax) {
    return error(StatusCode::kResourceExhausted,
                 folder + " has too many names to be sure that no copy is left");
  }
  return moved->empty() ? Status(StatusCode::kNotFound) : medium->settle(folder);
}
}  // namespace

const char* name_of(SharedFailure failure) {
  static constexpr const char* kNames[kSharedFailures] = {
      "absent", "damaged", "failed", "late", "fenced", "busy", "no_space", "unknown"};
  return kNames[static_cast<size_t>(failure)];
}

SharedFailure failure_of(const Status& why) {
  switch (why.code()) {
    case StatusCode::kNotFound:
      return SharedFailure::absent;
    case StatusCode::kDataLoss:
      return SharedFailure::damaged;
    case StatusCode::kDeadlineExceeded:
      return SharedFailure::late;
    case StatusCode::kResourceExhausted:
      return SharedFailure::no_space;
    case StatusCode::kFailedPrecondition:
      return SharedFailure::unknown;
    default:
      return SharedFailure::failed;
  }
}

SharedTier::SharedTier(ChunkStore::Core& core, std::shared_ptr<SharedMedium> medium)
    : core_(core),
      medium_(std::move(medium)),
      set_(core.config.objects_max),
      calls_(medium_, core.loop, options_of(core.config), &core.metrics.shared),
      next_pass_([this] { begin_pass(); }) {
  core_.metrics.shared.requests = medium_->requests();
}

SharedTier::~SharedTier() {
  core_.loop->disarm(&next_pass_);
}

void SharedTier::start() {
  stopped_ = false;
  core_.loop->arm(&next_pass_, core_.loop->now());
}

void SharedTier::stop() {
  stopped_ = true;
  core_.loop->disarm(&next_pass_);
  calls_.stop();
}

void SharedTier::know(NamespaceId ns, const NamespaceDigest& digest) {
  if (set_.digest_of(ns) != nullptr) return;
  set_.know(ns, digest);
  if (!stopped_ && listing_ == nullptr) core_.loop->arm(&next_pass_, core_.loop->now());
}

Status SharedTier::publish(SharedSource source, SharedLane lane, Then then) {
  SharedMetrics& metrics = core_.metrics.shared;
  const auto refuse = [&](SharedFailure reason, Status why) {
    metrics.publish_failures[static_cast<size_t>(reason)].add();
    return why;
  };
  const NamespaceDigest* const digest = set_.digest_of(source.ns);
  if (digest == nullptr || calls_.fenced()) {
    return refuse(SharedFailure::fenced,
                  error(StatusCode::kUnavailable, "the shared tier does not answer"));
  }
  const ObjectName name{source.ns, source.header.key};
  // A copy that came about now could be taken for one that the erase is for.
  if (erasing_.contains(name)) {
    return refuse(SharedFailure::busy, error(StatusCode::kAborted, kErased));
  }
  if (const auto it = publishing_.find(name); it != publishing_.end()) {
    it->second.waiting.push_back(std::move(then));
    return ok_status();
  }
  const uint64_t logical = total_bytes(source.header.sections);
  const SharedName target{*digest, name.key, SharedGeneration::of(unix_seconds(), logical)};
  SharedCall call;
  call.lane = lane;
  for (const iovec& run : source.data) call.bytes += run.iov_len;
  const uint64_t bytes = call.bytes;
  call.bytes += moved_bytes(logical);  // an erase meanwhile: it is moved, too
  const Nanos since = core_.loop->now();
  call.holds = std::move(source.holds);
  const auto erased = std::make_shared<Erased>(false);
  const uint32_t expires_s = hints_of(source.header).kept.value_or(Kept()).expires_s;
  call.work = [medium = medium_, target, erased, header = std::move(source.header),
               data = std::move(source.data)] {
    const Status done = publish_shared(medium.get(), target, header, data);
    if (!*erased) return done;
    // Here too: after a call that hung nobody else knows that the copy came about.
    (void)medium->move(shared_path(target), shared_aside_path(kSharedTrash, target));
    return done.ok() ? error(StatusCode::kAborted, kErased) : done;
  };
  call.then = [this, name, generation = target.generation, bytes, since](const Status& result) {
    constexpr auto kShared = static_cast<size_t>(Tier::shared);
    const auto us = std::chrono::duration_cast<microseconds>(core_.loop->now() - since).count();
    if (result.ok()) {
      core_.metrics.writes[kShared].add();
      core_.metrics.write_bytes[kShared].add(generation.logical_bytes());
      core_.metrics.write_latency[kShared].record_us(static_cast<uint64_t>(us));
    }
    published(name, generation, bytes, result);
  };
  if (Status started = calls_.start(std::move(call)); !started.ok()) {
    return refuse(SharedFailure::busy, started);
  }
  Publishing& publishing = publishing_[name];
  publishing.erased = erased;
  publishing.expires_s = expires_s;
  publishing.waiting.push_back(std::move(then));
  return ok_status();
}

void SharedTier::published(const ObjectName& name, SharedGeneration generation, uint64_t bytes,
                           const Status& said) {
  SharedMetrics& metrics = core_.metrics.shared;
  const Publishing state = std::move(publishing_.extract(name).mapped());
  // Its thread may have been done before the erase came.
  const Status result = said.ok() && *state.erased ? error(StatusCode::kAborted, kErased) : said;
  const auto tell = [&] {
    // What the first one's source was like says nothing of the others'.
    const Status others = result.code() == StatusCode::kDataLoss
                              ? error(StatusCode::kAborted, "another copy was rotten: try again")
                              : result;
    for (size_t i = 0; i < state.waiting.size(); ++i) state.waiting[i](i == 0 ? result : others);
    for (const std::function<void()>& erase : state.erases) erase();
  };
  if (result.code() == StatusCode::kAborted) return tell();
  if (result.code() == StatusCode::kDeadlineExceeded) {
    // It may still come about, and then the next listing finds it.
    std::erase_if(late_, [](const auto& each) { return each.second.expired(); });
    late_.emplace_back(name, state.erased);
  }
  if (!result.ok()) {
    metrics.publish_failures[static_cast<size_t>(failure_of(result))].add();
    spdlog::warn("event=shared_publish key={} error=\"{}\"", name.key.hex(), result.to_string());
    return tell();
  }
  metrics.publishes.add();
  metrics.publish_bytes.add(bytes);
  core_.metrics.bytes_verified.add(generation.logical_bytes());
  const Fresh fresh{core_.loop->now(), generation, add_to_set(name, generation), state.expires_s};
  if (fresh_.insert_or_assign(name, fresh).second) fresh_order_.push_back(name);
  if (fresh_order_.size() > kFreshMax) {
    fresh_.erase(fresh_order_.front());
    fresh_order_.pop_front();
  }
  core_.generations->published(name.ns, name.key);
  update_gauges();
  tell();
}

bool SharedTier::add_to_set(const ObjectName& name, SharedGeneration generation) {
  const bool added = set_.add(name.ns, name.key, generation);
  if (!added) core_.metrics.shared.listings_cut_short.add();  // as a listing that does not fit
  return added;
}

bool SharedTier::fresh(NamespaceId ns, const ChunkKey& key) const {
  const auto it = fresh_.find({ns, key});
  if (it == fresh_.end() || (it->second.in_set && !set_.find(ns, key))) return false;
  return core_.loop->now() - it->second.at < Nanos(core_.config.shared_grace) / 2;
}

void SharedTier::erase(NamespaceId ns, const ChunkKey& key, SharedLane lane, Then then) {
  const ObjectName name{ns, key};
  ++erasing_[name];
  fresh_.erase(name);
  const std::optional<SharedGeneration> known = set_.find(ns, key);
  if (known) set_.remove(ns, key, *known);
  for (const auto& [late, flag] : late_) {
    const std::shared_ptr<Erased> erased = flag.lock();
    if (erased != nullptr && late == name) *erased = true;
  }
  const auto it = publishing_.find(name);
  // It was there, whoever took it away first.
  const bool had = known.has_value() || it != publishing_.end();
  auto over = [then = std::move(then), had](const Status& result) {
    then(had && result.code() == StatusCode::kNotFound ? ok_status() : result);
  };
  if (it == publishing_.end()) return trash_all(name, lane, std::move(over));
  *it->second.erased = true;
  it->second.erases.emplace_back(
      [this, name, lane, over = std::move(over)] { trash_all(name, lane, over); });
}

void SharedTier::trash_all(const ObjectName& name, SharedLane lane, Then then) {
  const auto moved = std::make_shared<std::vector<SharedGeneration>>();
  const auto late = std::make_shared<std::atomic<bool>>(false);
  const auto over = [this, name, moved, late, then = std::move(then)](const Status& result) {
    if (result.code() == StatusCode::kDeadlineExceeded) {
      *late = true;  // its thread may still run
    } else {
      // Once more: a listing may have seen them before they were moved.
      for (const SharedGeneration each : *moved) set_.remove(name.ns, name.key, each);
    }
    if (const auto it = erasing_.find(name); --it->second == 0) erasing_.erase(it);
    update_gauges();
    then(result);
  };
  SharedCall call;
  call.lane = lane;
  call.bytes = moved_bytes(kObjectBytesMax);  // each, but only its listing says how large they are
  call.work = [medium = medium_, digest = *set_.digest_of(name.ns), key = name.key, moved, late] {
    return trash_generations(medium.get(), digest, key, *late, moved.get());
  };
  call.then = over;
  if (const Status started = calls_.start(std::move(call)); !started.ok()) {
    core_.later([over, started] { over(started); });
  }
}

void SharedTier::update_gauges() {
  constexpr auto kShared = static_cast<size_t>(Tier::shared);
  core_.metrics.capacity_bytes[kShared].set(core_.shared_bytes_max);
  core_.metrics.used_bytes[kShared].set(set_.bytes());
  core_.metrics.objects[kShared].set(set_.objects());
}
}  // namespace terrace
