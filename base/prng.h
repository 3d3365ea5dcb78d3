// base/prng.h - chance comes in through the constructor, and is the same on every machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace terrace {

/// splitmix64 (Steele, Lea, Flood 2014). Ours, because std::shuffle and std::*_distribution may
/// differ between standard libraries, and placement and replayed seeds must not. Not for secrets.
class Prng {
 public:
  explicit Prng(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound); `bound` > 0.
  uint64_t below(uint64_t bound) {
    TERRACE_CHECK(bound > 0);
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  bool chance(uint32_t percent) { return below(100) < percent; }
  /// Uniform in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  void fill(std::span<std::byte> out) {
    for (size_t i = 0; i < out.size(); i += sizeof(uint64_t)) {
      uint64_t word = next();
      for (size_t b = 0; b < sizeof(word) && i + b < out.size(); ++b, word >>= 8) {
        out[i + b] = static_cast<std::byte>(word & 0xFF);
      }
    }
  }

 private:
  uint64_t state_;
};

/// Fills `out` from the kernel's generator: for session secrets and boot ids.
void secure_random(std::span<std::byte> out);
}  // namespace terrace
