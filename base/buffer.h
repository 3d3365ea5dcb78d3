// base/buffer.h - page-aligned memory with one owner, and a bounded pool of equal buffers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace terrace {

/// Anonymous zeroed memory, page-aligned, move-only. Huge pages are asked for, never required.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// `bytes` is rounded up to 4 KiB. kResourceExhausted when the kernel has none.
  static StatusOr<AlignedBuffer> allocate(size_t bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();
  std::span<std::byte> span() { return {data_, size_}; }
  std::span<const std::byte> span() const { return {data_, size_}; }
  std::byte* data() { return data_; }
  size_t size() const { return size_; }

 private:
  AlignedBuffer(std::byte* data, size_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// `count` buffers of `bytes_each` (a multiple of 4 KiB) cut from one allocation, so that one
/// registration covers them all. Not thread-safe.
class BufferPool {
 public:
  static StatusOr<BufferPool> create(size_t count, size_t bytes_each);
  /// Empty span when none is free: wait for a give_back.
  std::span<std::byte> take();
  /// `buffer` came from take() of this pool and nothing uses it any more.
  void give_back(std::span<std::byte> buffer);
  size_t free_count() const { return free_.size(); }
  size_t count() const { return count_; }
  size_t bytes_each() const { return bytes_each_; }
  std::span<std::byte> whole() { return memory_.span(); }

 private:
  BufferPool(AlignedBuffer memory, size_t count, size_t bytes_each);
  AlignedBuffer memory_;
  size_t count_ = 0;
  size_t bytes_each_ = 0;
  std::vector<uint32_t> free_;
};
}  // namespace terrace
