#include "base/copy_crc32c.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"

namespace terrace {
namespace {

constexpr size_t kTurnBytes = size_t{8} << 10;  // half of a first-level cache, for both sides
constexpr size_t kVector = 64;
constexpr size_t kStep = 4 * kVector;
constexpr size_t kPrefetchAhead = 4 * kStep;

constexpr uint32_t kPolynomialReflected = 0x82F63B78u;

/// x^n modulo the polynomial, bits reflected, shifted as a multiplier of the carry-less product.
constexpr uint64_t multiplier(unsigned n) {
  uint32_t power = 1u << 31;  // x^0
  for (unsigned i = 0; i < n; ++i) power = (power >> 1) ^ ((power & 1) ? kPolynomialReflected : 0);
  return uint64_t{power} << 1;
}

/// Moves the sum of 128 bits on by `bits`: the multipliers of its low and its high half.
struct Fold {
  uint64_t low;
  uint64_t high;
};
constexpr Fold fold_by(unsigned bits) {
  return {multiplier(bits + 32), multiplier(bits - 32)};
}
constexpr Fold kFoldStep = fold_by(8 * kStep);
constexpr Fold kFoldVector = fold_by(8 * kVector);

#define TERRACE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,vpclmulqdq,sse4.2")))

TERRACE_AVX512 inline __m512i broadcast(const Fold& fold) {
  const auto low = static_cast<long long>(fold.low);
  const auto high = static_cast<long long>(fold.high);
  return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

/// `sum` moved on, plus `next`.
TERRACE_AVX512 inline __m512i fold(__m512i sum, __m512i by, __m512i next) {
  const __m512i low = _mm512_clmulepi64_epi128(sum, by, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(sum, by, 0x11);
  return _mm512_ternarylogic_epi64(low, high, next, 0x96);  // xor of the three
}

TERRACE_AVX512 uint32_t raw_crc(const std::byte* bytes, size_t count, uint32_t state) {
  uint64_t wide = state;
  for (; count >= 8; bytes += 8, count -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof(word));
    wide = _mm_crc32_u64(wide, word);
  }
  state = static_cast<uint32_t>(wide);
  for (; count > 0; ++bytes, --count) state = _mm_crc32_u8(state, static_cast<uint8_t>(*bytes));
  return state;
}

template <bool kStreaming>
TERRACE_AVX512 inline __m512i move(const std::byte* from, std::byte* to) {
  const __m512i value = _mm512_loadu_si512(from);
  if constexpr (kStreaming) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), value);
  } else {
    _mm512_storeu_si512(to, value);
  }
  return value;
}

/// `count` is a multiple of kStep, not 0; with streaming `to` is aligned. Takes and gives the sum
/// without its final complement.
template <bool kStreaming>
TERRACE_AVX512 uint32_t copy_steps(std::byte* to, const std::byte* from, size_t count,
                                   uint32_t state) {
  const __m512i by_step = broadcast(kFoldStep);
  const std::byte* const end = from + count;
  __m512i sum[4];
  for (size_t i = 0; i < 4; ++i) sum[i] = move<kStreaming>(from + i * kVector, to + i * kVector);
  sum[0] =
      _mm512_xor_si512(sum[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  for (from += kStep, to += kStep; from < end; from += kStep, to += kStep) {
    for (size_t i = 0; i < 4; ++i) {
      _mm_prefetch(from + kPrefetchAhead + i * kVector, _MM_HINT_T0);
      sum[i] = fold(sum[i], by_step, move<kStreaming>(from + i * kVector, to + i * kVector));
    }
  }
  const __m512i by_vector = broadcast(kFoldVector);
  __m512i last = sum[0];
  for (size_t i = 1; i < 4; ++i) last = fold(last, by_vector, sum[i]);
  alignas(kVector) std::byte rest[kVector];
  _mm512_store_si512(rest, last);
  return raw_crc(rest, kVector, 0);
}

TERRACE_AVX512 uint32_t copy_fused(std::byte* to, std::span<const std::byte> from, uint32_t crc,
                                   bool streaming) {
  const std::byte* source = from.data();
  size_t left = from.size();
  uint32_t state = ~crc;
  const auto move_plainly = [&](size_t count) {
    std::memcpy(to, source, count);
    state = raw_crc(to, count, state);  // of what was stored: the source may be a peer's
    to += count;
    source += count;
    left -= count;
  };
  if (streaming) {
    const size_t misaligned = reinterpret_cast<uintptr_t>(to) % kVector;
    move_plainly(std::min(left, misaligned == 0 ? 0 : kVector - misaligned));
  }
  if (const size_t whole = left / kStep * kStep; whole > 0) {
    state = streaming ? copy_steps<true>(to, source, whole, state)
                      : copy_steps<false>(to, source, whole, state);
    to += whole;
    source += whole;
    left -= whole;
  }
  move_plainly(left);
  if (streaming) _mm_sfence();
  return ~state;
}
}  // namespace

bool has_fused_copy() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("sse4.2");
  return has;
}

uint32_t copy_with_crc32c_in_turns(std::byte* to, std::span<const std::byte> from, uint32_t crc) {
  while (!from.empty()) {
    const auto piece = from.first(std::min(kTurnBytes, from.size()));
    std::memcpy(to, piece.data(), piece.size());
    crc = crc32c({to, piece.size()}, crc);  // of what was stored: the source may be a peer's
    to += piece.size();
    from = from.subspan(piece.size());
  }
  return crc;
}

uint32_t copy_with_crc32c(std::byte* to, std::span<const std::byte> from, uint32_t crc,
                          bool streaming) {
  if (from.empty()) return crc;
  if (has_fused_copy()) return copy_fused(to, from, crc, streaming);
  return copy_with_crc32c_in_turns(to, from, crc);
}
}  // namespace terrace
