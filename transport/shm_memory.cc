#include "transport/shm_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/copy_crc32c.h"

namespace terrace {
namespace {

constexpr uint64_t kStreamBytesMin = 4096;  // below that a store past the caches does not pay

struct Unmap {
  size_t bytes;
  void operator()(std::byte* begin) const { ::munmap(begin, bytes); }
};
}  // namespace

ShmMapping::ShmMapping(std::span<std::byte> memory)
    : memory_(memory), mapped_(memory.data(), Unmap{memory.size()}) {}

ShmMapping::ShmMapping(ShmMapping&& other) noexcept
    : memory_(std::exchange(other.memory_, {})), mapped_(std::move(other.mapped_)) {}

ShmMapping& ShmMapping::operator=(ShmMapping&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

StatusOr<ShmMapping> ShmMapping::map(const Fd& file, const ShmFileFacts& facts, bool writable) {
  struct stat found {};
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(file.get(), &found) != 0 ||
      static_cast<uint64_t>(found.st_size) < facts.offset + facts.bytes) {
    return error(StatusCode::kInvalidArgument, "a descriptor that is no sealed memory file of " +
                                                   std::to_string(facts.offset + facts.bytes) +
                                                   " bytes");
  }
  void* const memory = ::mmap(nullptr, facts.bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                              MAP_SHARED, file.get(), static_cast<off_t>(facts.offset));
  if (memory == MAP_FAILED) {
    return error(
        StatusCode::kResourceExhausted,
        errno_status(errno, "mapping " + std::to_string(facts.bytes) + " shared bytes").message());
  }
  return ShmMapping({static_cast<std::byte*>(memory), facts.bytes});
}

std::span<const std::byte> ShmMapping::at(uint64_t offset, uint64_t length) const {
  if (length > memory_.size() || offset > memory_.size() - length) return {};
  return std::span<const std::byte>(memory_).subspan(offset, length);
}

uint64_t ShmArea::take(uint64_t bytes) {
  const uint64_t wanted = (bytes + kSlotBytes - 1) / kSlotBytes;
  if (static_cast<uint64_t>(std::popcount(free_)) < wanted) return 0;
  uint64_t slots = 0;
  for (uint64_t i = 0; i < wanted; ++i) {  // the lowest ones: they are likeliest in a cache
    const uint64_t slot = free_ & (~free_ + 1);
    slots |= slot;
    free_ ^= slot;
  }
  return slots;
}

std::vector<ShmPiece> ShmArea::pieces(uint64_t slots, uint64_t bytes) {
  std::vector<ShmPiece> out;
  for (; bytes > 0; slots &= slots - 1) {
    const auto slot = static_cast<uint64_t>(std::countr_zero(slots));
    const uint64_t length = std::min(bytes, kSlotBytes);
    out.push_back({kAreaFile, slot * kSlotBytes, length});
    bytes -= length;
  }
  return out;
}

std::vector<iovec> ShmArea::memory(uint64_t slots, uint64_t bytes) const {
  std::vector<iovec> out;
  for (const ShmPiece& piece : pieces(slots, bytes)) {
    out.push_back({mapping_.memory().data() + piece.offset, piece.length});
  }
  return out;
}

void copy_bytes(std::span<const iovec> from, std::span<const iovec> to,
                std::span<const uint32_t> crc_runs, bool streaming, std::vector<uint32_t>* sums) {
  size_t source = 0, target = 0;
  size_t in_source = 0, in_target = 0;  // bytes of these that are through
  uint64_t run_left = crc_runs.empty() ? 0 : crc_runs.front();
  uint32_t crc = 0;
  while (target < to.size()) {
    TERRACE_CHECK(source < from.size());
    size_t bytes = std::min(from[source].iov_len - in_source, to[target].iov_len - in_target);
    auto* const into = static_cast<std::byte*>(to[target].iov_base) + in_target;
    const auto* const out = static_cast<const std::byte*>(from[source].iov_base) + in_source;
    if (crc_runs.empty()) {
      std::memcpy(into, out, bytes);
    } else {
      bytes = std::min<size_t>(bytes, run_left);
      crc = copy_with_crc32c(into, {out, bytes}, crc, streaming && bytes >= kStreamBytesMin);
      run_left -= bytes;
      if (run_left == 0) {
        sums->push_back(std::exchange(crc, 0));
        crc_runs = crc_runs.subspan(1);
        // Past the last run nothing is left to copy: the runs add up to the bytes.
        if (!crc_runs.empty()) run_left = crc_runs.front();
      }
    }
    in_source += bytes;
    in_target += bytes;
    if (in_source == from[source].iov_len) ++source, in_source = 0;
    if (in_target == to[target].iov_len) ++target, in_target = 0;
  }
}
}  // namespace terrace
