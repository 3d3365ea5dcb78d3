#include "storage/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "base/machine_memory.h"
#include "storage/arena_slab.h"

namespace terrace {

StatusOr<std::unique_ptr<Arena>> Arena::create(const StoreConfig& config, SlabKeeping* keeping) {
  auto arena = std::unique_ptr<Arena>(new Arena());
  arena->populate_ = config.populate_memory;
  arena->lock_ = config.lock_memory;
  arena->huge_pages_ = config.huge_pages;
  arena->numa_node_ = config.numa_node;
  if (keeping != nullptr) {
    arena->keeper_ = keeping->keeper;
    arena->owner_ = keeping->owner;
  }
  arena->slab_bytes_ =
      keeping == nullptr ? config.slab_size() : arena->slab_bytes_for(config, keeping->files);
  // Addresses cost nothing, and with more of them it can grow; a limit on them is no reason to
  // fail.
  const uint64_t more = std::min(machine_memory_bytes(), ExtentMap::kBytesMax);
  if (!arena->reserve(std::max(config.dram_bytes, more)) && !arena->reserve(config.dram_bytes)) {
    return errno_status(errno, "arena of " + std::to_string(config.dram_bytes) + " bytes");
  }
  for (uint64_t at = 0; at < config.dram_bytes; at += arena->slab_bytes_) {
    arena->append_slab(std::min(arena->slab_bytes_, config.dram_bytes - at));
  }
  arena->slab_count_ = static_cast<uint32_t>(arena->slabs_.size());
  arena->capacity_ = config.dram_bytes;
  TERRACE_RETURN_IF_ERROR(
      arena->map_slabs(keeping == nullptr ? std::vector<KeptFile>() : std::move(keeping->files)));
  if (arena->kept_count_ == 0) arena->begin_work();  // nothing to take back: no need to wait
  return arena;
}

void Arena::begin_work() {
  for (const bool kept : {true, false}) {
    for (uint32_t i = 0; i < slabs_.size(); ++i) {
      if (slabs_[i]->kept == kept) order_.push_back(i);
    }
  }
  for (const uint32_t slab : order_) {
    const uint64_t before = ready_bytes_.empty() ? 0 : ready_bytes_.back();
    ready_bytes_.push_back(before + slabs_[slab]->memory.data().size());
  }
  const auto kept = static_cast<uint32_t>(kept_count_);
  ready_.store(populate_ ? std::max(1U, kept) : slab_count(), std::memory_order_release);
  if (populate_) {
    worker_ = std::thread([this] { work(lock_); });
    return;
  }
  give_refused_back();
  populated_.store(slab_count(), std::memory_order_release);
}

Arena::~Arena() {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_all();
  if (worker_.joinable()) worker_.join();
  if (abandoned_) return;  // mapped until the process ends
  for (const std::unique_ptr<Slab>& slab : slabs_) slab->memory.unmap_meta();
  if (reserved_ != nullptr) ::munmap(reserved_, reserved_bytes_);
}

bool Arena::take_part(ArenaSpace* space, uint32_t index, uint64_t bytes) {
  Slab& slab = *slabs_[index];
  StatusOr<std::vector<Extent>> extents = slab.space.allocate(bytes);
  if (!extents.ok()) return false;
  uint64_t taken = 0;
  for (const Extent& extent : *extents) taken += extent.bytes();
  space->extents_.insert(space->extents_.end(), extents->begin(), extents->end());
  space->allocated_ += taken;
  space->parts_.push_back({index, bytes, slab.spaces.size(), std::move(*extents)});
  slab.spaces.push_back(space);
  used_ += taken;
  holdings_[static_cast<uint32_t>(slab.domain)].free -= taken;
  return true;
}

std::shared_ptr<ArenaSpace> Arena::allocate(DomainId domain, uint64_t bytes) {
  TERRACE_CHECK(domain != kNobody);
  adopt_ready();
  auto space = std::shared_ptr<ArenaSpace>(new ArenaSpace(this, domain, bytes));
  const std::vector<uint32_t>& own = holding(domain).slabs;
  for (uint32_t slab : own) {
    if (slab_free_bytes(slab) >= bytes && take_part(space.get(), slab, bytes)) return space;
  }
  if (own.size() > 1 && holding(domain).free >= bytes) {
    if (spread(space.get(), own)) return space;
    space = std::shared_ptr<ArenaSpace>(new ArenaSpace(this, domain, bytes));  // frees the parts
  }
  if (unowned_.empty()) return nullptr;
  const uint32_t fresh = unowned_.front();
  if (slab_free_bytes(fresh) >= bytes) {
    claim(fresh, domain);
    if (take_part(space.get(), fresh, bytes)) return space;
    return_untouched(fresh);
  }
  return spread_with_unowned(domain, bytes);
}

/// Whole MiBs from each slab, as much as it can give.
bool Arena::spread(ArenaSpace* space, const std::vector<uint32_t>& over) {
  uint64_t left = space->bytes_;
  for (size_t i = 0; i < over.size() && left > 0; ++i) {
    uint64_t ask = std::min(left, slab_free_bytes(over[i]) / kMiB * kMiB);
    while (ask > 0 && !take_part(space, over[i], ask)) ask = ask / 2 / kMiB * kMiB;
    left -= ask;
  }
  return left == 0;
}

std::shared_ptr<ArenaSpace> Arena::spread_with_unowned(DomainId domain, uint64_t bytes) {
  uint64_t within_reach = 0;  // in whole MiBs
  for (uint32_t slab : holding(domain).slabs) within_reach += slab_free_bytes(slab) / kMiB * kMiB;
  std::vector<uint32_t> claimed;
  while (!unowned_.empty() && within_reach < bytes) {
    claimed.push_back(unowned_.front());
    within_reach += slab_free_bytes(unowned_.front());
    claim(unowned_.front(), domain);
  }
  auto space = std::shared_ptr<ArenaSpace>(new ArenaSpace(this, domain, bytes));
  // Newest first: whole slabs leave fewer pieces.
  const std::vector<uint32_t>& own = holding(domain).slabs;
  const std::vector<uint32_t> over(own.rbegin(), own.rend());
  if (within_reach >= bytes && spread(space.get(), over)) return space;
  space.reset();
  for (uint32_t slab : claimed) return_untouched(slab);
  return nullptr;
}

void Arena::free(ArenaSpace* space) {
  if (space->parts_.empty()) return;
  if (!leaving_) {
    space->uncommit();
    for (const Extent& extent : space->extents_) {
      directory(extent.block).blocks = 0;
      directory(extent.block).next = 0;
    }
  }
  for (const ArenaSpace::Part& part : space->parts_) {
    Slab& slab = *slabs_[part.slab];
    ArenaSpace* const last = slab.spaces.back();
    for (ArenaSpace::Part& moved : last->parts_) {
      if (moved.slab == part.slab) moved.place = part.place;
    }
    slab.spaces[part.place] = last;
    slab.spaces.pop_back();
    uint64_t bytes = 0;
    for (const Extent& extent : part.extents) bytes += extent.bytes();
    if (space->withheld_) {
      withheld_ += bytes;
      slab.withheld += bytes;
      continue;
    }
    slab.space.free(part.extents, part.bytes);
    used_ -= bytes;
    if (slab.state == Slab::State::owned) {
      holdings_[static_cast<uint32_t>(slab.domain)].free += bytes;
    }
  }
}

SlabDirectoryEntry& Arena::directory(uint32_t block) {
  return slabs_[slab_of(block)]->memory.entry(block);
}

uint64_t Arena::ready_bytes() const {
  const uint32_t ready = ready_.load(std::memory_order_acquire);
  return ready == 0 ? 0 : ready_bytes_[ready - 1] + static_cast<uint64_t>(resized_);
}

std::span<std::byte> Arena::memory_of(uint32_t slab) {
  return slabs_[slab]->memory.data();
}

std::span<const std::byte> Arena::meta(uint32_t slab) const {
  return slabs_[slab]->memory.meta();
}

uint64_t Arena::slab_free_bytes(uint32_t slab) const {
  return slabs_[slab]->space.free_bytes();
}

ArenaSpace::~ArenaSpace() {
  arena_->free(this);
}

void ArenaSpace::memory(uint64_t offset, uint64_t bytes, std::vector<iovec>* out) const {
  TERRACE_CHECK(offset + bytes <= bytes_);
  for (const Extent& extent : extents_) {
    if (bytes == 0) return;
    if (offset >= extent.bytes()) {
      offset -= extent.bytes();
      continue;
    }
    const uint64_t take = std::min(bytes, extent.bytes() - offset);
    std::byte* const start = arena_->at(extent.block) + offset;
    if (!out->empty() &&
        static_cast<std::byte*>(out->back().iov_base) + out->back().iov_len == start) {
      out->back().iov_len += take;
    } else {
      out->push_back({start, take});
    }
    bytes -= take;
    offset = 0;
  }
}

void ArenaSpace::commit(uint64_t generation) {
  for (size_t i = 0; i < extents_.size(); ++i) {
    SlabDirectoryEntry& entry = arena_->directory(extents_[i].block);
    entry.blocks = extents_[i].blocks;
    entry.next = i + 1 < extents_.size() ? extents_[i + 1].block : SlabDirectoryEntry::kLast;
  }
  arena_->directory(extents_[0].block).commit.store(generation, std::memory_order_release);
}

void ArenaSpace::mark_filling() {
  for (const Extent& extent : extents_) {
    SlabDirectoryEntry& entry = arena_->directory(extent.block);
    entry.next = SlabDirectoryEntry::kFilling;
    entry.blocks = extent.blocks;
  }
}

void ArenaSpace::uncommit() {
  arena_->directory(extents_[0].block).commit.store(0, std::memory_order_release);
}
}  // namespace terrace
