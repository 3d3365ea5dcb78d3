// base/retention.h - how dear an object is to whoever puts it, how long it is to be kept, and what
// it is. Values.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace terrace {

/// Multiplies an object's value: low by an eighth, high by eight. An object that is used eight
/// times as often is as dear.
enum class RetentionPriority : uint8_t { normal = 0, low = 1, high = 2 };
const char* name_of(RetentionPriority priority);

inline constexpr size_t kRetentionTypeBytesMax = 16;
inline constexpr size_t kRetentionSessionBytesMax = 32;
inline constexpr std::chrono::seconds kRetentionTtlMax = std::chrono::hours(24 * 366);

struct Retention {
  RetentionPriority priority = RetentionPriority::normal;
  /// After that it is a miss, and its space is free again; 0: kept until something dearer needs the
  /// room. From the commit on; a restart does not prolong it. At most kRetentionTtlMax. A copy in
  /// the shared tier is listed until somebody opens it and finds its time over, or it is swept.
  std::chrono::seconds ttl{0};
  /// Never evicted from its node, within the namespace's quota of pinned bytes. A ttl ends it.
  bool pin = false;
  // What it is, for the policy and for people (`terrace explain`).
  std::string type;     // "system", "document", "history", ...; printable ASCII
  uint32_t turn = 0;    // of the conversation
  std::string session;  // printable ASCII

  bool operator==(const Retention&) const = default;
  /// Nothing was said.
  bool plain() const { return *this == Retention(); }
  /// kInvalidArgument names the field and its limit.
  Status validate() const;
};
}  // namespace terrace
