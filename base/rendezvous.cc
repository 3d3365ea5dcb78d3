#include "base/rendezvous.h"

#include "base/check.h"
#include "base/identity.h"

namespace terrace {
namespace {

/// Eight bytes of a digest as a number that is the same on every machine.
uint64_t word_of(const ChunkKey& digest, size_t first) {
  uint64_t word = 0;
  for (size_t i = 8; i > 0; --i) {
    word = word << 8 | std::to_integer<uint64_t>(digest.digest[first + i - 1]);
  }
  return word;
}

/// The finalizer of splitmix64 (Stafford's variant 13).
uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
}  // namespace

Rendezvous::Rendezvous(std::span<const std::string> names) {
  TERRACE_CHECK(!names.empty());
  for (const std::string& name : names) seeds_.push_back(word_of(sha256(name), 0));
}

uint32_t Rendezvous::owner(const ChunkKey& key) const {
  if (seeds_.size() == 1) return 0;
  // Not the bytes that a node's own index hashes by: there its keys must stay uniform.
  const uint64_t word = word_of(key, 8);
  uint32_t best = 0;
  uint64_t best_score = mixed(word ^ seeds_[0]);
  for (uint32_t i = 1; i < seeds_.size(); ++i) {
    // Different seeds never tie: the mixing is a bijection.
    const uint64_t score = mixed(word ^ seeds_[i]);
    if (score <= best_score) continue;
    best = i;
    best_score = score;
  }
  return best;
}
}  // namespace terrace
