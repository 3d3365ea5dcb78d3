#include "proto/message_kind.h"

#include "base/bytes.h"
#include "base/limits.h"

namespace terrace {
namespace {

Status check_count(std::string_view bytes, size_t entry, size_t max, const char* what) {
  if (bytes.size() % entry != 0) {
    return error(StatusCode::kInvalidArgument,
                 std::string(what) + ": " + std::to_string(bytes.size()) +
                     " bytes are no multiple of " + std::to_string(entry));
  }
  if (bytes.size() / entry > max) {
    return error(StatusCode::kInvalidArgument, std::string(what) + ": " +
                                                   std::to_string(bytes.size() / entry) +
                                                   " entries; at most " + std::to_string(max));
  }
  return ok_status();
}
}  // namespace

void pack_info(const WireInfo& info, std::string* out) {
  ByteWriter w;
  w.u8(static_cast<uint8_t>(info.code));
  w.u8(info.tiers);
  w.u16(info.sections);
  w.u32(info.load_us);
  w.u64(info.bytes);
  w.u64(info.generation);
  out->append(w.take());
}

StatusOr<std::vector<WireInfo>> unpack_infos(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, kWireInfoBytes, max, "infos"));
  std::vector<WireInfo> infos(bytes.size() / kWireInfoBytes);
  ByteReader in(bytes);
  for (WireInfo& info : infos) {
    info.code = status_code_of(in.u8());
    info.tiers = in.u8();
    info.sections = in.u16();
    info.load_us = in.u32();
    info.bytes = in.u64();
    info.generation = in.u64();
  }
  return infos;
}

std::string pack_keys(std::span<const ChunkKey> keys) {
  return {reinterpret_cast<const char*>(keys.data()), keys.size_bytes()};
}

StatusOr<std::span<const ChunkKey>> view_keys(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, sizeof(ChunkKey), max, "keys"));
  // ChunkKey is 32 bytes of std::byte: any address will do.
  return std::span(reinterpret_cast<const ChunkKey*>(bytes.data()),
                   bytes.size() / sizeof(ChunkKey));
}

std::string pack_fragments(std::span<const Fragment> fragments) {
  ByteWriter w;
  for (const Fragment& f : fragments) {
    w.u64(f.object_offset);
    w.u64(static_cast<uint64_t>(f.region));
    w.u64(f.offset);
    w.u64(f.length);
  }
  return w.take();
}

StatusOr<std::vector<Fragment>> unpack_fragments(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, kWireFragmentBytes, max, "fragments"));
  std::vector<Fragment> fragments(bytes.size() / kWireFragmentBytes);
  ByteReader in(bytes);
  for (Fragment& f : fragments) {
    f.object_offset = in.u64();
    f.region = RegionId{in.u64()};
    f.offset = in.u64();
    f.length = in.u64();
    if (f.length == 0 || f.object_offset > kObjectBytesMax || f.length > kObjectBytesMax) {
      return error(StatusCode::kInvalidArgument, "fragment at object offset " +
                                                     std::to_string(f.object_offset) + " of " +
                                                     std::to_string(f.length) + " bytes: 1 to " +
                                                     std::to_string(kObjectBytesMax));
    }
  }
  return fragments;
}

std::string pack_planes(std::span<const PoolPlane> planes) {
  ByteWriter w;
  for (const PoolPlane& p : planes) {
    w.u64(p.object_offset);
    w.u64(static_cast<uint64_t>(p.region));
    w.u64(p.offset);
    w.u64(p.block_stride);
    w.u64(p.block_bytes);
  }
  return w.take();
}

StatusOr<std::vector<PoolPlane>> unpack_planes(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, kWirePlaneBytes, max, "planes"));
  std::vector<PoolPlane> planes(bytes.size() / kWirePlaneBytes);
  ByteReader in(bytes);
  for (PoolPlane& p : planes) {
    p.object_offset = in.u64();
    p.region = RegionId{in.u64()};
    p.offset = in.u64();
    p.block_stride = in.u64();
    p.block_bytes = in.u64();
    if (p.block_bytes == 0 || p.block_bytes > kObjectBytesMax ||
        p.object_offset > kObjectBytesMax) {
      return error(StatusCode::kInvalidArgument,
                   "plane at object offset " + std::to_string(p.object_offset) + " of " +
                       std::to_string(p.block_bytes) + " bytes per block: 1 to " +
                       std::to_string(kObjectBytesMax));
    }
  }
  return planes;
}

std::string pack_sections(std::span<const SectionSpec> sections) {
  ByteWriter w;
  for (const SectionSpec& s : sections) {
    w.u8(static_cast<uint8_t>(s.kind));
    w.u8(static_cast<uint8_t>(s.codec));
    w.u16(s.layer);
    w.u64(s.bytes);
  }
  return w.take();
}

StatusOr<std::vector<SectionSpec>> unpack_sections(std::string_view bytes) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, kWireSectionBytes, kSectionsMax, "sections"));
  std::vector<SectionSpec> sections(bytes.size() / kWireSectionBytes);
  ByteReader in(bytes);
  uint64_t total = 0;
  for (SectionSpec& s : sections) {
    const uint8_t kind = in.u8();
    const uint8_t codec = in.u8();
    s.layer = in.u16();
    s.bytes = in.u64();
    s.kind = static_cast<SectionKind>(kind);
    s.codec = static_cast<Codec>(codec);
    if (kind < 1 || kind > static_cast<uint8_t>(SectionKind::raw) || codec != 0) {
      return error(StatusCode::kInvalidArgument, "section kind " + std::to_string(kind) +
                                                     ", codec " + std::to_string(codec) +
                                                     ": unknown to this build");
    }
    if (s.bytes == 0 || s.bytes > kObjectBytesMax || (total += s.bytes) > kObjectBytesMax) {
      return error(StatusCode::kInvalidArgument,
                   "section of " + std::to_string(s.bytes) + " bytes: 1 to " +
                       std::to_string(kObjectBytesMax) + " for the whole object");
    }
  }
  return sections;
}

std::string pack_ids(std::span<const uint64_t> ids) {
  ByteWriter w;
  for (uint64_t id : ids) w.u64(id);
  return w.take();
}

StatusOr<std::vector<uint64_t>> unpack_ids(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, sizeof(uint64_t), max, "ids"));
  std::vector<uint64_t> ids(bytes.size() / sizeof(uint64_t));
  ByteReader in(bytes);
  for (uint64_t& id : ids) id = in.u64();
  return ids;
}

std::string pack_words(std::span<const uint32_t> words) {
  return {reinterpret_cast<const char*>(words.data()), words.size_bytes()};
}

StatusOr<std::vector<uint32_t>> unpack_words(std::string_view bytes, size_t max) {
  TERRACE_RETURN_IF_ERROR(check_count(bytes, sizeof(uint32_t), max, "words"));
  std::vector<uint32_t> words(bytes.size() / sizeof(uint32_t));
  ByteReader(bytes).raw(words.data(), bytes.size());
  return words;
}

uint32_t units_touched(uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return 0;
  return static_cast<uint32_t>((offset + bytes - 1) / kCrcUnitBytes - offset / kCrcUnitBytes + 1);
}

std::string pack_deliveries(std::span<const Delivery> deliveries) {
  ByteWriter w;
  w.u32(static_cast<uint32_t>(deliveries.size()));
  for (const Delivery& d : deliveries) {
    w.u32(d.item);
    w.u32(d.section);
    w.u64(d.offset);
    w.u64(d.object_offset);
    w.u32(d.bytes);
    w.u32(static_cast<uint32_t>(d.tier));
    for (uint32_t crc : d.crcs) w.u32(crc);
  }
  return w.take();
}

StatusOr<std::vector<Delivery>> unpack_deliveries(std::string_view bytes) {
  ByteReader in(bytes);
  const uint32_t count = in.u32();
  if (count == 0 || count > kDeliveriesPerFrameMax) {
    return error(StatusCode::kInvalidArgument, "frame of " + std::to_string(count) +
                                                   " deliveries: 1 to " +
                                                   std::to_string(kDeliveriesPerFrameMax));
  }
  std::vector<Delivery> deliveries(count);
  for (Delivery& d : deliveries) {
    d.item = in.u32();
    d.section = in.u32();
    d.offset = in.u64();
    d.object_offset = in.u64();
    d.bytes = in.u32();
    const uint32_t tier = in.u32();
    if (d.bytes == 0 || d.bytes > kFramePayloadBytesMax || d.offset > kObjectBytesMax ||
        d.object_offset > kObjectBytesMax || tier >= kTierCount) {
      return error(StatusCode::kInvalidArgument, "delivery of " + std::to_string(d.bytes) +
                                                     " bytes at " + std::to_string(d.offset) +
                                                     ", tier " + std::to_string(tier));
    }
    d.tier = static_cast<Tier>(tier);
    d.crcs.resize(units_touched(d.offset, d.bytes));
    for (uint32_t& crc : d.crcs) crc = in.u32();
  }
  if (!in.ok() || in.left() != 0) {
    return error(StatusCode::kInvalidArgument,
                 "deliveries: " + std::to_string(bytes.size()) + " bytes do not add up");
  }
  return deliveries;
}
}  // namespace terrace
