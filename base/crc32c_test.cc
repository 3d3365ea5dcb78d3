// Goal: CRC32C is the published one, whichever code path the CPU takes; unit seeds tell places
// apart. Method: golden vectors of RFC 3720, the table as oracle over seeded random lengths and
// splits.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "base/prng.h"

namespace terrace {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Crc32c, GoldenVectors) {
  const std::vector<std::byte> zeros(32);
  const std::vector<std::byte> ones(32, std::byte{0xFF});
  std::vector<std::byte> ascending(32);
  for (size_t i = 0; i < 32; ++i) ascending[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc32c(zeros), 0x8A9136AAu);
  EXPECT_EQ(crc32c(ones), 0x62A8AB43u);
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(std::span<const std::byte>()), 0u);
}

TEST(Crc32c, OfATextIsThatOfItsBytes) {
  const std::string_view text = "123456789";
  EXPECT_EQ(crc32c(text), 0xE3069283u);
  EXPECT_EQ(crc32c(text.substr(4), crc32c(text.substr(0, 4))), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string_view()), 0u);
}

TEST(Crc32c, EqualsTheTableAndContinues) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> bytes(prng.below(9000));
    prng.fill(bytes);
    const uint32_t whole = crc32c(bytes);
    ASSERT_EQ(whole, crc32c_by_table(bytes));
    const size_t cut = prng.below(bytes.size() + 1);
    const std::span<const std::byte> all(bytes);
    ASSERT_EQ(whole, crc32c(all.subspan(cut), crc32c(all.first(cut))));
    ASSERT_EQ(whole,
              crc32c_join(crc32c(all.first(cut)), crc32c(all.subspan(cut)), bytes.size() - cut));
  }
}

TEST(Crc32c, UnitSeedsDifferByKeySectionUnitAndOffset) {
  ChunkKey a;
  ChunkKey b;
  b.digest[31] = std::byte{1};
  const uint32_t seed = unit_crc_seed(a, 1, 2);
  EXPECT_NE(seed, unit_crc_seed(b, 1, 2));
  EXPECT_NE(seed, unit_crc_seed(a, 2, 2));
  EXPECT_NE(seed, unit_crc_seed(a, 1, 3));
  EXPECT_NE(seed, unit_crc_seed(a, 1, 2, 512));
  EXPECT_EQ(unit_crc_seed(a, 0, 0), 0x595FB7DDu);  // golden: 32 zero bytes and two zero words
}
}  // namespace
}  // namespace terrace
