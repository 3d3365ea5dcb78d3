#include "storage/shared_tier.h"

#include <utility>

#include "base/check.h"
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
      next_pass_([this] { begin_pass(); }) {}

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
  if (const auto it = publishing_.find(name); it != publishing_.end()) {
    if (it->second.erased) {
      return refuse(SharedFailure::busy,
                    error(StatusCode::kAborted, "put: the key is being erased: try again"));
    }
    it->second.waiting.push_back(std::move(then));
    return ok_status();
  }
  const uint64_t logical = total_bytes(source.header.sections);
  const SharedName target{*digest, name.key, SharedGeneration::of(unix_seconds(), logical)};
  SharedCall call;
  call.lane = lane;
  for (const iovec& run : source.data) call.bytes += run.iov_len;
  const uint64_t bytes = call.bytes;
  const Nanos since = core_.loop->now();
  call.holds = std::move(source.holds);
  call.work = [medium = medium_, target, header = std::move(source.header),
               data = std::move(source.data)] {
    return publish_shared(medium.get(), target, header, data);
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
  publishing_[name].waiting.push_back(std::move(then));
  return ok_status();
}

void SharedTier::published(const ObjectName& name, SharedGeneration generation, uint64_t bytes,
                           const Status& result) {
  SharedMetrics& metrics = core_.metrics.shared;
  const Publishing state = std::move(publishing_.extract(name).mapped());
  const auto tell = [&] {
    for (const Then& then : state.waiting) then(result);
  };
  // Late: it may still come about, and then the next listing finds it.
  if (!result.ok()) {
    metrics.publish_failures[static_cast<size_t>(failure_of(result))].add();
    spdlog::warn("event=shared_publish key={} error=\"{}\"", name.key.hex(), result.to_string());
    return tell();
  }
  metrics.publishes.add();
  metrics.publish_bytes.add(bytes);
  core_.metrics.bytes_verified.add(generation.logical_bytes());
  if (state.erased) {
    trash({*set_.digest_of(name.ns), name.key, generation}, nullptr);
    return tell();
  }
  set_.add(name.ns, name.key, generation);
  if (fresh_.insert_or_assign(name, core_.loop->now()).second) fresh_order_.push_back(name);
  if (fresh_order_.size() > kFreshMax) {
    fresh_.erase(fresh_order_.front());
    fresh_order_.pop_front();
  }
  core_.generations->published(name.ns, name.key);
  update_gauges();
  tell();
}

bool SharedTier::fresh(NamespaceId ns, const ChunkKey& key) const {
  const auto it = fresh_.find({ns, key});
  if (it == fresh_.end() || !set_.find(ns, key)) return false;
  return core_.loop->now() - it->second < Nanos(core_.config.shared_grace) / 2;
}

void SharedTier::erase(NamespaceId ns, const ChunkKey& key, Then then) {
  if (const auto it = publishing_.find({ns, key}); it != publishing_.end()) {
    it->second.erased = true;
  }
  const std::optional<SharedGeneration> there = set_.find(ns, key);
  if (!there) {
    core_.later([then = std::move(then)] { then(ok_status()); });
    return;
  }
  set_.remove(ns, key, *there);
  fresh_.erase({ns, key});
  trash({*set_.digest_of(ns), key, *there}, std::move(then));
}

void SharedTier::trash(const SharedName& name, Then then) {
  SharedCall call;
  call.work = [medium = medium_, name] {
    return medium->move(shared_path(name), shared_aside_path(kSharedTrash, name));
  };
  call.then = [then](const Status& result) {
    const bool gone = result.code() == StatusCode::kNotFound;
    if (then) then(gone ? ok_status() : result);
  };
  if (Status started = calls_.start(std::move(call)); !started.ok() && then) {
    core_.later([then, started] { then(started); });
  }
}

void SharedTier::update_gauges() {
  constexpr auto kShared = static_cast<size_t>(Tier::shared);
  core_.metrics.capacity_bytes[kShared].set(core_.config.shared_bytes_max);
  core_.metrics.used_bytes[kShared].set(set_.bytes());
  core_.metrics.objects[kShared].set(set_.objects());
}
}  // namespace terrace
