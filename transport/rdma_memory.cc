#include "transport/rdma_memory.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr size_t kThreadsMax = 8;
constexpr int kLocal = IBV_ACCESS_LOCAL_WRITE;
constexpr int kForPeers = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
}  // namespace

StatusOr<std::unique_ptr<RdmaMemory>> RdmaMemory::create(
    const RdmaOptions& options, std::span<const std::unique_ptr<RdmaDevice>> devices,
    RdmaMetrics* metrics) {
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool large,
      BufferPool::create(std::max(1u, options.bounce_buffers), kFramePayloadBytesMax));
  TERRACE_ASSIGN_OR_RETURN(
      BufferPool small,
      BufferPool::create(std::max(1u, options.small_bounce_buffers), kSmallBytes));
  auto out = std::unique_ptr<RdmaMemory>(
      new RdmaMemory(std::move(large), std::move(small), devices, metrics));
  for (BufferPool* pool : {&out->large_, &out->small_}) {
    TERRACE_ASSIGN_OR_RETURN(Registered registered, out->make_registered(pool->whole(), kLocal));
    out->count(registered, true);
    out->expected_.emplace(reinterpret_cast<uintptr_t>(pool->whole().data()),
                           std::move(registered));
  }
  return out;
}

/// A device works through a registration page by page, so slices go to several threads at once.
StatusOr<RdmaMemory::Registered> RdmaMemory::make_registered(std::span<std::byte> memory,
                                                             int access) const {
  const size_t slices = (memory.size() + kSliceBytes - 1) / kSliceBytes;
  const size_t jobs = slices * devices_.size();
  Registered out{.memory = memory, .slices = {}};
  out.slices.resize(devices_.size());
  for (auto& of_device : out.slices) of_device.resize(slices);
  std::vector<Status> results(jobs);
  const auto run = [&](size_t job) {
    const size_t device = job / slices;
    const size_t slice = job % slices;
    const size_t at = slice * kSliceBytes;
    StatusOr<VerbsMemory> made = devices_[device]->register_memory(
        memory.subspan(at, std::min(kSliceBytes, memory.size() - at)), access);
    if (made.ok()) {
      out.slices[device][slice] = *std::move(made);
    } else {
      results[job] = made.status();
    }
  };
  if (slices == 1) {
    for (size_t job = 0; job < jobs; ++job) run(job);
  } else {
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (size_t i = 0; i < std::min(jobs, kThreadsMax); ++i) {
      threads.emplace_back([&] {
        for (size_t job = next++; job < jobs; job = next++) run(job);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (const Status& result : results) {
    if (result.ok()) continue;
    metrics_->registration_failures.add();
    return result;
  }
  return out;
}

void RdmaMemory::count(const Registered& registered, bool added) const {
  const size_t registrations = devices_.size() * registered.slices.front().size();
  const size_t bytes = devices_.size() * registered.memory.size();
  if (added) {
    metrics_->registrations.add(registrations);
    metrics_->registered_bytes.add(bytes);
  } else {
    metrics_->registrations.sub(registrations);
    metrics_->registered_bytes.sub(bytes);
  }
}

Status RdmaMemory::add_region(RegionId region, std::span<std::byte> memory) {
  TERRACE_ASSIGN_OR_RETURN(Registered registered, make_registered(memory, kForPeers));
  count(registered, true);
  regions_by_address_.emplace(reinterpret_cast<uintptr_t>(memory.data()), region);
  regions_.emplace(region, std::move(registered));
  return ok_status();
}

void RdmaMemory::remove_region(RegionId region) {
  const auto it = regions_.find(region);
  if (it == regions_.end()) return;
  const auto at = regions_by_address_.find(reinterpret_cast<uintptr_t>(it->second.memory.data()));
  if (at != regions_by_address_.end() && at->second == region) regions_by_address_.erase(at);
  count(it->second, false);
  regions_.erase(it);
}

void RdmaMemory::expect(std::span<std::byte> memory) {
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  if (memory.empty() || expected_.contains(at)) return;
  StatusOr<Registered> registered = make_registered(memory, kLocal);
  if (!registered.ok()) return;  // counted; it is bounced
  count(*registered, true);
  expected_.emplace(at, *std::move(registered));
}

void RdmaMemory::forget(std::span<std::byte> memory) {
  const auto it = expected_.find(reinterpret_cast<uintptr_t>(memory.data()));
  if (it == expected_.end() || it->second.memory.size() != memory.size()) return;
  count(it->second, false);
  expected_.erase(it);
}

RdmaMemory::Local RdmaMemory::find_local(size_t device, std::span<const std::byte> memory) const {
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  const auto inside = [&](const Registered& registered) -> Local {
    const auto base = reinterpret_cast<uintptr_t>(registered.memory.data());
    if (at < base || at - base >= registered.memory.size()) return {};
    const size_t offset = at - base;
    const size_t slice = offset / kSliceBytes;
    const size_t end = std::min((slice + 1) * kSliceBytes, registered.memory.size());
    return {.key = registered.slices[device][slice].get()->lkey,
            .bytes = std::min(memory.size(), end - offset)};
  };
  // The nearest start at or before it; memory that lies in two that overlap may be bounced.
  if (auto it = expected_.upper_bound(at); it != expected_.begin()) {
    if (const Local found = inside(std::prev(it)->second); found.bytes > 0) return found;
  }
  if (auto it = regions_by_address_.upper_bound(at); it != regions_by_address_.begin()) {
    return inside(regions_.at(std::prev(it)->second));
  }
  return {};
}

void RdmaMemory::find_remote(size_t device, RegionId region, std::span<const std::byte> memory,
                             std::vector<RdmaGrantEntry>* entries) const {
  const Registered& registered = regions_.at(region);
  size_t offset = static_cast<size_t>(memory.data() - registered.memory.data());
  for (size_t left = memory.size(); left > 0;) {
    const size_t slice = offset / kSliceBytes;
    const size_t bytes = std::min(left, (slice + 1) * kSliceBytes - offset);
    entries->push_back({.address = reinterpret_cast<uint64_t>(registered.memory.data() + offset),
                        .key = registered.slices[device][slice].get()->rkey,
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
