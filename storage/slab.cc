#include "storage/slab.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/cpu.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory_file.h"
#include "base/prng.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace terrace {
namespace {
constexpr uint64_t kPopulateStep = 16 * kMiB;  // between looks at the stop flag

StatusOr<Fd> make_memfd(uint64_t bytes, bool huge) {
  TERRACE_ASSIGN_OR_RETURN(Fd fd, make_memory_file("terrace-slab", bytes, huge));
  if (!huge) return fd;
  // A shared mapping sets the huge pages aside for the file, or fails. Here, because a fixed
  // mapping that fails leaves a hole in the arena's addresses.
  void* const probe = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (probe == MAP_FAILED) return errno_status(errno, "huge pages for a slab");
  ::munmap(probe, bytes);
  return fd;
}

void* map_shared(const Fd& fd, void* at, uint64_t bytes, uint64_t offset) {
  const int flags = MAP_SHARED | (at != nullptr ? MAP_FIXED : 0);
  return ::mmap(at, bytes, PROT_READ | PROT_WRITE, flags, fd.get(), static_cast<off_t>(offset));
}

/// Address space without memory.
void reserve(std::byte* at, uint64_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  TERRACE_CHECK(::mmap(at, bytes, PROT_NONE, flags, -1, 0) != MAP_FAILED);
}
/// Has every page written to, and leaves what is there.
void touch(std::span<std::byte> memory) {
  constexpr size_t kPageBytes = 4096;
  for (size_t at = 0; at < memory.size(); at += kPageBytes) {
    std::atomic_ref<uint8_t>(reinterpret_cast<uint8_t&>(memory[at])).fetch_or(0);
  }
}
}  // namespace

void give_memory_back(const Fd& file, uint64_t bytes) {
  (void)::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    static_cast<off_t>(bytes));
}

std::string slab_name(const std::array<std::byte, 16>& uuid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name = "slab-";
  for (const std::byte byte : uuid) {
    name += kDigits[std::to_integer<size_t>(byte >> 4)];
    name += kDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return name;
}

void SlabMemory::drop(std::atomic<uint64_t>* locked) {
  give_memory_back(fd_, slab_data_offset(bytes_) + bytes_);
  let_go();
  locked->fetch_sub(locked_, std::memory_order_relaxed);
  locked_ = 0;
}

/// First, so that old and new memory are never needed at once.
void SlabMemory::let_go() {
  if (!fd_) return;
  reserve(place_, bytes_);
  unmap_meta();
  fd_.reset();
}

Status SlabMemory::map_from(const Fd& fd) {
  const uint64_t meta_bytes = slab_data_offset(bytes_);
  void* const meta = map_shared(fd, nullptr, meta_bytes, 0);
  if (meta == MAP_FAILED) return errno_status(errno, "mapping a slab's directory");
  if (map_shared(fd, place_, bytes_, meta_bytes) == MAP_FAILED) {
    const int why = errno;
    ::munmap(meta, meta_bytes);
    reserve(place_, bytes_);
    return errno_status(why, "mapping a slab");
  }
  meta_ = static_cast<std::byte*>(meta);
  return ok_status();
}

Status SlabMemory::map(const std::array<std::byte, 16>& owner, uint64_t epoch) {
  const uint64_t file_bytes = slab_data_offset(bytes_) + bytes_;
  if (fd_) give_memory_back(fd_, file_bytes);
  let_go();
  bool mapped = false;
  if (huge_pages_) {  // only when the administrator set huge pages aside
    if (StatusOr<Fd> fd = make_memfd(file_bytes, true); fd.ok() && map_from(*fd).ok()) {
      fd_ = std::move(*fd);
      mapped = true;
    }
  }
  if (!mapped) {
    TERRACE_ASSIGN_OR_RETURN(Fd fd, make_memfd(file_bytes, false));
    TERRACE_RETURN_IF_ERROR(map_from(fd));
    fd_ = std::move(fd);
    if (huge_pages_) ::madvise(place_, bytes_, MADV_HUGEPAGE);  // a hint
  }
  prefer_node();
  SlabHeader header;
  secure_random(header.uuid);
  header.data_bytes = bytes_;
  header.first_block = first_block_;
  header.owner = owner;
  header.epoch = epoch;
  encode(header, std::span<std::byte, kSlabHeaderBytes>(meta_, kSlabHeaderBytes));
  uuid_ = header.uuid;
  return ok_status();
}

Status SlabMemory::adopt(Fd* file, const SlabHeader& header) {
  TERRACE_CHECK(!fd_ && header.data_bytes == bytes_ && header.first_block == first_block_);
  TERRACE_RETURN_IF_ERROR(map_from(*file));
  fd_ = std::move(*file);
  uuid_ = header.uuid;
  prefer_node();  // of pages that are not there yet
  return ok_status();
}

void SlabMemory::prefer_node() {
  if (!numa_node_.has_value()) return;
  const Status near = prefer_numa_node(data(), *numa_node_);
  if (!near.ok()) spdlog::warn("event=slab_anywhere error=\"{}\"", near.to_string());
}

Fd SlabMemory::take_file() {
  Fd file(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  let_go();
  return file;
}

Status SlabMemory::populate(bool lock, const std::atomic<bool>& stop,
                            std::atomic<uint64_t>* locked) {
  locked->fetch_sub(locked_, std::memory_order_relaxed);  // what map() let go of
  locked_ = 0;
  for (uint64_t at = 0; at < bytes_; at += kPopulateStep) {
    if (stop.load(std::memory_order_relaxed)) return ok_status();
    const uint64_t bytes = std::min(kPopulateStep, bytes_ - at);
    if (::madvise(place_ + at, bytes, MADV_POPULATE_WRITE) != 0) {
      const int why = errno;
      if (why == ENOMEM || why == EFAULT || why == EHWPOISON) {
        return error(StatusCode::kResourceExhausted,
                     "no memory for " + std::to_string(bytes) + " bytes at " + std::to_string(at) +
                         " of a slab of " + std::to_string(bytes_) + ": " +
                         errno_status(why, "populate").message());
      }
      if (why == EINVAL) touch({place_ + at, bytes});  // a kernel before 5.14
    }
    if (lock && ::mlock(place_ + at, bytes) == 0) {
      locked->fetch_add(bytes, std::memory_order_relaxed);
      locked_ += bytes;
    } else {
      lock = false;  // not allowed: go on unlocked
    }
  }
  return ok_status();
}

StatusOr<Fd> SlabMemory::open_read_only() const {
  return reopen_read_only(fd_);
}

void SlabMemory::unmap_meta() {
  if (meta_ != nullptr) ::munmap(meta_, slab_data_offset(bytes_));
  meta_ = nullptr;
}

std::atomic<uint64_t>& SlabMemory::claim_word() const {
  return *reinterpret_cast<std::atomic<uint64_t>*>(meta_ + kSlabClaimOffset);
}

std::span<SlabDirectoryEntry> SlabMemory::directory() const {
  auto* entries = reinterpret_cast<SlabDirectoryEntry*>(meta_ + kSlabHeaderBytes);
  return {entries, bytes_ / kSectorBytes};
}

SlabDirectoryEntry& SlabMemory::entry(uint32_t block) const {
  return directory()[block - first_block_];
}
}  // namespace terrace
