// storage/hbm_space.h - space in device memory of one object, or of its header and first sections;
// frees it on destruction, unless it was damaged. Thread-confined.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "storage/extent_map.h"

namespace terrace {

class HbmSpace {
 public:
  /// The first `bytes` of the stored object.
  HbmSpace(std::shared_ptr<ExtentMap> map, std::vector<Extent> extents, uint64_t bytes)
      : map_(std::move(map)), extents_(std::move(extents)), bytes_(bytes) {}
  HbmSpace(const HbmSpace&) = delete;
  HbmSpace& operator=(const HbmSpace&) = delete;
  ~HbmSpace() {
    if (!withheld_) map_->free(extents_, bytes_);
  }
  std::span<const Extent> extents() const { return extents_; }
  uint64_t bytes() const { return bytes_; }
  void withhold() { withheld_ = true; }

 private:
  const std::shared_ptr<ExtentMap> map_;
  const std::vector<Extent> extents_;
  const uint64_t bytes_;
  bool withheld_ = false;
};
}  // namespace terrace
