#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <array>
#include <cstring>

#include "base/check.h"

namespace terrace {
namespace {

constexpr uint32_t kPolynomialReflected = 0x82F63B78u;

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) ? kPolynomialReflected : 0);
    table[i] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

/// a * b modulo the polynomial; bit 31 is the coefficient of x^0.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) ? kPolynomialReflected : 0);
  }
  return product;
}

/// [k]: x^(8 * 2^k).
constexpr std::array<uint32_t, 64> make_powers() {
  std::array<uint32_t, 64> powers{};
  uint32_t power = 1u << 23;  // x^8
  for (uint32_t& each : powers) {
    each = power;
    power = multiply(power, power);
  }
  return powers;
}
constexpr std::array<uint32_t, 64> kPowers = make_powers();
}  // namespace

uint32_t crc32c_join(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes) {
  for (size_t k = 0; b_bytes != 0; ++k, b_bytes >>= 1) {
    if ((b_bytes & 1) != 0) crc_a = multiply(kPowers[k], crc_a);
  }
  return crc_a ^ crc_b;
}

uint32_t crc32c_by_table(std::span<const std::byte> bytes, uint32_t crc) {
  uint32_t c = ~crc;
  for (std::byte b : bytes) c = kTable[(c ^ static_cast<uint32_t>(b)) & 0xFF] ^ (c >> 8);
  return ~c;
}

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc) {
  constexpr size_t kSliceBytes = size_t{1} << 30;  // ISA-L takes an int
  while (!bytes.empty()) {
    const auto slice = bytes.first(bytes.size() < kSliceBytes ? bytes.size() : kSliceBytes);
    // ISA-L's prototype lacks const; it does not write.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(slice.data()));
    crc = ~::crc32_iscsi(data, static_cast<int>(slice.size()), ~crc);
    bytes = bytes.subspan(slice.size());
  }
  return crc;
}

uint32_t unit_crc_seed(const ChunkKey& key, uint32_t section, uint32_t unit,
                       uint32_t offset_in_unit) {
  std::array<std::byte, sizeof(ChunkKey) + 12> text{};
  std::memcpy(text.data(), key.digest.data(), sizeof(ChunkKey));
  size_t at = sizeof(ChunkKey);
  const auto put = [&](uint32_t value) {
    for (int i = 0; i < 4; ++i, value >>= 8) text[at++] = static_cast<std::byte>(value & 0xFF);
  };
  put(section);
  put(unit);
  if (offset_in_unit != 0) put(offset_in_unit);
  return crc32c(std::span(text).first(at));
}
}  // namespace terrace
