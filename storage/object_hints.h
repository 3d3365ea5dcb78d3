// storage/object_hints.h - what whoever puts an object says of it beside its bytes: what it is
// worth, and how long to keep it. As they lie in the optional fields of its header
// (docs/formats.md 3.6, 3.7). Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "storage/object_format.h"
#include "storage/retention_record.h"

namespace terrace {

// Bits of ObjectHeader::optional_features. What they are about stands in the optional fields in the
// order of the bits, so that a build which knows the lower ones only finds theirs.

/// Of a shared object: the digest of its namespace.
inline constexpr uint32_t kFeatureNamespaceDigest = 1;
inline constexpr uint32_t kFeatureRetention = 2;
inline constexpr uint32_t kFeatureWorth = 4;
inline constexpr size_t kWorthRecordBytes = 4;

/// What whoever puts an object says it is worth.
struct WorthHint {
  uint64_t recompute_us = 0;  // to compute it again; 0: unknown, a guess by its size
  float importance = 1;       // 0 to 1: what its loss would cost, as a share of that
  bool operator==(const WorthHint&) const = default;
};

/// In the four bytes that are kept of it; 0: nothing was said. Below half a second to the
/// microsecond, else to one part in 2^18, at most 35 years; importance to half a percent, and none
/// only if it was none.
uint32_t pack_worth(const WorthHint& worth);
/// nullopt: pack_worth() returns no such thing.
std::optional<WorthHint> unpack_worth(uint32_t packed);

struct ObjectHints {
  std::optional<Kept> kept;  // nullopt: nothing was said
  uint32_t worth = 0;        // packed
  bool operator==(const ObjectHints&) const = default;
};
/// Of any header. What does not decode was not said.
ObjectHints hints_of(const ObjectHeader& header);
/// Behind the optional fields that are there, whose bits are lower; what is plain takes no bytes.
void add_hints(ObjectHeader* header, const Kept& kept, uint32_t worth);
/// Into a local header, instead of all its optional fields.
void set_hints(ObjectHeader* header, const Kept& kept, uint32_t worth);
}  // namespace terrace
