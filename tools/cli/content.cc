#include "tools/cli/content.h"

#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/prng.h"

namespace terrace {
namespace {
constexpr uint64_t kStep = 0x9E3779B97F4A7C15u;
constexpr uint64_t kMix = 0xBF58476D1CE4E5B9u;
constexpr size_t kWord = sizeof(uint64_t);

/// One multiplication a word: enough to make a byte of another object or offset stand out.
inline uint64_t word_at(uint64_t state) {
  state ^= state >> 29;
  state *= kMix;
  return state ^ (state >> 32);
}
}  // namespace

uint64_t content_seed(std::string_view name, uint64_t run_seed) {
  const auto bytes = std::as_bytes(std::span(name.data(), name.size()));
  const uint64_t low = crc32c(bytes);
  const uint64_t high = crc32c(bytes, 0x9E3779B9u);
  return Prng(run_seed ^ (high << 32 | low)).next();
}

void fill_content(uint64_t seed, uint64_t offset, std::span<std::byte> out) {
  TERRACE_CHECK(offset % kWord == 0);
  uint64_t state = seed + (offset / kWord) * kStep;
  size_t i = 0;
  for (; i + kWord <= out.size(); i += kWord, state += kStep) {
    const uint64_t word = word_at(state);
    std::memcpy(out.data() + i, &word, kWord);
  }
  if (i < out.size()) {
    const uint64_t word = word_at(state);
    std::memcpy(out.data() + i, &word, out.size() - i);
  }
}

uint64_t count_differences(uint64_t seed, uint64_t offset, std::span<const std::byte> bytes) {
  TERRACE_CHECK(offset % kWord == 0);
  uint64_t state = seed + (offset / kWord) * kStep;
  uint64_t different = 0;
  for (size_t i = 0; i < bytes.size(); i += kWord, state += kStep) {
    const size_t n = bytes.size() - i < kWord ? bytes.size() - i : kWord;
    const uint64_t want = word_at(state);
    uint64_t have = want;
    std::memcpy(&have, bytes.data() + i, n);
    if (have == want) continue;
    for (uint64_t wrong = have ^ want; wrong != 0; wrong >>= 8) different += (wrong & 0xFF) != 0;
  }
  return different;
}
}  // namespace terrace
