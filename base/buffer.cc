#include "base/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {
constexpr size_t kPageBytes = 4096;
}

StatusOr<AlignedBuffer> AlignedBuffer::allocate(size_t bytes) {
  bytes = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (bytes == 0) return AlignedBuffer();
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return errno_status(errno, "mmap of " + std::to_string(bytes) + " bytes");
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a hint: refused is fine
  return AlignedBuffer(static_cast<std::byte*>(memory), bytes);
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

StatusOr<BufferPool> BufferPool::create(size_t count, size_t bytes_each) {
  if (count == 0 || bytes_each == 0 || bytes_each % kPageBytes != 0) {
    return error(StatusCode::kInvalidArgument,
                 "buffer pool of " + std::to_string(count) + " x " + std::to_string(bytes_each) +
                     " bytes: both must be > 0 and the size a multiple of 4096");
  }
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::allocate(count * bytes_each));
  return BufferPool(std::move(memory), count, bytes_each);
}

BufferPool::BufferPool(AlignedBuffer memory, size_t count, size_t bytes_each)
    : memory_(std::move(memory)), count_(count), bytes_each_(bytes_each) {
  free_.reserve(count);
  for (size_t i = count; i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
}

std::span<std::byte> BufferPool::take() {
  if (free_.empty()) return {};
  const size_t index = free_.back();
  free_.pop_back();
  return memory_.span().subspan(index * bytes_each_, bytes_each_);
}

void BufferPool::give_back(std::span<std::byte> buffer) {
  TERRACE_CHECK(buffer.data() >= memory_.data());
  const auto offset = static_cast<size_t>(buffer.data() - memory_.data());
  TERRACE_CHECK(offset % bytes_each_ == 0);
  TERRACE_CHECK(offset / bytes_each_ < count_);
  TERRACE_CHECK(free_.size() < count_);
  free_.push_back(static_cast<uint32_t>(offset / bytes_each_));
}
}  // namespace terrace
