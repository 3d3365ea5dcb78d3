#include <algorithm>
#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/metadata_store.h"

namespace terrace {
namespace {

// version u8, flags u8, extents u8, reserved u8, six numbers, the extents, in version 4 the worth,
// in version 3 and where it is not plain in version 4 a retention record, CRC32C. docs/formats.md
constexpr uint8_t kVersion = 1;
constexpr uint8_t kVersionWithDevice = 2;  // the same, and its extents name a device that is not 0
constexpr uint8_t kVersionKept = 3;        // a retention record follows the extents
constexpr uint8_t kVersionWorth = 4;       // a worth follows the extents, then retention if any
constexpr uint8_t kExtentsComplete = 1;
constexpr size_t kFixedBytes = 4 + 3 * 8 + 3 * 4;
constexpr size_t kExtentBytes = 8;
constexpr size_t kCrcBytes = 4;
constexpr size_t kRowBytesMax = 160;
constexpr size_t kVariableMax = kRowBytesMax - kRowKeyBytes - kFixedBytes - kCrcBytes;
static_assert(kRowExtentsMax * kExtentBytes <= kVariableMax, "a row is at most 160 bytes");
static_assert(kWorthRecordBytes + kRetentionRecordMax + 2 * kExtentBytes <= kVariableMax,
              "a header lies in the first extents");

uint32_t crc_of(std::string_view key, std::string_view value) {
  return crc32c(value, crc32c(key));
}

bool at_first_device(const MetadataRow& row) {
  const size_t kept = std::min(row.extents.size(), kRowExtentsMax);
  return std::all_of(row.extents.begin(), row.extents.begin() + static_cast<ptrdiff_t>(kept),
                     [](const Extent& e) { return e.device == 0; });
}

Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, "index row: " + what);
}

uint8_t version_of(const MetadataRow& row) {
  if (row.worth != 0) return kVersionWorth;
  if (row.kept && !row.kept->plain()) return kVersionKept;
  return at_first_device(row) ? kVersion : kVersionWithDevice;
}

std::string encode_hints(const MetadataRow& row) {
  ByteWriter out;
  if (row.worth != 0) out.u32(row.worth);
  if (row.kept && !row.kept->plain()) out.raw(encode_kept(*row.kept));
  return out.take();
}

/// What says nothing is never written: its row would be of an older version.
Status decode_hints(std::string_view bytes, bool worth, MetadataRow* row) {
  if (worth) {
    ByteReader in(bytes);
    row->worth = in.u32();
    if (!in.ok() || row->worth == 0 || !unpack_worth(row->worth)) return damaged("its worth");
    bytes.remove_prefix(kWorthRecordBytes);
    if (bytes.empty()) return ok_status();
  }
  size_t used = 0;
  row->kept = decode_kept(bytes, &used);
  const bool good = row->kept && !row->kept->plain() && used == bytes.size();
  return good ? ok_status() : damaged("its retention");
}
}  // namespace

std::string row_key(NamespaceId ns, const ChunkKey& key) {
  std::string out;
  out.reserve(kRowKeyBytes);
  const auto id = static_cast<uint32_t>(ns);
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(id >> shift & 0xFF);
  out.append(reinterpret_cast<const char*>(key.digest.data()), key.digest.size());
  return out;
}

std::string encode_row(const MetadataRow& row) {
  const std::string hints = encode_hints(row);
  const size_t room = (kVariableMax - hints.size()) / kExtentBytes;
  const size_t count = std::min({row.extents.size(), kRowExtentsMax, room});
  const bool complete = row.extents_complete && count == row.extents.size();
  ByteWriter out;
  out.u8(version_of(row));
  out.u8(complete ? kExtentsComplete : 0);
  out.u8(static_cast<uint8_t>(count));
  out.u8(0);  // reserved
  out.u64(row.generation);
  out.u64(row.logical_bytes);
  out.u64(row.stored_bytes);
  out.u32(row.sections);
  out.u32(row.header_crc);
  out.u32(row.header_bytes);
  for (size_t i = 0; i < count; ++i) {
    out.u32(row.extents[i].block);
    out.u32(row.extents[i].packed());
  }
  out.raw(hints);
  std::string value = out.take();
  ByteWriter crc;
  crc.u32(crc_of(row_key(row.ns, row.key), value));
  return value + crc.take();
}

StatusOr<MetadataRow> decode_row(std::string_view key, std::string_view value) {
  if (key.size() != kRowKeyBytes) return damaged("key of " + std::to_string(key.size()) + " bytes");
  if (value.size() < kFixedBytes + kCrcBytes) {
    return damaged(std::to_string(value.size()) + " bytes");
  }
  const size_t body = value.size() - kCrcBytes;
  if (ByteReader(value.substr(body)).u32() != crc_of(key, value.substr(0, body))) {
    return damaged("checksum differs");
  }
  ByteReader in(value.substr(0, body));
  const uint8_t version = in.u8();
  if (version < kVersion || version > kVersionWorth) {
    return damaged("version " + std::to_string(version));
  }
  const uint8_t flags = in.u8();
  const uint8_t extents = in.u8();
  const uint8_t reserved = in.u8();
  if ((flags & ~kExtentsComplete) != 0 || reserved != 0) return damaged("unknown flags");
  const size_t plain_bytes = kFixedBytes + extents * kExtentBytes;
  const bool hints = version >= kVersionKept;
  const bool fits = hints ? body > plain_bytes : body == plain_bytes;
  const bool bounded = key.size() + value.size() <= kRowBytesMax;
  if (extents > kRowExtentsMax || !fits || !bounded) {
    return damaged(std::to_string(extents) + " extents in " + std::to_string(body) + " bytes");
  }
  MetadataRow row;
  uint32_t id = 0;
  for (size_t i = 0; i < 4; ++i) id = id << 8 | static_cast<unsigned char>(key[i]);
  row.ns = static_cast<NamespaceId>(id);
  std::memcpy(row.key.digest.data(), key.data() + 4, row.key.digest.size());
  row.extents_complete = (flags & kExtentsComplete) != 0;
  row.generation = in.u64();
  row.logical_bytes = in.u64();
  row.stored_bytes = in.u64();
  row.sections = in.u32();
  row.header_crc = in.u32();
  row.header_bytes = in.u32();
  for (uint8_t i = 0; i < extents; ++i) {
    const uint32_t block = in.u32();
    row.extents.push_back(Extent::unpack(block, in.u32()));
  }
  if (!hints && at_first_device(row) != (version == kVersion)) {
    return damaged("devices of another version");
  }
  if (hints) {
    TERRACE_RETURN_IF_ERROR(decode_hints(value.substr(plain_bytes, body - plain_bytes),
                                         version == kVersionWorth, &row));
  }
  return row;
}
}  // namespace terrace
