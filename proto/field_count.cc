#include "proto/field_count.h"

#include <limits>
#include <optional>

namespace terrace {
namespace {

/// Wire types of the protobuf encoding.
enum : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

std::optional<uint64_t> take_varint(std::span<const std::byte>* body) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !body->empty(); shift += 7) {
    const auto byte = static_cast<uint64_t>(body->front());
    *body = body->subspan(1);
    value |= (byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}
}  // namespace

size_t count_fields(std::span<const std::byte> body, uint32_t number) {
  size_t count = 0;
  while (const std::optional<uint64_t> tag = take_varint(&body)) {
    std::optional<uint64_t> skip = 0;
    switch (*tag & 7) {
      case kVarint:
        if (!take_varint(&body)) return count;
        break;
      case kFixed64:
        skip = 8;
        break;
      case kLengthDelimited:
        skip = take_varint(&body);
        break;
      case kFixed32:
        skip = 4;
        break;
      default:  // a group: the parser would go on behind it, and we have none
        return std::numeric_limits<size_t>::max();
    }
    if (!skip || *skip > body.size()) return count;
    body = body.subspan(*skip);
    if (static_cast<uint32_t>(*tag) >> 3 == number) ++count;  // the parser cuts tags to 32 bits
  }
  return count;
}
}  // namespace terrace
