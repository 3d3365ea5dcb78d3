// storage/nvme_space.h - which bytes of a device of nvme are free, and who owns the others.
// Thread-confined.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "storage/extent_map.h"

namespace terrace {

class NvmeMap;

/// Space that is being written; freed on destruction unless it was kept. A transfer holds it, so
/// that a late write of a hanging device never lands in another object.
class NvmeSpace {
 public:
  NvmeSpace(NvmeMap* map, std::vector<Extent> extents, uint64_t bytes)
      : map_(map), extents_(std::move(extents)), bytes_(bytes) {}
  NvmeSpace(const NvmeSpace&) = delete;
  NvmeSpace& operator=(const NvmeSpace&) = delete;
  inline ~NvmeSpace();
  const std::vector<Extent>& extents() const { return extents_; }
  uint64_t bytes() const { return bytes_; }
  /// Of the device that it is on.
  uint16_t place() const { return extents_[0].device; }
  /// From now on the index owns the extents.
  void keep() { map_ = nullptr; }

 private:
  NvmeMap* map_;
  std::vector<Extent> extents_;
  const uint64_t bytes_;
};

using NvmeSpaces = std::vector<std::shared_ptr<NvmeSpace>>;

class NvmeMap {
 public:
  static constexpr uint64_t kReservedBytes = kMiB;  // the identity block lies there

  /// `device_bytes` > kReservedBytes. `place`: what its extents name as their device.
  explicit NvmeMap(uint64_t device_bytes, uint16_t place = 0)
      : map_(0, device_bytes), place_(place), untouched_(map_.capacity_bytes() / kMiB) {
    const Extent reserved{0, kReservedBytes / ExtentMap::kBlockBytes};
    TERRACE_CHECK(map_.claim({&reserved, 1}, kReservedBytes).ok());
  }

  /// Null when it does not fit.
  std::shared_ptr<NvmeSpace> allocate(uint64_t bytes) {
    StatusOr<std::vector<Extent>> extents = map_.allocate(bytes);
    if (!extents.ok()) return nullptr;
    for (Extent& extent : *extents) extent.device = place_;
    used_ += bytes_of(*extents);
    touch(*extents);
    return std::make_shared<NvmeSpace>(this, std::move(*extents), bytes);
  }
  /// Space for several, one after the other on the device, each a single extent; empty when there
  /// is no such run. Together they take at most a MiB.
  NvmeSpaces allocate_together(std::span<const uint64_t> sizes) {
    const StatusOr<std::vector<Extent>> run = map_.allocate(kMiB);
    if (!run.ok()) return {};
    map_.free(*run, kMiB);
    if (run->size() != 1) return {};
    NvmeSpaces out;
    uint32_t block = (*run)[0].block;
    for (const uint64_t bytes : sizes) {
      const uint64_t taken = ExtentMap::allocated_bytes(bytes);
      const Extent extent{block, static_cast<uint32_t>(taken / ExtentMap::kBlockBytes), place_};
      block += extent.blocks;
      TERRACE_CHECK(claim({&extent, 1}, bytes).ok());  // inside the run
      out.push_back(std::make_shared<NvmeSpace>(this, std::vector<Extent>{extent}, bytes));
    }
    return out;
  }
  /// As ExtentMap::claim.
  Status claim(std::span<const Extent> extents, uint64_t bytes) {
    TERRACE_RETURN_IF_ERROR(map_.claim(extents, bytes));
    used_ += bytes_of(extents);
    touch(extents);
    return ok_status();
  }
  void free(std::span<const Extent> extents, uint64_t bytes) {
    map_.free(extents, bytes);
    used_ -= bytes_of(extents);
    if (freed_) freed_();
  }
  /// These bytes failed a checksum, or a row may still name them: not to be reused before a
  /// restart.
  void withhold(std::span<const Extent> extents) { withheld_ += bytes_of(extents); }
  /// Called after space became free.
  void on_freed(std::function<void()> freed) { freed_ = std::move(freed); }

  // Trimming: free space, which nobody gets while the device is told of it. It counts as free all
  // the while, so nothing is evicted for it.

  /// A run of whole MiBs from MiB *next on that were used since they were trimmed, at most 64 of
  /// them and a quarter of what is free: the rest is for those who put. *next moves behind what was
  /// looked at; without blocks: nothing there, look on. True: all was looked at.
  bool take_untrimmed(uint64_t* next, Extent* out);
  /// `trimmed`: no need to do it again before it was used.
  void end_trim(const Extent& extent, bool trimmed);
  /// Its end may never come: it counts as used until then.
  void trim_hangs(const Extent& extent) { used_ += extent.bytes(); }
  void hung_trim_ended(const Extent& extent) {
    used_ -= extent.bytes();
    end_trim(extent, false);
  }

  // Another size (nvme_resize.cc), in whole regions of ExtentMap; nothing is trimmed meanwhile.

  /// As ExtentMap::bar_from. What lies behind the bar is to leave.
  void bar_from(uint64_t device_bytes);
  bool barred(std::span<const Extent> extents) const;
  uint64_t barred_used_bytes() const { return map_.barred_used_bytes(); }
  /// As ExtentMap::resize.
  void resize(uint64_t device_bytes);
  /// Of the device that this is the map of; barred or not.
  uint64_t device_bytes() const { return map_.capacity_bytes(); }

  uint64_t capacity_bytes() const { return map_.open_bytes() - kReservedBytes; }  // below the bar
  uint64_t used_bytes() const { return used_; }  // what is withheld or barred included
  uint64_t free_bytes() const { return capacity_bytes() - (used_ - barred_used_bytes()); }
  uint64_t withheld_bytes() const { return withheld_; }
  static uint64_t bytes_of(std::span<const Extent> extents) {
    uint64_t bytes = 0;
    for (const Extent& extent : extents) bytes += extent.bytes();
    return bytes;
  }

 private:
  void touch(std::span<const Extent> extents);

  ExtentMap map_;
  const uint16_t place_;
  std::vector<bool> untouched_;  // by MiB: trimmed, and nothing was written there since
  uint64_t used_ = 0;
  uint64_t withheld_ = 0;
  std::function<void()> freed_;
};

NvmeSpace::~NvmeSpace() {
  if (map_ != nullptr) map_->free(extents_, bytes_);
}
}  // namespace terrace
