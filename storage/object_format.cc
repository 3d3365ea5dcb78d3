#include "storage/object_format.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {
namespace {

// The fixed part, docs/formats.md.
constexpr size_t kFixedBytes = 96;
constexpr size_t kCrcAt = 88;
constexpr size_t kSectionBytes = 16;
constexpr size_t kCrcBytes = 4;
constexpr size_t kExtentBytes = 8;
constexpr uint32_t kKnownRequiredFeatures = 0;
constexpr uint32_t kUnitsMax =
    static_cast<uint32_t>(kObjectBytesMax / kCrcUnitBytes) + kSectionsMax;
constexpr uint32_t kExtentsMax = 8192;
static_assert(kFixedBytes + kSectionsMax * kSectionBytes + kUnitsMax * kCrcBytes +
                      kExtentsMax * kExtentBytes + kRawKeyBytesMax + kUserMetaBytesMax +
                      ObjectHeader::kOptionalBytesMax <=
                  kHeaderBytesMax,
              "the largest header fits");

struct Counts {
  uint32_t header_bytes = 0;
  uint32_t required_features = 0;
  uint32_t optional_features = 0;
  uint32_t sections = 0;
  uint32_t units = 0;
  uint32_t extents = 0;
  uint32_t raw_key_bytes = 0;
  uint32_t user_meta_bytes = 0;
  uint32_t optional_bytes = 0;
  /// Bytes that are really used, of the header_bytes.
  uint64_t used() const {
    return kFixedBytes + uint64_t{sections} * kSectionBytes + uint64_t{units} * kCrcBytes +
           uint64_t{extents} * kExtentBytes + raw_key_bytes + user_meta_bytes + optional_bytes;
  }
};

Status damaged(std::string_view what, uint64_t value) {
  return error(StatusCode::kDataLoss,
               "object header: " + std::string(what) + " " + std::to_string(value));
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What every version begins with, and the place of its CRC.
struct Beginning {
  uint16_t version = 0;
  uint16_t fixed_bytes = 0;
  uint32_t header_bytes = 0;
};

StatusOr<Beginning> read_beginning(ByteReader* in) {
  if (in->left() < kFixedBytes) {
    return error(StatusCode::kOutOfRange, "object header: less than its fixed part");
  }
  if (const uint32_t magic = in->u32(); magic != ObjectHeader::kMagic) {
    return damaged("bad magic", magic);
  }
  Beginning out;
  out.version = in->u16();
  out.fixed_bytes = in->u16();
  out.header_bytes = in->u32();
  if (out.version == 0) return damaged("version", out.version);
  if (out.header_bytes == 0 || out.header_bytes % kSectorBytes != 0 ||
      out.header_bytes > kHeaderBytesMax) {
    return damaged("size", out.header_bytes);
  }
  return out;
}

/// The rest of version 1's fixed part, up to and without the key; the reader is left behind it.
StatusOr<Counts> read_counts(const Beginning& beginning, ByteReader* in) {
  if (beginning.fixed_bytes != kFixedBytes) return damaged("fixed size", beginning.fixed_bytes);
  Counts c;
  c.header_bytes = beginning.header_bytes;
  c.required_features = in->u32();
  c.optional_features = in->u32();
  c.sections = in->u32();
  c.units = in->u32();
  c.extents = in->u32();
  c.raw_key_bytes = in->u16();
  c.user_meta_bytes = in->u16();
  c.optional_bytes = in->u32();
  if (c.sections > kSectionsMax) return damaged("sections", c.sections);
  if (c.units > kUnitsMax) return damaged("units", c.units);
  if (c.extents > kExtentsMax) return damaged("extents", c.extents);
  if (c.raw_key_bytes > kRawKeyBytesMax) return damaged("raw key bytes", c.raw_key_bytes);
  if (c.user_meta_bytes > kUserMetaBytesMax) return damaged("meta bytes", c.user_meta_bytes);
  if (c.optional_bytes > ObjectHeader::kOptionalBytesMax) {
    return damaged("optional bytes", c.optional_bytes);
  }
  if (c.header_bytes < c.used()) return damaged("size", c.header_bytes);
  return c;
}

/// Over the whole header, with the four bytes of the CRC as zeroes.
uint32_t crc_of(std::span<const std::byte> header) {
  constexpr std::array<std::byte, kCrcBytes> kZero{};
  const uint32_t head = crc32c(header.first(kCrcAt));
  return crc32c(header.subspan(kCrcAt + kCrcBytes), crc32c(kZero, head));
}

uint32_t stored_crc(std::span<const std::byte> header) {
  return ByteReader(text_of(header.subspan(kCrcAt, kCrcBytes))).u32();
}

Status read_sections(ByteReader* in, const Counts& counts, ObjectHeader* out) {
  uint64_t bytes = 0;
  uint64_t units = 0;
  out->sections.reserve(counts.sections);
  for (uint32_t i = 0; i < counts.sections; ++i) {
    SectionSpec section;
    const uint8_t kind = in->u8();
    const uint8_t codec = in->u8();
    section.kind = static_cast<SectionKind>(kind);
    section.codec = static_cast<Codec>(codec);
    section.layer = in->u16();
    const uint32_t reserved = in->u32();
    section.bytes = in->u64();
    if (kind < static_cast<uint8_t>(SectionKind::k_plane) ||
        kind > static_cast<uint8_t>(SectionKind::raw)) {
      return damaged("section kind", kind);
    }
    if (codec != static_cast<uint8_t>(Codec::identity)) return damaged("codec", codec);
    if (reserved != 0) return damaged("reserved bytes of section", i);
    if (section.bytes > kObjectBytesMax) return damaged("section bytes", section.bytes);
    bytes += section.bytes;
    units += units_of(section.bytes);
    out->sections.push_back(section);
  }
  if (bytes > kObjectBytesMax) return damaged("object bytes", bytes);
  if (units != counts.units) return damaged("units", counts.units);
  return ok_status();
}
}  // namespace

uint64_t header_bytes(const ObjectHeader& shape, size_t extents_max) {
  Counts c;
  c.sections = static_cast<uint32_t>(shape.sections.size());
  for (const SectionSpec& section : shape.sections) c.units += units_of(section.bytes);
  c.extents = static_cast<uint32_t>(extents_max);
  c.raw_key_bytes = static_cast<uint32_t>(shape.raw_key.size());
  c.user_meta_bytes = static_cast<uint32_t>(shape.user_meta.size());
  c.optional_bytes = static_cast<uint32_t>(shape.optional_fields.size());
  return (c.used() + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
}

size_t extents_max_of(uint64_t stored_bytes) {
  return ExtentMap::extents_max(stored_bytes);
}

void encode(const ObjectHeader& header, std::span<std::byte> into) {
  TERRACE_CHECK(into.size() % kSectorBytes == 0 && into.size() <= kHeaderBytesMax);
  TERRACE_CHECK(header.sections.size() <= kSectionsMax && header.extents.size() <= kExtentsMax);
  TERRACE_CHECK(header.raw_key.size() <= kRawKeyBytesMax);
  TERRACE_CHECK(header.user_meta.size() <= kUserMetaBytesMax);
  TERRACE_CHECK(header.optional_fields.size() <= ObjectHeader::kOptionalBytesMax);
  uint32_t units = 0;
  for (const SectionSpec& section : header.sections) units += units_of(section.bytes);
  TERRACE_CHECK(header.unit_crcs.size() == units);

  ByteWriter out;
  out.u32(ObjectHeader::kMagic);
  out.u16(ObjectHeader::kVersion);
  out.u16(kFixedBytes);
  out.u32(static_cast<uint32_t>(into.size()));
  out.u32(0);  // required features
  out.u32(header.optional_features);
  out.u32(static_cast<uint32_t>(header.sections.size()));
  out.u32(units);
  out.u32(static_cast<uint32_t>(header.extents.size()));
  out.u16(static_cast<uint16_t>(header.raw_key.size()));
  out.u16(static_cast<uint16_t>(header.user_meta.size()));
  out.u32(static_cast<uint32_t>(header.optional_fields.size()));
  out.u32(static_cast<uint32_t>(header.ns));
  out.u32(0);  // reserved
  out.u64(header.generation);
  out.raw(header.key.digest.data(), header.key.digest.size());
  TERRACE_CHECK(out.size() == kCrcAt);
  out.u32(0);  // the CRC
  out.u32(0);  // reserved
  for (const SectionSpec& section : header.sections) {
    out.u8(static_cast<uint8_t>(section.kind));
    out.u8(static_cast<uint8_t>(section.codec));
    out.u16(section.layer);
    out.u32(0);  // reserved
    out.u64(section.bytes);
  }
  for (const uint32_t crc : header.unit_crcs) out.u32(crc);
  for (const Extent& extent : header.extents) {
    out.u32(extent.block);
    out.u32(extent.packed());
  }
  out.raw(header.raw_key);
  out.raw(header.user_meta);
  out.raw(header.optional_fields);
  const std::string bytes = out.take();
  TERRACE_CHECK(bytes.size() <= into.size());
  std::memcpy(into.data(), bytes.data(), bytes.size());
  std::memset(into.data() + bytes.size(), 0, into.size() - bytes.size());
  const uint32_t crc = crc_of(into);
  for (size_t i = 0; i < kCrcBytes; ++i) {
    into[kCrcAt + i] = static_cast<std::byte>(crc >> (8 * i) & 0xFF);
  }
}

StatusOr<uint64_t> header_size_of(std::span<const std::byte> first_sector) {
  ByteReader in(text_of(first_sector));
  TERRACE_ASSIGN_OR_RETURN(const Beginning beginning, read_beginning(&in));
  if (beginning.version == ObjectHeader::kVersion) {
    TERRACE_RETURN_IF_ERROR(read_counts(beginning, &in).status());
  }
  return uint64_t{beginning.header_bytes};
}

StatusOr<ObjectHeader> decode_object_header(std::span<const std::byte> bytes) {
  ByteReader in(text_of(bytes));
  TERRACE_ASSIGN_OR_RETURN(const Beginning beginning, read_beginning(&in));
  const bool ours = beginning.version == ObjectHeader::kVersion;
  Counts counts;
  if (ours) {
    TERRACE_ASSIGN_OR_RETURN(counts, read_counts(beginning, &in));
  }
  if (bytes.size() < beginning.header_bytes) {
    return error(StatusCode::kOutOfRange, "object header: " + std::to_string(bytes.size()) +
                                              " bytes of " +
                                              std::to_string(beginning.header_bytes));
  }
  const std::span<const std::byte> whole = bytes.first(beginning.header_bytes);
  if (const uint32_t crc = crc_of(whole); crc != stored_crc(whole)) {
    return damaged("checksum differs, computed", crc);
  }
  if (!ours) {
    return error(
        StatusCode::kFailedPrecondition,
        "object header: version " + std::to_string(beginning.version) + "; this build reads 1");
  }
  if ((counts.required_features & ~kKnownRequiredFeatures) != 0) {
    return error(StatusCode::kFailedPrecondition,
                 "object header: requires features " + std::to_string(counts.required_features) +
                     "; this build knows " + std::to_string(kKnownRequiredFeatures));
  }
  ObjectHeader out;
  out.optional_features = counts.optional_features;
  out.ns = static_cast<NamespaceId>(in.u32());
  in.u32();  // reserved
  out.generation = in.u64();
  in.raw(out.key.digest.data(), out.key.digest.size());
  in.u32();  // the CRC
  in.u32();  // reserved
  TERRACE_RETURN_IF_ERROR(read_sections(&in, counts, &out));
  out.unit_crcs.reserve(counts.units);
  for (uint32_t i = 0; i < counts.units; ++i) out.unit_crcs.push_back(in.u32());
  out.extents.reserve(counts.extents);
  for (uint32_t i = 0; i < counts.extents; ++i) {
    const uint32_t block = in.u32();
    out.extents.push_back(Extent::unpack(block, in.u32()));
  }
  out.raw_key = in.raw(counts.raw_key_bytes);
  out.user_meta = in.raw(counts.user_meta_bytes);
  out.optional_fields = in.raw(counts.optional_bytes);
  TERRACE_CHECK(in.ok());  // used() <= header_bytes <= bytes
  return out;
}
}  // namespace terrace
