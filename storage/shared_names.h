// storage/shared_names.h - what lies where in the shared tier, and what a name says. Every node
// computes the same names. Pure functions; docs/formats.md.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/chunk_key.h"

namespace terrace {

/// The name of a namespace that all nodes agree on: a digest of who owns it, what it is called, and
/// the fingerprint of what lies in it. A node's own number of it means nothing elsewhere.
using NamespaceDigest = ChunkKey;
NamespaceDigest shared_namespace_digest(std::string_view tenant, std::string_view name,
                                        const ChunkKey& fingerprint);

/// One published copy. The number says what a listing has to know: in the upper 33 bits when it was
/// published (seconds since 1970 by the publisher's clock: later copies have higher numbers, and
/// nothing else depends on it), below how many logical bytes the object has.
struct SharedGeneration {
  uint64_t number = 0;
  static constexpr unsigned kBytesBits = 31;
  static SharedGeneration of(int64_t unix_seconds, uint64_t logical_bytes);
  uint64_t logical_bytes() const { return number & ((uint64_t{1} << kBytesBits) - 1); }
  int64_t published_s() const { return static_cast<int64_t>(number >> kBytesBits); }
  auto operator<=>(const SharedGeneration&) const = default;
};

struct SharedName {
  NamespaceDigest ns;
  ChunkKey key;
  SharedGeneration generation;
  bool operator==(const SharedName&) const = default;
};

inline constexpr uint32_t kSharedFolders = 4096;  // of a namespace: the first 12 bits of the key
inline constexpr const char* kSharedObjects = "objects";
inline constexpr const char* kSharedLeases = "leases";
inline constexpr const char* kSharedTemporaries = "tmp";
inline constexpr const char* kSharedTrash = "trash";
inline constexpr const char* kSharedQuarantine = "quarantine";

uint32_t shared_folder_of(const ChunkKey& key);
/// objects/NAMESPACE/abc
std::string shared_folder_path(const NamespaceDigest& ns, uint32_t folder);
/// objects/NAMESPACE/abc/KEY.GENERATION
std::string shared_path(const SharedName& name);
/// trash/NAMESPACE.KEY.GENERATION, and the same in the quarantine.
std::string shared_aside_path(const char* folder, const SharedName& name);
/// leases/abc
std::string shared_lease_folder(uint32_t folder);
/// A fencing token at the end of a lease's name: 16 hex digits.
std::string shared_token(uint64_t token);
std::optional<uint64_t> parse_shared_token(std::string_view text);
/// A namespace's folder in objects/. nullopt: not one of ours.
std::optional<NamespaceDigest> parse_shared_namespace(std::string_view text);
/// A folder of a namespace: three hex digits.
std::optional<uint32_t> parse_shared_folder(std::string_view text);
/// KEY.GENERATION
struct SharedLeaf {
  ChunkKey key;
  SharedGeneration generation;
};
std::optional<SharedLeaf> parse_shared_leaf(std::string_view text);
}  // namespace terrace
