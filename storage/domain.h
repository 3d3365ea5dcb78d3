// storage/domain.h - sharing domains: whose objects may lie together in one slab of the arena.
#pragma once
#include <cstdint>

#include "base/chunk_key.h"

namespace terrace {

/// Those who may see each other's bytes: a tenant. The server numbers them, from 1.
enum class DomainId : uint32_t {};
inline constexpr DomainId kNobody{0};
/// Numbers from here on are of namespaces that the server assigned to no domain.
inline constexpr uint32_t kOwnDomainBit = uint32_t{1} << 31;

/// The domain of a namespace that shares with no other.
constexpr DomainId own_domain_of(NamespaceId ns) {
  return DomainId{static_cast<uint32_t>(ns) | kOwnDomainBit};
}
}  // namespace terrace
