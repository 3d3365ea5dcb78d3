// base/crc32c.h - CRC32C (Castagnoli, RFC 3720 appendix B.4) and the seed of a stored unit.
//
// Computed by ISA-L, which picks AVX-512, AVX, SSE4.2 or tables at run time. Thread-safe.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/chunk_key.h"

namespace terrace {

/// CRC32C of `bytes`, continuing from `crc` (0 to start): crc32c(b, crc32c(a)) == crc32c(a + b).
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);
inline uint32_t crc32c(std::string_view text, uint32_t crc = 0) {
  return crc32c(std::as_bytes(std::span(text.data(), text.size())), crc);
}
/// The same by table, one byte at a time: the oracle, and what runs without CPU support.
uint32_t crc32c_by_table(std::span<const std::byte> bytes, uint32_t crc = 0);
/// CRC32C of a + b, from those of a and of b, and how many bytes b has. Multiplies crc_a by
/// x^(8 * b_bytes) modulo the polynomial, some 50 ns for each bit that is set in b_bytes.
uint32_t crc32c_join(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes);

/// Where the CRC of a unit starts: the key, section and unit it belongs to, so that a swapped or
/// stale extent fails the check. `offset_in_unit` is not 0 only for a part of a unit.
///   crc32c(key ‖ section u32le ‖ unit u32le [‖ offset_in_unit u32le when not 0])
uint32_t unit_crc_seed(const ChunkKey& key, uint32_t section, uint32_t unit,
                       uint32_t offset_in_unit = 0);
/// The CRC that is stored for a unit, and sent for a part of one.
inline uint32_t unit_crc(const ChunkKey& key, uint32_t section, uint32_t unit,
                         std::span<const std::byte> bytes, uint32_t offset_in_unit = 0) {
  return crc32c(bytes, unit_crc_seed(key, section, unit, offset_in_unit));
}
}  // namespace terrace
