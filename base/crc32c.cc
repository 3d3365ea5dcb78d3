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
}  // namespace

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
