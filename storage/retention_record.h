// storage/retention_record.h - what is kept of an object's retention: in memory, and as the bytes
// in its header and its row (docs/formats.md 3.6). Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/retention.h"

namespace terrace {

inline constexpr size_t kRetentionRecordMin = 12;
inline constexpr size_t kRetentionRecordMax =
    kRetentionRecordMin + kRetentionTypeBytesMax + kRetentionSessionBytesMax;

/// Retention whose time has begun.
struct Kept {
  RetentionPriority priority = RetentionPriority::normal;
  bool pinned = false;
  uint32_t expires_s = 0;  // since 1970; 0: never
  uint32_t turn = 0;
  std::string type;
  std::string session;
  bool operator==(const Kept&) const = default;
  bool plain() const { return *this == Kept(); }
};
/// From `now_s` (since 1970) on.
Kept kept_of(const Retention& retention, int64_t now_s);
/// What the priority makes of an object's value.
float weight_of(RetentionPriority priority);

std::string encode_kept(const Kept& kept);
/// Of the beginning of `bytes`; nullopt: too short, or not what encode_kept() writes. `used` is
/// then how many bytes it had.
std::optional<Kept> decode_kept(std::string_view bytes, size_t* used);
}  // namespace terrace
