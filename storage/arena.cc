#include "storage/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/check.h"
#include "base/limits.h"
#include "base/prng.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace terrace {
namespace {
constexpr uint64_t kHugePageBytes = 2 * kMiB;
constexpr uint64_t kPopulateStep = 16 * kMiB;  // between looks at the stop flag

StatusOr<Fd> make_memfd(uint64_t bytes, bool huge) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0u);
  Fd fd(::memfd_create("terrace-slab", flags));
  if (!fd) return errno_status(errno, "memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return errno_status(errno, "slab of " + std::to_string(bytes) + " bytes");
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return errno_status(errno, "sealing a slab");
  }
  return fd;
}

void* map(const Fd& fd, void* at, uint64_t bytes, uint64_t offset) {
  const int flags = MAP_SHARED | (at != nullptr ? MAP_FIXED : 0);
  return ::mmap(at, bytes, PROT_READ | PROT_WRITE, flags, fd.get(), static_cast<off_t>(offset));
}
}  // namespace

struct Arena::Slab {
  Slab(uint64_t first_byte, uint64_t bytes)
      : first_block(static_cast<uint32_t>(first_byte / ExtentMap::kBlockBytes)),
        data_bytes(bytes),
        space(first_byte, bytes) {}
  const uint32_t first_block;
  const uint64_t data_bytes;
  ExtentMap space;
  Fd fd;
  std::byte* data = nullptr;
  std::byte* meta = nullptr;
  uint64_t meta_bytes = 0;
};

StatusOr<std::unique_ptr<Arena>> Arena::create(const StoreConfig& config) {
  auto arena = std::unique_ptr<Arena>(new Arena());
  arena->slab_bytes_ = std::min(config.slab_bytes, config.dram_bytes);
  arena->capacity_ = config.dram_bytes;
  arena->reserved_bytes_ = config.dram_bytes + kHugePageBytes;
  void* reserved = ::mmap(nullptr, arena->reserved_bytes_, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return errno_status(errno, "arena of " + std::to_string(config.dram_bytes) + " bytes");
  }
  arena->reserved_ = static_cast<std::byte*>(reserved);
  const auto misaligned = reinterpret_cast<uintptr_t>(reserved) % kHugePageBytes;
  arena->base_ = arena->reserved_ + (misaligned == 0 ? 0 : kHugePageBytes - misaligned);
  for (uint64_t at = 0; at < config.dram_bytes; at += arena->slab_bytes_) {
    const uint64_t bytes = std::min(arena->slab_bytes_, config.dram_bytes - at);
    TERRACE_RETURN_IF_ERROR(arena->map_slab(at, bytes, config.huge_pages));
  }
  if (config.populate_memory) {
    arena->populator_ =
        std::thread([raw = arena.get(), lock = config.lock_memory] { raw->populate(lock); });
  } else {
    arena->ready_.store(arena->slab_count(), std::memory_order_release);
  }
  return arena;
}

Status Arena::map_slab(uint64_t first_byte, uint64_t bytes, bool huge_pages) {
  auto slab = std::make_unique<Slab>(first_byte, bytes);
  slab->meta_bytes = slab_data_offset(bytes);
  std::byte* const place = base_ + first_byte;
  void* data = MAP_FAILED;
  if (huge_pages) {  // only when the administrator set huge pages aside
    if (StatusOr<Fd> fd = make_memfd(slab->meta_bytes + bytes, true); fd.ok()) {
      slab->fd = std::move(*fd);
      data = map(slab->fd, place, bytes, slab->meta_bytes);
    }
  }
  if (data == MAP_FAILED) {
    TERRACE_ASSIGN_OR_RETURN(slab->fd, make_memfd(slab->meta_bytes + bytes, false));
    data = map(slab->fd, place, bytes, slab->meta_bytes);
    if (data == MAP_FAILED) return errno_status(errno, "mapping a slab");
    if (huge_pages) ::madvise(data, bytes, MADV_HUGEPAGE);  // a hint
  }
  slab->data = place;
  void* meta = map(slab->fd, nullptr, slab->meta_bytes, 0);
  if (meta == MAP_FAILED) return errno_status(errno, "mapping a slab's directory");
  slab->meta = static_cast<std::byte*>(meta);
  SlabHeader header;
  secure_random(header.uuid);
  header.data_bytes = bytes;
  header.first_block = slab->first_block;
  encode(header, std::span<std::byte, kSlabHeaderBytes>(slab->meta, kSlabHeaderBytes));
  slabs_.push_back(std::move(slab));
  return ok_status();
}

Arena::~Arena() {
  stop_.store(true, std::memory_order_relaxed);
  if (populator_.joinable()) populator_.join();
  if (abandoned_) return;  // mapped until the process ends
  for (const std::unique_ptr<Slab>& slab : slabs_) {
    if (slab->meta != nullptr) ::munmap(slab->meta, slab->meta_bytes);
  }
  if (reserved_ != nullptr) ::munmap(reserved_, reserved_bytes_);
}

void Arena::populate(bool lock) {
  for (uint32_t i = 0; i < slabs_.size(); ++i) {
    populate_slab(*slabs_[i], lock);
    if (stop_.load(std::memory_order_relaxed)) return;
    ready_.store(i + 1, std::memory_order_release);
    populated_.store(i + 1, std::memory_order_release);
  }
}

void Arena::populate_slab(Slab& slab, bool lock) {
  for (uint64_t at = 0; at < slab.data_bytes; at += kPopulateStep) {
    if (stop_.load(std::memory_order_relaxed)) return;
    const uint64_t bytes = std::min(kPopulateStep, slab.data_bytes - at);
    ::madvise(slab.data + at, bytes, MADV_POPULATE_WRITE);  // else pages come at first touch
    if (lock && ::mlock(slab.data + at, bytes) == 0) {
      locked_.fetch_add(bytes, std::memory_order_relaxed);
    } else {
      lock = false;  // not allowed: go on unlocked
    }
  }
}

bool Arena::take_part(ArenaSpace* space, uint32_t slab, uint64_t bytes) {
  StatusOr<std::vector<Extent>> extents = slabs_[slab]->space.allocate(bytes);
  if (!extents.ok()) return false;
  space->extents_.insert(space->extents_.end(), extents->begin(), extents->end());
  for (const Extent& extent : *extents) space->allocated_ += extent.bytes();
  space->parts_.push_back({slab, bytes, std::move(*extents)});
  return true;
}

std::shared_ptr<ArenaSpace> Arena::allocate(uint64_t bytes) {
  const uint32_t ready = ready_.load(std::memory_order_acquire);
  auto space = std::shared_ptr<ArenaSpace>(new ArenaSpace(this, bytes));
  for (uint32_t slab = 0; slab < ready; ++slab) {
    if (slabs_[slab]->space.free_bytes() >= bytes && take_part(space.get(), slab, bytes)) {
      return space;
    }
  }
  // Over several slabs: whole MiBs from each, as much as it can give.
  uint64_t left = bytes;
  for (uint32_t slab = 0; slab < ready && left > 0; ++slab) {
    uint64_t ask = std::min(left, slabs_[slab]->space.free_bytes() / kMiB * kMiB);
    while (ask > 0 && !take_part(space.get(), slab, ask)) ask = ask / 2 / kMiB * kMiB;
    left -= ask;
  }
  return left == 0 ? space : nullptr;
}

void Arena::free(ArenaSpace* space) {
  if (space->parts_.empty()) return;
  directory(space->extents_[0].block).commit.store(0, std::memory_order_release);
  for (const Extent& extent : space->extents_) {
    directory(extent.block).blocks = 0;
    directory(extent.block).next = 0;
  }
  if (space->withheld_) {
    withheld_ += space->allocated_;
    return;
  }
  for (const ArenaSpace::Part& part : space->parts_) {
    slabs_[part.slab]->space.free(part.extents, part.bytes);
  }
}

SlabDirectoryEntry& Arena::directory(uint32_t block) {
  Slab& slab = *slabs_[uint64_t{block} * ExtentMap::kBlockBytes / slab_bytes_];
  auto* entries = reinterpret_cast<SlabDirectoryEntry*>(slab.meta + kSlabHeaderBytes);
  return entries[block - slab.first_block];
}

uint64_t Arena::ready_bytes() const {
  uint64_t bytes = 0;
  const uint32_t ready = ready_.load(std::memory_order_acquire);
  for (uint32_t slab = 0; slab < ready; ++slab) bytes += slabs_[slab]->space.capacity_bytes();
  return bytes;
}

uint64_t Arena::free_bytes() const {
  uint64_t bytes = 0;
  const uint32_t ready = ready_.load(std::memory_order_acquire);
  for (uint32_t slab = 0; slab < ready; ++slab) bytes += slabs_[slab]->space.free_bytes();
  return bytes;
}

std::span<std::byte> Arena::memory_of(uint32_t slab) {
  return {slabs_[slab]->data, slabs_[slab]->data_bytes};
}

std::span<const std::byte> Arena::meta(uint32_t slab) const {
  return {slabs_[slab]->meta, slabs_[slab]->meta_bytes};
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
}  // namespace terrace
