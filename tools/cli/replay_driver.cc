#include "tools/cli/replay_driver.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <bit>

#include "base/limits.h"
#include "tools/cli/content.h"
#include "tools/cli/schedule.h"

namespace terrace {
namespace {

constexpr uint32_t kBatchBlocksMax = 64;
constexpr size_t kDrainMax = 64;
constexpr milliseconds kLease{30'000};
constexpr Nanos kLongestWait = milliseconds(100);

std::span<const ChunkKey> window_of(std::span<const ChunkKey> keys, size_t window) {
  const size_t first = window * kKeysPerRequestMax;
  return keys.subspan(first, std::min<size_t>(kKeysPerRequestMax, keys.size() - first));
}
}  // namespace

StatusOr<std::unique_ptr<ReplayDriver>> ReplayDriver::create(Client* client, NamespaceId ns,
                                                             uint64_t block_bytes,
                                                             const ReplayOptions& options) {
  const uint64_t each = (block_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  if (options.memory_bytes < each) {
    return error(StatusCode::kInvalidArgument, "memory of " + std::to_string(options.memory_bytes) +
                                                   " bytes holds no block of " +
                                                   std::to_string(block_bytes));
  }
  TERRACE_ASSIGN_OR_RETURN(BufferPool pool, BufferPool::create(options.memory_bytes / each, each));
  std::unique_ptr<ReplayDriver> driver(
      new ReplayDriver(client, ns, block_bytes, options, std::move(pool)));
  TERRACE_ASSIGN_OR_RETURN(driver->region_, client->register_memory(driver->pool_.whole()));
  return driver;
}

ReplayDriver::ReplayDriver(Client* client, NamespaceId ns, uint64_t block_bytes,
                           const ReplayOptions& options, BufferPool pool)
    : client_(client),
      ns_(ns),
      block_bytes_(block_bytes),
      options_(options),
      pool_(std::move(pool)) {}

ReplayDriver::~ReplayDriver() {
  const Status gone = client_->unregister_memory(region_);
  if (!gone.ok()) client_->close();  // after it nothing touches the memory
}

ReplayCounts ReplayDriver::run(std::span<const TraceRequest> requests,
                               const std::function<void(uint64_t)>& progress) {
  const std::vector<Nanos> due =
      options_.speed > 0 ? arrivals_of(requests, options_.speed) : std::vector<Nanos>();
  began_ = clock_.now();
  while (next_request_ < requests.size() || !running_.empty()) {
    start_due(requests, due);
    pump();
    wait_for_news(due);
    take_completions();
    take_content();
    progress(counts_.requests);
  }
  counts_.elapsed = clock_.now() - began_;
  return std::move(counts_);
}

void ReplayDriver::start_due(std::span<const TraceRequest> requests, std::span<const Nanos> due) {
  const uint32_t at_once = due.empty() ? 1 : options_.requests_in_flight;
  while (next_request_ < requests.size() && running_.size() < at_once) {
    const Nanos now = clock_.now();
    const Nanos at = due.empty() ? now : began_ + due[next_request_];
    if (at > now) return;
    counts_.lateness_max = std::max(counts_.lateness_max, now - at);
    auto owned = std::make_unique<Request>();
    Request* const request = owned.get();
    request->trace = &requests[next_request_++];
    request->due = at;
    const std::string prefix = "replay/" + std::to_string(options_.seed) + "/";
    for (const uint64_t id : request->trace->block_ids) {
      const StatusOr<ChunkKey> key = client_->raw_key(ns_, prefix + std::to_string(id));
      TERRACE_CHECK(key.ok());  // the namespace is open and the name short
      request->keys.push_back(*key);
    }
    counts_.blocks += request->keys.size();
    if (request->keys.empty()) {  // shorter than a block
      ++counts_.requests;
      continue;
    }
    running_.emplace(request, std::move(owned));
    match(request);
  }
}

void ReplayDriver::wait_for_news(std::span<const Nanos> due) {
  Nanos wait = kLongestWait;
  const bool may_start = running_.size() < options_.requests_in_flight;
  if (!due.empty() && may_start && next_request_ < due.size()) {
    wait = std::clamp(began_ + due[next_request_] - clock_.now(), Nanos(0), wait);
  }
  if (running_.empty() && wait == Nanos(0)) return;
  std::array<pollfd, 2> events = {pollfd{client_->event_fd(), POLLIN, 0},
                                  pollfd{worker_.event_fd(), POLLIN, 0}};
  const timespec timeout{0, wait.count()};  // kLongestWait is under a second
  ::ppoll(events.data(), events.size(), &timeout, nullptr);
}

void ReplayDriver::take_completions() {
  std::array<Completion, kDrainMax> done;
  const size_t count = client_->drain(done);
  for (const Completion& completion : std::span(done).first(count)) {
    const uint64_t id = completion.user_tag;
    if (!completion.status.ok() && counts_.first_failure.empty()) {
      counts_.first_failure = completion.status.to_string();
    }
    switch (batches_.at(id).kind) {
      case Kind::match:
        matched(id, completion);
        break;
      case Kind::fetch:
        fetched(id, completion);
        break;
      case Kind::put:
        stored(id, completion);
        break;
    }
  }
}

uint64_t ReplayDriver::add_batch(Kind kind, Request* request) {
  const uint64_t id = next_batch_++;
  Batch& batch = batches_[id];
  batch.kind = kind;
  batch.request = request;
  batch.since = clock_.now();
  ++request->batches;
  return id;
}

/// Gives back what a batch holds; its request goes on, or is over.
void ReplayDriver::end_batch(uint64_t id) {
  const auto node = batches_.extract(id);
  for (const std::span<std::byte> slot : node.mapped().slots) pool_.give_back(slot);
  Request* const request = node.mapped().request;
  --request->batches;
  if (request->matched && !request->loaded && request->fetch_next == request->hits &&
      request->fetching == 0) {
    loaded(request);
  }
  const bool stored_all = request->loaded && request->store_next == request->to_store.size();
  if (stored_all && request->batches == 0) end_request(request);
}

void ReplayDriver::match(Request* request) {
  const size_t window = request->leases.size();
  const uint64_t id = add_batch(Kind::match, request);
  if (window == 0) batches_[id].since = request->due;
  const GroupKeys group{window_of(request->keys, window), 0};
  LookupOptions options;
  options.deadline = options_.deadline;
  options.lease = kLease;
  options.user_tag = id;
  const StatusOr<OpId> op = client_->match_prefix(ns_, {&group, 1}, options);
  if (op.ok()) return;
  ++counts_.refusals[op.status().code()];
  request->matched = true;
  end_batch(id);
}

void ReplayDriver::matched(uint64_t id, const Completion& done) {
  const Batch& batch = batches_.at(id);
  Request* const request = batch.request;
  counts_.match.record(clock_.now() - batch.since);
  if (!done.status.ok()) ++counts_.refusals[done.status.code()];
  const size_t window = request->leases.size();
  request->leases.push_back(done.lease);
  const uint32_t longest = done.status.ok() ? done.longest : 0;
  for (uint32_t i = 0; i < longest; ++i) {
    const auto fastest = static_cast<size_t>(std::countr_zero(done.keys[i].tiers));
    if (fastest >= kTierCount) continue;
    ++counts_.hits_by_tier[fastest];
    const Place place = place_of(*request, request->hits + i);
    counts_.saved_s +=
        SavingModel().saved_s(place.position, place.tokens, static_cast<Tier>(fastest));
  }
  request->hits += longest;
  counts_.prefix_hits += longest;
  const size_t asked = window_of(request->keys, window).size();
  const bool more = request->keys.size() > request->hits;
  if (longest == asked && more) {
    match(request);
  } else {
    request->matched = true;
    for (uint32_t i = request->hits; i < request->keys.size(); ++i) request->to_store.push_back(i);
    if (request->hits > 0) wanting_.push_back(request);
  }
  end_batch(id);
}

/// Everything that could be fetched was: the rest is computed and stored.
void ReplayDriver::loaded(Request* request) {
  request->loaded = true;
  if (request->hits > 0) counts_.load.record(clock_.now() - request->due);
  std::sort(request->to_store.begin(), request->to_store.end());
  if (!request->to_store.empty()) wanting_.push_back(request);
}

void ReplayDriver::pump() {
  while (!wanting_.empty() && pool_.free_count() > 0) {
    Request* const request = wanting_.front();
    const bool fetching = request->fetch_next < request->hits;
    const size_t left = fetching ? request->hits - request->fetch_next
                                 : request->to_store.size() - request->store_next;
    const auto count =
        static_cast<uint32_t>(std::min<size_t>({left, kBatchBlocksMax, pool_.free_count()}));
    if (count == left) wanting_.pop_front();
    if (fetching) {
      fetch(request, count);
    } else {
      fill(request, count);
    }
  }
}

void ReplayDriver::fetch(Request* request, uint32_t count) {
  const uint64_t id = add_batch(Kind::fetch, request);
  Batch& batch = batches_[id];
  std::vector<Fragment> fragments(count);
  std::vector<FetchItem> items;
  const std::byte* const base = pool_.whole().data();
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t block = request->fetch_next++;
    batch.blocks.push_back(block);
    batch.slots.push_back(pool_.take());
    fragments[i] = {0, region_, static_cast<uint64_t>(batch.slots.back().data() - base),
                    block_bytes_};
    items.push_back({request->keys[block], std::span(&fragments[i], 1)});
  }
  FetchOptions options;
  options.deadline = options_.deadline;
  options.user_tag = id;
  options.lease = request->leases[batch.blocks[0] / kKeysPerRequestMax];
  ++request->fetching;
  const StatusOr<OpId> op = client_->fetch(ns_, items, options);
  if (op.ok()) return;
  --request->fetching;
  ++counts_.refusals[op.status().code()];
  end_batch(id);
}

void ReplayDriver::fetched(uint64_t id, const Completion& done) {
  Batch& batch = batches_.at(id);
  counts_.fetch.record(clock_.now() - batch.since);
  --batch.request->fetching;
  for (size_t t = 0; t < kTierCount; ++t) counts_.tier_bytes[t] += done.tier_bytes[t];
  for (size_t i = 0; i < batch.blocks.size(); ++i) {
    const StatusCode code = i < done.key_codes.size() ? done.key_codes[i] : done.status.code();
    if (code != StatusCode::kOk) {
      ++counts_.fetch_failures[code];
      batch.request->to_store.push_back(batch.blocks[i]);  // an engine would compute it
      continue;
    }
    counts_.bytes_checked += block_bytes_;
    ++batch.content_left;
    worker_.post({ContentWorker::Work::check, seed_of(*batch.request, batch.blocks[i]),
                  batch.slots[i].first(block_bytes_), id, 0});
  }
  if (batch.content_left == 0) end_batch(id);
}

void ReplayDriver::fill(Request* request, uint32_t count) {
  const uint64_t id = add_batch(Kind::put, request);
  Batch& batch = batches_[id];
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t block = request->to_store[request->store_next++];
    batch.blocks.push_back(block);
    batch.slots.push_back(pool_.take());
    ++batch.content_left;
    worker_.post({ContentWorker::Work::fill, seed_of(*request, block),
                  batch.slots[i].first(block_bytes_), id, 0});
  }
}

void ReplayDriver::put(uint64_t id) {
  Batch& batch = batches_.at(id);
  batch.since = clock_.now();
  std::vector<Fragment> fragments(batch.blocks.size());
  std::vector<PutItem> items(batch.blocks.size());
  const std::byte* const base = pool_.whole().data();
  for (size_t i = 0; i < items.size(); ++i) {
    fragments[i] = {0, region_, static_cast<uint64_t>(batch.slots[i].data() - base), block_bytes_};
    items[i].key = batch.request->keys[batch.blocks[i]];
    items[i].fragments = std::span(&fragments[i], 1);
    const Place place = place_of(*batch.request, batch.blocks[i]);
    const double recompute_s = SavingModel().recompute_s(place.position, place.tokens);
    items[i].recompute_us = static_cast<uint64_t>(recompute_s * 1e6);
  }
  PutOptions options;
  options.deadline = options_.deadline;
  options.user_tag = id;
  options.durability = options_.durability;
  const StatusOr<OpId> op = client_->put(ns_, items, options);
  if (op.ok()) return;
  ++counts_.refusals[op.status().code()];
  end_batch(id);
}

void ReplayDriver::stored(uint64_t id, const Completion& done) {
  const Batch& batch = batches_.at(id);
  counts_.put.record(clock_.now() - batch.since);
  counts_.bytes_stored += done.bytes;
  for (size_t i = 0; i < batch.blocks.size(); ++i) {
    const StatusCode code = i < done.key_codes.size() ? done.key_codes[i] : done.status.code();
    if (code == StatusCode::kOk) {
      ++counts_.blocks_stored;
    } else if (code == StatusCode::kAlreadyExists) {
      ++counts_.blocks_duplicate;
    } else {
      ++counts_.put_failures[code];
    }
  }
  end_batch(id);
}

void ReplayDriver::take_content() {
  for (const ContentWorker::Job& job : worker_.drain()) {
    counts_.wrong_bytes += job.differences;
    Batch& batch = batches_.at(job.token);
    if (--batch.content_left > 0) continue;
    if (batch.kind == Kind::put) {
      put(job.token);
    } else {
      end_batch(job.token);
    }
  }
}

/// Tail first over all windows, so that the head of the request is its youngest block.
void ReplayDriver::end_request(Request* request) {
  const size_t windows = (request->keys.size() + kKeysPerRequestMax - 1) / kKeysPerRequestMax;
  for (size_t w = windows; w > 0; --w) client_->touch(ns_, window_of(request->keys, w - 1));
  for (const LeaseId lease : request->leases) client_->release(lease);
  ++counts_.requests;
  running_.erase(request);
}

/// Of a block: its first token's position in the prompt, and how many it has.
ReplayDriver::Place ReplayDriver::place_of(const Request& request, uint32_t block) const {
  const uint64_t begin = uint64_t{block} * options_.block_tokens;
  const uint64_t left = request.trace->input_tokens - std::min(request.trace->input_tokens, begin);
  return {static_cast<double>(begin),
          static_cast<double>(std::min<uint64_t>(options_.block_tokens, left))};
}

uint64_t ReplayDriver::seed_of(const Request& request, uint32_t block) const {
  return content_seed("block " + std::to_string(request.trace->block_ids[block]), options_.seed);
}
}  // namespace terrace
