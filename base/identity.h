// base/identity.h - who may share bytes with whom: fingerprints and chunk keys. Pure functions.
// Byte layouts: docs/formats.md; golden vectors: base/identity_test.cc.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/geometry.h"

namespace terrace {

/// Everything that must be equal for two engines to exchange KV. Opening a namespace whose stored
/// fingerprint differs is refused with a message that names the field and both values.
struct Fingerprint {
  std::string model_id;
  std::string model_revision;
  std::string weights_digest;  // any stable text
  std::string tokenizer_digest;
  std::string engine_layout;  // how the engine orders bytes inside a plane, e.g. "NHD"
  std::string block_hash;     // algorithm and seed of the engine's own block hash
  std::string quantization;   // scales digest; empty when none
  uint32_t tensor_parallel = 1;
  uint32_t pipeline_parallel = 1;
  uint32_t context_parallel = 1;
  uint16_t groups = 1;  // KV cache groups (hybrid attention)
  Geometry geometry;    // layers empty: a namespace of raw objects
  bool operator==(const Fingerprint&) const = default;

  /// Raw namespaces (no layers) accept any section table; others only their geometry's.
  bool raw() const { return geometry.layers.empty(); }
  Status validate() const;
};
inline constexpr uint16_t kFingerprintVersion = 1;

/// Fixed-order, length-prefixed, little-endian.
std::string canonical_bytes(const Fingerprint& fingerprint);
/// SHA-256 of canonical_bytes.
ChunkKey digest_of(const Fingerprint& fingerprint);
/// The first field in which they differ, as `field: "a" != "b"`; empty when equal.
std::string first_difference(const Fingerprint& stored, const Fingerprint& offered);
/// Reads canonical_bytes back. kDataLoss when truncated or over a limit, kFailedPrecondition when
/// the version is unknown.
StatusOr<Fingerprint> parse_fingerprint(std::string_view canonical);

enum class KeyKind : uint8_t {
  prefix = 1,                // the chain of all tokens before it
  position_independent = 2,  // its own tokens alone
  raw = 3,                   // the engine's own key bytes
};
/// What a key is made of. Tensor-parallel ranks are shards: they never share a key unless their
/// bytes are equal.
struct KeyParts {
  ChunkKey fingerprint;  // digest_of
  std::string salt;      // of the sharing class: tenant name, or empty for public
  KeyKind kind = KeyKind::prefix;
  uint16_t group = 0;
  uint32_t shard = 0;
  uint32_t tokens_per_chunk = 0;
  ChunkKey parent;                   // zero for the first chunk, and for other kinds
  std::span<const uint32_t> tokens;  // empty for raw
  std::string_view extra;            // LoRA, multimodal digests, or the raw key's bytes
};
/// SHA-256 of the parts (design: identity).
ChunkKey key_of(const KeyParts& parts);
/// The keys of the full chunks of a token sequence, first to last; a partial tail has no key.
/// `parts.tokens` is the whole sequence; `parts.parent` the key before it or zero.
std::vector<ChunkKey> chain_keys(KeyParts parts);
/// SHA-256 of anything, as a ChunkKey.
ChunkKey sha256(std::string_view bytes);
}  // namespace terrace
