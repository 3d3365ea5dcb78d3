// base/chunk_key.h - names for the things every room talks about. Values only, no I/O.
#pragma once
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace terrace {

/// Content digest (SHA-256, base/identity.h). Equal keys hold equal bytes, so a chunk is immutable
/// and a duplicate put is a no-op, never an overwrite.
struct ChunkKey {
  std::array<std::byte, 32> digest{};
  auto operator<=>(const ChunkKey&) const = default;
  /// 64 lower-case hex digits.
  std::string hex() const;
};
static_assert(sizeof(ChunkKey) == 32, "stored on disk and sent on the wire as is");

/// The digest is already uniform; its first 8 bytes are the hash.
struct ChunkKeyHash {
  size_t operator()(const ChunkKey& key) const {
    size_t h = 0;
    std::memcpy(&h, key.digest.data(), sizeof(h));
    return h;
  }
};

/// Ordered by latency: a lower value is a faster place.
enum class Tier : uint8_t { hbm = 0, dram = 1, nvme = 2, shared = 3 };
inline constexpr size_t kTierCount = 4;
const char* name_of(Tier tier);

/// A set of tiers, bit `1 << tier`.
using TierMask = uint8_t;
constexpr TierMask mask_of(Tier tier) {
  return static_cast<TierMask>(1u << static_cast<unsigned>(tier));
}

/// What an acknowledgement of a put means.
enum class Durability : uint8_t {
  memory = 0,  // survives nothing but is verified and visible
  nvme = 1,    // survives a power cut of the node
  shared = 2,  // survives the loss of the node: it is in the shared tier
};

/// A node's short name for an opened namespace; means nothing outside that node's data directory.
enum class NamespaceId : uint32_t {};
}  // namespace terrace
