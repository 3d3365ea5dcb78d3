#include "tools/reference_engine/kv_pool.h"

#include <cstring>

#include "base/check.h"

namespace terrace {
namespace {
constexpr uint32_t kBlocksMax = 1u << 24;
constexpr int kNanByte = 0xFF;  // four of them are a NaN
}  // namespace

StatusOr<std::unique_ptr<KvPool>> KvPool::create(const ModelConfig& config, uint32_t blocks) {
  if (blocks == 0 || blocks > kBlocksMax) {
    return error(StatusCode::kInvalidArgument, "KV pool of " + std::to_string(blocks) +
                                                   " blocks; 1 to " + std::to_string(kBlocksMax));
  }
  const uint64_t block_bytes = uint64_t{config.kv_width()} * kBlockTokens * sizeof(float);
  const uint64_t bytes = block_bytes * blocks * config.layers * 2;
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer memory, AlignedBuffer::allocate(bytes));
  return std::unique_ptr<KvPool>(
      new KvPool(std::move(memory), config.layers, config.kv_width(), blocks));
}

KvPool::KvPool(AlignedBuffer memory, uint32_t layers, uint32_t row_floats, uint32_t blocks)
    : memory_(std::move(memory)), layers_(layers), row_floats_(row_floats), blocks_(blocks) {
  for (uint32_t block = blocks; block > 0; --block) free_.push_back(block - 1);
  std::memset(memory_.data(), kNanByte, memory_.size());
}

uint64_t KvPool::plane_offset(uint32_t layer, KvPlane plane) const {
  const uint64_t index = uint64_t{layer} * 2 + static_cast<uint64_t>(plane);
  return index * blocks_ * block_bytes();
}

float* KvPool::row(uint32_t layer, KvPlane plane, uint32_t block, uint32_t token_in_block) {
  const uint64_t offset = plane_offset(layer, plane) + block * block_bytes();
  return reinterpret_cast<float*>(memory_.data() + offset) + uint64_t{token_in_block} * row_floats_;
}

void KvPool::poison(uint32_t block) {
  for (uint32_t layer = 0; layer < layers_; ++layer) {
    for (const KvPlane plane : {KvPlane::keys, KvPlane::values}) {
      std::memset(row(layer, plane, block, 0), kNanByte, block_bytes());
    }
  }
}

StatusOr<Sequence> Sequence::allocate(KvPool* pool, uint32_t tokens) {
  const uint64_t count = (uint64_t{tokens} + KvPool::kBlockTokens - 1) / KvPool::kBlockTokens;
  if (count > pool->free_.size()) {
    return error(StatusCode::kResourceExhausted,
                 std::to_string(tokens) + " tokens need " + std::to_string(count) + " KV blocks; " +
                     std::to_string(pool->free_.size()) + " are free");
  }
  std::vector<uint32_t> blocks;
  for (uint64_t i = 0; i < count; ++i) {
    blocks.push_back(pool->free_.back());
    pool->free_.pop_back();
  }
  return Sequence(pool, std::move(blocks));
}

Sequence::Sequence(Sequence&& other) noexcept
    : pool_(other.pool_), blocks_(std::exchange(other.blocks_, {})) {}

// Back to front, so that the next sequence gets neighbours in order again.
Sequence::~Sequence() {
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    pool_->poison(*block);
    pool_->free_.push_back(*block);
  }
}

float* Sequence::row(uint32_t layer, KvPlane plane, uint32_t position) const {
  TERRACE_CHECK(position < capacity());
  return pool_->row(layer, plane, blocks_[position / KvPool::kBlockTokens],
                    position % KvPool::kBlockTokens);
}
}  // namespace terrace
