#include "storage/object_hints.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/bytes.h"

namespace terrace {
namespace {
// From the lowest bit: mantissa and exponent of the microseconds, then what importance lacks of 1.
constexpr unsigned kMantissaBits = 19;
constexpr unsigned kExponentBits = 5;
constexpr unsigned kLackShift = kMantissaBits + kExponentBits;
constexpr uint32_t kMantissaMax = (1u << kMantissaBits) - 1;
constexpr uint32_t kExponentMax = (1u << kExponentBits) - 1;
constexpr uint32_t kLackMax = 200;
constexpr size_t kDigestBytes = 32;

uint32_t lack_of(float importance) {
  if (importance >= 1) return 0;
  if (!(importance > 0)) return kLackMax;
  const auto steps = static_cast<uint32_t>(std::lround((1 - importance) * float{kLackMax}));
  return std::min(steps, kLackMax - 1);
}
}  // namespace

uint32_t pack_worth(const WorthHint& worth) {
  const auto bits = static_cast<uint32_t>(std::bit_width(worth.recompute_us));
  uint32_t exponent = bits > kMantissaBits ? bits - kMantissaBits : 0;
  auto mantissa = static_cast<uint32_t>(worth.recompute_us >> exponent);
  if (exponent > kExponentMax) {
    exponent = kExponentMax;
    mantissa = kMantissaMax;
  }
  return lack_of(worth.importance) << kLackShift | exponent << kMantissaBits | mantissa;
}

std::optional<WorthHint> unpack_worth(uint32_t packed) {
  const uint32_t mantissa = packed & kMantissaMax;
  const uint32_t exponent = packed >> kMantissaBits & kExponentMax;
  const uint32_t lack = packed >> kLackShift;
  const bool shortest = exponent == 0 || mantissa > kMantissaMax / 2;
  if (lack > kLackMax || !shortest) return std::nullopt;
  WorthHint worth;
  worth.recompute_us = uint64_t{mantissa} << exponent;
  worth.importance = static_cast<float>(kLackMax - lack) / float{kLackMax};
  return worth;
}

ObjectHints hints_of(const ObjectHeader& header) {
  ObjectHints out;
  std::string_view fields = header.optional_fields;
  if ((header.optional_features & kFeatureNamespaceDigest) != 0) {
    if (fields.size() < kDigestBytes) return out;
    fields.remove_prefix(kDigestBytes);
  }
  if ((header.optional_features & kFeatureRetention) != 0) {
    size_t used = 0;
    out.kept = decode_kept(fields, &used);
    if (!out.kept) return out;  // where the next one begins is not known
    fields.remove_prefix(used);
  }
  if ((header.optional_features & kFeatureWorth) == 0) return out;
  if (fields.size() < kWorthRecordBytes) return out;
  const uint32_t worth = ByteReader(fields).u32();
  if (unpack_worth(worth)) out.worth = worth;
  return out;
}

void add_hints(ObjectHeader* header, const Kept& kept, uint32_t worth) {
  if (!kept.plain()) {
    header->optional_features |= kFeatureRetention;
    header->optional_fields += encode_kept(kept);
  }
  if (worth != 0) {
    header->optional_features |= kFeatureWorth;
    ByteWriter record;
    record.u32(worth);
    header->optional_fields += record.take();
  }
}

void set_hints(ObjectHeader* header, const Kept& kept, uint32_t worth) {
  header->optional_features = 0;
  header->optional_fields.clear();
  add_hints(header, kept, worth);
}
}  // namespace terrace
