// storage/generation_right.h - the right to compute a chunk, as its caller holds it.
#pragma once
#include <cstdint>

#include "base/chunk_key.h"

namespace terrace {

class SharedGenerations;

/// The right to compute one chunk, of all callers of all nodes; dropping it lets the next one have
/// it. Move-only. Must not outlive the store.
class GenerationRight {
 public:
  GenerationRight() = default;
  GenerationRight(GenerationRight&& other) noexcept;
  GenerationRight& operator=(GenerationRight&& other) noexcept;
  ~GenerationRight();
  explicit operator bool() const { return from_ != nullptr; }
  /// The fencing token: higher than those of all earlier holders.
  uint64_t token() const { return token_; }

 private:
  friend class SharedGenerations;
  SharedGenerations* from_ = nullptr;
  NamespaceId ns_{};
  ChunkKey key_;
  uint64_t token_ = 0;
};
}  // namespace terrace
