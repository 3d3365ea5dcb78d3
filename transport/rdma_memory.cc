#include "transport/rdma_memory.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace terrace {
namespace {

/// Of registrations that start at or before a place, how many are looked at: one of own use and one
/// of peers' that are the same, twice. Memory under more that overlap may be bounced.
constexpr int kCandidatesMax = 4;
}  // namespace

RdmaMemory::RdmaMemory(BufferPool large, BufferPool small, Loop* loop,
                       std::vector<const RdmaCard*> cards, RdmaMetrics* metrics,
                       std::function<void()> settled)
    : loop_(loop),
      cards_(std::move(cards)),
      metrics_(metrics),
      settled_(std::move(settled)),
      large_(std::move(large)),
      small_(std::move(small)),
      workers_(loop, kThreadsMax) {}

RdmaMemory::~RdmaMemory() = default;

StatusOr<std::unique_ptr<RdmaMemory>> RdmaMemory::create(const RdmaOptions& options, Loop* loop,
                                                         std::vector<const RdmaCard*> cards,
                                                         RdmaMetrics* metrics,
                                                         std::function<void()> settled) {
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool large,
      BufferPool::create(std::max(1u, options.bounce_buffers), kFramePayloadBytesMax));
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool small,
      BufferPool::create(std::max(1u, options.small_bounce_buffers), kSmallBytes));
  auto out = std::unique_ptr<RdmaMemory>(new RdmaMemory(
      std::move(large), std::move(small), loop, std::move(cards), metrics, std::move(settled)));
  for (BufferPool* pool : {&out->large_, &out->small_}) {
    TERRACE_RETURN_IF_ERROR(out->register_bounce(pool->whole()));
  }
  return out;
}

/// Before anything else: there is no loop to stall yet, and nothing goes without them.
Status RdmaMemory::register_bounce(std::span<std::byte> memory) {
  auto made = std::make_shared<Registration>();
  made->memory = memory;
  made->slices.resize(cards_.size());
  for (size_t card = 0; card < cards_.size(); ++card) {
    made->slices[card].resize(1);
    learn(made.get(), card, 0);
    TERRACE_RETURN_IF_ERROR(made->slices[card].front().result);
  }
  made->state = State::known;
  made->users = 1;
  count(*made, true);
  made->serial = next_serial_++;
  registrations_.emplace(key_of(memory, RdmaAccess::own, made->serial), std::move(made));
  return ok_status();
}

/// On a worker, but for the bounce buffers.
void RdmaMemory::learn(Registration* registration, size_t card, size_t slice) const {
  Slice& into = registration->slices[card][slice];
  if (registration->unwanted.load(std::memory_order_relaxed)) {
    into.result = error(StatusCode::kUnavailable, "given up before a card learned the memory");
    return;
  }
  const size_t at = slice * kSliceBytes;
  const std::span<std::byte> part =
      registration->memory.subspan(at, std::min(kSliceBytes, registration->memory.size() - at));
  StatusOr<std::unique_ptr<RdmaKeys>> keys =
      registration->dmabuf
          ? cards_[card]->learn_dmabuf(registration->dmabuf.get(), registration->dmabuf_offset + at,
                                       part, registration->access)
          : cards_[card]->learn(part, registration->access);
  into.result = keys.status();
  if (keys.ok()) into.keys = *std::move(keys);
}

void RdmaMemory::launch(const Shared& registration) {
  const size_t slices = (registration->memory.size() + kSliceBytes - 1) / kSliceBytes;
  registration->state = State::flying;
  registration->jobs_left = slices * cards_.size();
  registration->slices.clear();
  registration->slices.resize(cards_.size());
  for (auto& of_card : registration->slices) of_card.resize(slices);
  metrics_->registrations_flying.add();
  for (size_t slice = 0; slice < slices; ++slice) {
    for (size_t card = 0; card < cards_.size(); ++card) {
      workers_.add([this, registration, card, slice] { learn(registration.get(), card, slice); },
                   [this, registration, card, slice](const Status& began) {
                     if (!began.ok()) registration->slices[card][slice].result = began;
                     if (--registration->jobs_left == 0) landed(registration);
                   });
    }
  }
}

/// All its jobs have ended.
void RdmaMemory::landed(const Shared& registration) {
  metrics_->registrations_flying.sub();
  registration->failure = ok_status();
  for (const auto& of_card : registration->slices) {
    for (const Slice& slice : of_card) registration->failure.update(slice.result);
  }
  const bool wanted = !registration->unwanted.load(std::memory_order_relaxed);
  if (!wanted) {
    registration->failure.update(
        error(StatusCode::kUnavailable, "given up while a card learned it"));
  }
  const bool known = wanted && registration->failure.ok();
  registration->state = known ? State::known : State::failed;
  if (known) {
    count(*registration, true);
  } else {
    if (wanted) metrics_->registration_failures.add();
    drop_in_background(registration);
  }
  const Status result = registration->failure;
  for (Op* op : std::exchange(registration->waiting, {})) op->done(result);
  settled_();
}

/// Letting go of memory takes a card time as well. Who closes waits for what flies only.
void RdmaMemory::drop_in_background(const Shared& registration) {
  if (closing_) return registration->slices.clear();
  auto slices =
      std::make_shared<std::vector<std::vector<Slice>>>(std::exchange(registration->slices, {}));
  workers_.add([slices] { slices->clear(); },
               [this, slices](const Status&) {
                 slices->clear();  // those that no thread took
                 settled_();
               });
}

void RdmaMemory::count(const Registration& registration, bool added) const {
  const size_t registrations = cards_.size() * registration.slices.front().size();
  const size_t bytes = cards_.size() * registration.memory.size();
  if (added) {
    metrics_->registrations.add(registrations);
    metrics_->registered_bytes.add(bytes);
  } else {
    metrics_->registrations.sub(registrations);
    metrics_->registered_bytes.sub(bytes);
  }
}

RdmaMemory::Shared RdmaMemory::find_shared(std::span<const std::byte> memory,
                                           RdmaAccess access) const {
  const Key first = key_of(memory, access, 0);
  for (auto it = registrations_.lower_bound(first); it != registrations_.end(); ++it) {
    const Registration& found = *it->second;
    if (found.memory.data() != memory.data() || found.memory.size() != memory.size() ||
        found.access != access) {
      break;
    }
    const bool given_up_perhaps = access == RdmaAccess::peers && found.state == State::flying;
    if (!found.dmabuf && !given_up_perhaps) return it->second;
  }
  return nullptr;
}

/// One that failed is tried again.
RdmaMemory::Shared RdmaMemory::acquire(std::span<std::byte> memory, RdmaAccess access, Fd dmabuf,
                                       uint64_t offset) {
  Shared registration = dmabuf ? nullptr : find_shared(memory, access);
  const bool fresh = registration == nullptr;
  if (fresh) {
    registration = std::make_shared<Registration>();
    registration->memory = memory;
    registration->access = access;
    registration->dmabuf = std::move(dmabuf);
    registration->dmabuf_offset = offset;
    registration->serial = next_serial_++;
    registrations_.emplace(key_of(memory, access, registration->serial), registration);
  }
  ++registration->users;
  if (fresh || registration->state == State::failed) launch(registration);
  return registration;
}

void RdmaMemory::release(const Shared& registration) {
  if (--registration->users > 0) return;
  registrations_.erase(key_of(registration->memory, registration->access, registration->serial));
  registration->unwanted.store(true, std::memory_order_relaxed);
  if (registration->state != State::known) return;  // flying: it is dropped when it lands
  count(*registration, false);
  if (registration->access == RdmaAccess::own) return drop_in_background(registration);
  // At once: peers have its keys, and its owner may use the memory for something else next.
  registration->slices.clear();
}

void RdmaMemory::add_region(RegionId region, std::span<std::byte> memory, Fd dmabuf,
                            uint64_t offset) {
  regions_.emplace(region, acquire(memory, RdmaAccess::peers, std::move(dmabuf), offset));
}

void RdmaMemory::remove_region(RegionId region) {
  const auto it = regions_.find(region);
  if (it == regions_.end()) return;
  TERRACE_CHECK(it->second->state != State::flying);
  const Shared registration = std::move(it->second);
  regions_.erase(it);
  release(registration);
}

RdmaMemory::State RdmaMemory::state(RegionId region) const {
  return regions_.at(region)->state;
}

bool RdmaMemory::flying(RegionId region) const {
  const auto it = regions_.find(region);
  return it != regions_.end() && it->second->state == State::flying;
}

void RdmaMemory::when_known(RegionId region, Op* op) {
  const auto it = regions_.find(region);
  if (it == regions_.end()) {
    return loop_->defer(op, error(StatusCode::kNotFound,
                                  "region " + std::to_string(static_cast<uint64_t>(region))));
  }
  Registration& registration = *it->second;
  if (registration.state == State::flying) return registration.waiting.push_back(op);
  loop_->defer(op, registration.failure);
}

void RdmaMemory::expect(std::span<std::byte> memory) {
  if (memory.empty() || closing_) return;
  if (expected_ >= kExpectedMax) {
    spdlog::warn("event=rdma_not_registered bytes={} limit={} advice=\"larger slabs\"",
                 memory.size(), kExpectedMax);
    return metrics_->registration_failures.add();
  }
  ++expected_;
  (void)acquire(memory, RdmaAccess::own, Fd(), 0);
}

void RdmaMemory::forget(std::span<std::byte> memory) {
  const Shared registration = find_shared(memory, RdmaAccess::own);
  if (registration == nullptr) return;
  --expected_;
  release(registration);
}

void RdmaMemory::close() {
  closing_ = true;
  for (const auto& [key, registration] : registrations_) {
    if (registration->state == State::flying) registration->unwanted = true;
  }
}

RdmaMemory::Local RdmaMemory::find_local(size_t card, std::span<const std::byte> memory) const {
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  auto it = registrations_.upper_bound({at, SIZE_MAX, RdmaAccess::peers, UINT64_MAX});
  for (int looked = 0; looked < kCandidatesMax && it != registrations_.begin();) {
    const Registration& candidate = *(--it)->second;
    const size_t offset = at - std::get<0>(it->first);
    if (candidate.state != State::known) continue;
    ++looked;
    if (offset >= candidate.memory.size()) continue;
    const size_t slice = offset / kSliceBytes;
    const size_t end = std::min((slice + 1) * kSliceBytes, candidate.memory.size());
    return {.key = candidate.slices[card][slice].keys->local,
            .bytes = std::min(memory.size(), end - offset)};
  }
  return {};
}

void RdmaMemory::find_remote(size_t card, RegionId region, std::span<const std::byte> memory,
                             std::vector<RdmaGrantEntry>* entries) const {
  const Registration& registration = *regions_.at(region);
  TERRACE_CHECK(registration.state == State::known);
  size_t offset = static_cast<size_t>(memory.data() - registration.memory.data());
  for (size_t left = memory.size(); left > 0;) {
    const size_t slice = offset / kSliceBytes;
    const size_t bytes = std::min(left, (slice + 1) * kSliceBytes - offset);
    entries->push_back({.address = reinterpret_cast<uint64_t>(registration.memory.data() + offset),
                        .key = registration.slices[card][slice].keys->remote,
                        .length = static_cast<uint32_t>(bytes)});
    offset += bytes;
    left -= bytes;
  }
}

std::span<std::byte> RdmaMemory::take_bounce(size_t bytes) {
  TERRACE_CHECK(bytes <= kFramePayloadBytesMax);
  return bytes <= kSmallBytes ? small_.take() : large_.take();
}

void RdmaMemory::give_back_bounce(std::span<std::byte> buffer) {
  (buffer.size() == kSmallBytes ? small_ : large_).give_back(buffer);
}
}  // namespace terrace
