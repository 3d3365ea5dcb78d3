// base/geometry.h - what the KV of one chunk of a model looks like, per layer, and the sections it
// is stored as. Values only; pure functions.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/status.h"

namespace terrace {

/// Numbers are a format: they are part of the fingerprint and of the object header.
enum class Dtype : uint8_t { f32 = 1, f16 = 2, bf16 = 3, fp8_e4m3 = 4, fp8_e5m2 = 5, int8 = 6 };
enum class Attention : uint8_t { mha = 1, gqa = 2, mla = 3, sliding_window = 4 };
/// How RoPE pairs the dimensions it rotates: (i, i + rotary/2), or (2i, 2i + 1).
enum class RopePairing : uint8_t { none = 0, halves = 1, interleaved = 2 };
enum class SectionKind : uint8_t { k_plane = 1, v_plane = 2, auxiliary = 3, raw = 4 };
enum class Codec : uint8_t { identity = 0 };

const char* name_of(Dtype dtype);
/// Bytes of one element.
uint32_t bytes_of(Dtype dtype);

/// Rotary position embedding (Su et al. 2021) as this layer really applies it.
struct Rope {
  RopePairing pairing = RopePairing::none;
  uint16_t rotary_dim = 0;         // dimensions rotated, <= head_dim
  float attention_scale = 1.0f;    // YaRN-style multiplier on cos and sin
  std::vector<float> frequencies;  // effective inverse frequencies, rotary_dim / 2 of them
  bool operator==(const Rope&) const = default;
};

struct LayerGeometry {
  uint16_t kv_heads = 0;
  uint16_t head_dim = 0;  // MLA: the width of the latent, with kv_heads = 1
  Dtype dtype = Dtype::bf16;
  Attention attention = Attention::gqa;
  uint32_t window_tokens = 0;  // sliding_window only
  int32_t alias_of = -1;       // this layer shares the KV of an earlier one; no bytes of its own
  uint16_t rope = 0;           // index into Geometry::ropes
  bool operator==(const LayerGeometry&) const = default;
};

struct Geometry {
  uint32_t tokens_per_chunk = 0;
  std::vector<LayerGeometry> layers;
  std::vector<uint16_t> need_order;  // the order in which layers are needed; empty: 0, 1, 2, ...
  std::vector<Rope> ropes;
  bool operator==(const Geometry&) const = default;

  /// kInvalidArgument names the layer and the limit: no layers or over kLayersMax, no heads, a
  /// window where none belongs, an alias that is not an earlier layer, a need_order that is not a
  /// permutation, tokens_per_chunk 0, a chunk over kObjectBytesMax.
  Status validate() const;
  /// Bytes of the K plane (= of the V plane) of `layer` for `tokens` tokens; 0 for an alias.
  uint64_t plane_bytes(uint16_t layer, uint32_t tokens) const;
  /// The need order, filled in when it was left empty.
  std::vector<uint16_t> order() const;
};

/// A named run of bytes of a chunk.
struct SectionSpec {
  SectionKind kind = SectionKind::raw;
  Codec codec = Codec::identity;
  uint16_t layer = 0;
  uint64_t bytes = 0;
  bool operator==(const SectionSpec&) const = default;
};
/// Number of CRC units of a section.
constexpr uint32_t units_of(uint64_t section_bytes) {
  return static_cast<uint32_t>((section_bytes + kCrcUnitBytes - 1) / kCrcUnitBytes);
}

/// The sections of a full chunk (or its first `tokens` tokens), in need order, K before V of each
/// layer; an MLA layer has only a K plane, an alias none. The object's logical bytes are these
/// sections one after the other, without padding.
std::vector<SectionSpec> sections_of(const Geometry& geometry, uint32_t tokens);
/// Sum of the sections' bytes.
uint64_t total_bytes(const std::vector<SectionSpec>& sections);

/// Fixed-order little-endian bytes of a geometry, for the fingerprint. docs/formats.md.
std::string canonical_bytes(const Geometry& geometry);
}  // namespace terrace
