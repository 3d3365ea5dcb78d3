// The addresses of the arena, and the slabs there are.
#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "storage/arena.h"
#include "storage/arena_slab.h"

namespace terrace {
namespace {
constexpr uint64_t kHugePageBytes = 2 * kMiB;
}

/// Addresses for `bytes`, in whole slabs. False: errno says why not.
bool Arena::reserve(uint64_t bytes) {
  const uint64_t slots = (bytes + slab_bytes_ - 1) / slab_bytes_;
  const uint64_t addresses = slots * slab_bytes_ + kHugePageBytes;
  void* const reserved =
      ::mmap(nullptr, addresses, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return false;
  reserved_ = static_cast<std::byte*>(reserved);
  reserved_bytes_ = addresses;
  const auto misaligned = reinterpret_cast<uintptr_t>(reserved) % kHugePageBytes;
  base_ = reserved_ + (misaligned == 0 ? 0 : kHugePageBytes - misaligned);
  slots_max_ = std::min(slots, ExtentMap::kBytesMax / slab_bytes_);
  slabs_.reserve(slots_max_);  // the worker looks at slabs while others are added
  return true;
}

void Arena::append_slab(uint64_t bytes) {
  const uint64_t at = slabs_.size() * slab_bytes_;
  slabs_.push_back(std::make_unique<Slab>(base_ + at, at, bytes, huge_pages_, numa_node_));
}

bool Arena::add() {
  const auto absent = std::find_if(slabs_.begin(), slabs_.end(), [](const auto& slab) {
    return slab->state == Slab::State::absent;
  });
  const auto index = static_cast<uint32_t>(absent - slabs_.begin());
  if (absent == slabs_.end()) {
    if (slabs_.size() == slots_max_) return false;
    append_slab(slab_bytes_);
  }
  slabs_[index]->work = Slab::Work::add;
  hand_to_worker(index, kNobody);
  return true;
}
}  // namespace terrace
