#include "storage/retention_record.h"

#include <algorithm>

#include "base/bytes.h"

namespace terrace {
namespace {
constexpr uint8_t kPinned = 1;

bool printable(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}
}  // namespace

Kept kept_of(const Retention& retention, int64_t now_s) {
  Kept kept;
  kept.priority = retention.priority;
  kept.pinned = retention.pin;
  kept.turn = retention.turn;
  kept.type = retention.type;
  kept.session = retention.session;
  if (retention.ttl.count() > 0) {
    const int64_t end = std::max<int64_t>(0, now_s) + retention.ttl.count();
    kept.expires_s = static_cast<uint32_t>(std::clamp<int64_t>(end, 1, ~uint32_t{0}));
  }
  return kept;
}

float weight_of(RetentionPriority priority) {
  switch (priority) {
    case RetentionPriority::low:
      return 0.125f;
    case RetentionPriority::high:
      return 8;
    case RetentionPriority::normal:
      break;
  }
  return 1;
}

std::string encode_kept(const Kept& kept) {
  ByteWriter out;
  out.u8(kept.pinned ? kPinned : 0);
  out.u8(static_cast<uint8_t>(kept.priority));
  out.u8(static_cast<uint8_t>(kept.type.size()));
  out.u8(static_cast<uint8_t>(kept.session.size()));
  out.u32(kept.expires_s);
  out.u32(kept.turn);
  out.raw(kept.type);
  out.raw(kept.session);
  return out.take();
}

std::optional<Kept> decode_kept(std::string_view bytes, size_t* used) {
  if (bytes.size() < kRetentionRecordMin) return std::nullopt;
  ByteReader in(bytes);
  Kept kept;
  const uint8_t flags = in.u8();
  const uint8_t priority = in.u8();
  const uint8_t type = in.u8();
  const uint8_t session = in.u8();
  *used = kRetentionRecordMin + type + session;
  const bool good = (flags & ~kPinned) == 0 &&
                    priority <= static_cast<uint8_t>(RetentionPriority::high) &&
                    type <= kRetentionTypeBytesMax && session <= kRetentionSessionBytesMax &&
                    bytes.size() >= *used;
  if (!good) return std::nullopt;
  kept.pinned = (flags & kPinned) != 0;
  kept.priority = static_cast<RetentionPriority>(priority);
  kept.expires_s = in.u32();
  kept.turn = in.u32();
  kept.type = in.raw(type);
  kept.session = in.raw(session);
  if (!printable(kept.type) || !printable(kept.session)) return std::nullopt;
  return kept;
}
}  // namespace terrace
