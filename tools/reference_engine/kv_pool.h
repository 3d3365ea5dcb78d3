// tools/reference_engine/kv_pool.h - paged KV: one memory for all layers, cut into blocks of
// tokens, and sequences that own blocks of it.
//
// Layout, layer after layer: the K plane [blocks][kBlockTokens][kv_heads][head_dim], then the V
// plane, float32. A block id means the same place in every plane. Thread-confined.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "tools/reference_engine/config.h"

namespace terrace {

enum class KvPlane : uint8_t { keys = 0, values = 1 };

class KvPool {
 public:
  static constexpr uint32_t kBlockTokens = 16;

  /// `blocks` of every layer. kResourceExhausted when there is no such memory, kInvalidArgument
  /// over 2^24 blocks.
  static StatusOr<std::unique_ptr<KvPool>> create(const ModelConfig& config, uint32_t blocks);

  /// All of it, page-aligned: register this once.
  std::span<std::byte> memory() { return memory_.span(); }
  /// Bytes from the start of memory().
  uint64_t plane_offset(uint32_t layer, KvPlane plane) const;
  uint64_t block_bytes() const { return uint64_t{row_floats_} * kBlockTokens * sizeof(float); }
  uint32_t layers() const { return layers_; }
  /// Floats of one token in one plane.
  uint32_t row_floats() const { return row_floats_; }
  uint32_t free_blocks() const { return static_cast<uint32_t>(free_.size()); }
  /// The row of a token that lies in `block`.
  float* row(uint32_t layer, KvPlane plane, uint32_t block, uint32_t token_in_block);

 private:
  friend class Sequence;
  KvPool(AlignedBuffer memory, uint32_t layers, uint32_t row_floats, uint32_t blocks);
  void poison(uint32_t block);

  AlignedBuffer memory_;
  uint32_t layers_;
  uint32_t row_floats_;
  uint32_t blocks_;
  std::vector<uint32_t> free_;  // the next one to give is the last
};

/// The block table of one token sequence. Gives its blocks back when it dies; the pool must
/// outlive it. Move-only.
class Sequence {
 public:
  /// Blocks for `tokens`, filled with NaN: bytes that never arrived cannot pass for KV.
  /// kResourceExhausted names both counts.
  static StatusOr<Sequence> allocate(KvPool* pool, uint32_t tokens);
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&&) = delete;
  ~Sequence();

  KvPool& pool() const { return *pool_; }
  uint32_t capacity() const { return static_cast<uint32_t>(blocks_.size()) * KvPool::kBlockTokens; }
  std::span<const uint32_t> blocks() const { return blocks_; }
  /// The row of token `position` < capacity().
  float* row(uint32_t layer, KvPlane plane, uint32_t position) const;

 private:
  Sequence(KvPool* pool, std::vector<uint32_t> blocks) : pool_(pool), blocks_(std::move(blocks)) {}
  KvPool* pool_;
  std::vector<uint32_t> blocks_;
};
}  // namespace terrace
