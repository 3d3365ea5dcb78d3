// storage/chunked_array.h - an array that grows without moving: fixed chunks, so growth never
// copies and never holds twice the memory. Thread-confined.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace terrace {

template <class T>
class ChunkedArray {
 public:
  static constexpr uint32_t kChunkItems = 16384;  // a power of two

  T& operator[](uint32_t i) { return chunks_[i / kChunkItems][i % kChunkItems]; }
  const T& operator[](uint32_t i) const { return chunks_[i / kChunkItems][i % kChunkItems]; }
  /// Items that may be addressed.
  uint32_t size() const { return static_cast<uint32_t>(chunks_.size()) * kChunkItems; }
  /// Makes indices below `count` usable; new items are value-initialised.
  void grow_to(uint32_t count) {
    while (size() < count) chunks_.push_back(std::make_unique<T[]>(kChunkItems));
  }
  uint64_t memory_bytes() const { return uint64_t{size()} * sizeof(T); }

 private:
  std::vector<std::unique_ptr<T[]>> chunks_;
};
}  // namespace terrace
