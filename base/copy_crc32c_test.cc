// Goal: the copy is a copy and the sum is the sum, for every length and alignment, both forms.
// Method: random buffers from a seed, guards around the destination, the table as the oracle.
#include "base/copy_crc32c.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/prng.h"

namespace terrace {
namespace {

constexpr std::byte kGuard{0xA5};

using Copy = uint32_t (*)(std::byte*, std::span<const std::byte>, uint32_t);

uint32_t fused(std::byte* to, std::span<const std::byte> from, uint32_t crc) {
  return copy_with_crc32c(to, from, crc, false);
}
uint32_t streamed(std::byte* to, std::span<const std::byte> from, uint32_t crc) {
  return copy_with_crc32c(to, from, crc, true);
}

void expect_copy(Copy copy, std::span<const std::byte> from, size_t misaligned, uint32_t crc) {
  std::vector<std::byte> into(from.size() + misaligned + 128, kGuard);
  ASSERT_EQ(copy(into.data() + misaligned, from, crc), crc32c_by_table(from, crc));
  ASSERT_TRUE(
      std::equal(from.begin(), from.end(), into.begin() + static_cast<ptrdiff_t>(misaligned)));
  ASSERT_EQ(static_cast<size_t>(std::count(into.begin(), into.end(), kGuard)) -
                static_cast<size_t>(std::count(from.begin(), from.end(), kGuard)),
            misaligned + 128);
}

TEST(CopyCrc32c, EqualsTheTableForEveryLengthAndAlignment) {
  Prng prng(7);
  std::vector<std::byte> bytes(2200);
  prng.fill(bytes);
  for (const Copy copy : {fused, streamed, copy_with_crc32c_in_turns}) {
    for (size_t length = 0; length < 1100; ++length) {
      SCOPED_TRACE("length=" + std::to_string(length));
      const auto from = std::span<const std::byte>(bytes).subspan(length % 67, length);
      expect_copy(copy, from, length % 71, static_cast<uint32_t>(length * 2654435761u));
    }
  }
}

TEST(CopyCrc32c, EqualsTheTableForLargeBuffersAndContinues) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> bytes(prng.below(300'000) + 100);
    prng.fill(bytes);
    const auto from = std::span<const std::byte>(bytes).subspan(prng.below(100));
    for (const Copy copy : {fused, streamed, copy_with_crc32c_in_turns}) {
      expect_copy(copy, from, prng.below(64), 0);
      std::vector<std::byte> into(from.size());
      const size_t cut = prng.below(from.size() + 1);
      const uint32_t first = copy(into.data(), from.first(cut), 0);
      ASSERT_EQ(copy(into.data() + cut, from.subspan(cut), first), crc32c(from));
    }
  }
}
}  // namespace
}  // namespace terrace
