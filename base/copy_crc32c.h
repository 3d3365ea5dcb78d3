// base/copy_crc32c.h - copies bytes and computes their CRC32C in the same pass, for transports
// whose bytes pass through this CPU anyway. Thread-safe.
//
// With AVX-512 and VPCLMULQDQ the sum is folded 256 bytes at a time from the registers that the
// copy holds (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel
// 2009), and what does not fit the caches is stored past them. Otherwise copy and sum take turns
// over pieces that stay in the first-level cache. Chosen at run time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace terrace {

/// Copies `from` to `to`, which must not overlap, and returns the CRC32C of the bytes that it
/// stored, also when somebody changes the source meanwhile, continuing from
/// `crc` (0 to start). `streaming`: the bytes will not be read here soon; leave the caches alone.
uint32_t copy_with_crc32c(std::byte* to, std::span<const std::byte> from, uint32_t crc,
                          bool streaming);
/// Whether this CPU has the fused form.
bool has_fused_copy();
/// The form without it, for tests and for comparison.
uint32_t copy_with_crc32c_in_turns(std::byte* to, std::span<const std::byte> from, uint32_t crc);
}  // namespace terrace
