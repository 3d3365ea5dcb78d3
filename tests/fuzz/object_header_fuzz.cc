// Goal: no bytes on a medium make the parsers of object headers, index rows, identity blocks and
// slab headers crash, read outside their input, or accept what they would not write.
// Method: every input goes through all parsers, as it is and with its checksum made right; what is
// accepted is encoded again and must decode to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/data_file.h"
#include "storage/device_list.h"
#include "storage/metadata_store.h"
#include "storage/object_format.h"
#include "storage/object_hints.h"
#include "storage/slab_format.h"

namespace terrace {
namespace {

constexpr size_t kHeaderCrcAt = 88;
constexpr size_t kIdentityCrcAt = 60;

void put_u32(std::span<std::byte> into, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) into[i] = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}

void try_header(std::span<const std::byte> bytes) {
  const StatusOr<uint64_t> size = header_size_of(bytes);
  if (size.ok()) TERRACE_CHECK(*size % kSectorBytes == 0 && *size <= kHeaderBytesMax);
  const StatusOr<ObjectHeader> header = decode_object_header(bytes);
  if (!header.ok()) return;
  TERRACE_CHECK(size.ok() && *size <= bytes.size());
  std::vector<std::byte> again(*size);
  encode(*header, again);
  const StatusOr<ObjectHeader> back = decode_object_header(again);
  TERRACE_CHECK(back.ok() && *back == *header);
  const ObjectLayout layout(*size, header->sections);
  TERRACE_CHECK(layout.units() == header->unit_crcs.size());
  const ObjectHints hints = hints_of(*header);
  ObjectHeader said;
  set_hints(&said, hints.kept.value_or(Kept()), hints.worth);
  TERRACE_CHECK(hints_of(said).worth == hints.worth);
  (void)slice(header->extents, 0, layout.stored_bytes());
}

/// With the size that it says it has, if that is a possible one.
void try_sealed_header(std::vector<std::byte> bytes) {
  const StatusOr<uint64_t> size = header_size_of(bytes);
  if (!size.ok()) return;
  bytes.resize(*size);
  put_u32(std::span(bytes).subspan(kHeaderCrcAt, 4), 0);
  put_u32(std::span(bytes).subspan(kHeaderCrcAt, 4), crc32c(bytes));
  try_header(bytes);
}

void try_row(std::string_view key, std::string_view value) {
  const StatusOr<MetadataRow> row = decode_row(key, value);
  if (row.ok()) TERRACE_CHECK(encode_row(*row) == value);
}

void try_rows(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t split = std::min<size_t>(text.size(), kRowKeyBytes);
  try_row(text.substr(0, split), text.substr(split));
  if (text.size() < kRowKeyBytes + 4) return;
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  put_u32(std::span(sealed).last(4), crc32c(std::span(sealed).first(sealed.size() - 4)));
  const std::string_view good(reinterpret_cast<const char*>(sealed.data()), sealed.size());
  try_row(good.substr(0, kRowKeyBytes), good.substr(kRowKeyBytes));
}

void try_devices(std::span<const std::byte> bytes) {
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  (void)decode_device_list(text);
  if (text.size() < 4) return;
  const uint32_t crc = crc32c(bytes.first(bytes.size() - 4));
  std::memcpy(text.data() + text.size() - 4, &crc, 4);
  if (const auto list = decode_device_list(text); list.ok()) {
    TERRACE_CHECK(encode_device_list(*list) == text);
  }
}

void try_blocks(std::vector<std::byte> bytes) {
  (void)decode_identity(bytes);
  bytes.resize(DataFileIdentity::kBytes);
  (void)decode_slab_header(std::span(bytes).first<kSlabHeaderBytes>());
  std::vector<std::byte> identity = bytes;
  put_u32(std::span(identity).subspan(kIdentityCrcAt, 4),
          crc32c(std::span(identity).first(kIdentityCrcAt)));
  if (const auto decoded = decode_identity(identity); decoded.ok()) {
    std::vector<std::byte> again(DataFileIdentity::kBytes);
    encode(*decoded, again);
    TERRACE_CHECK(*decode_identity(again) == *decoded);
  }
  put_u32(std::span(bytes).last(4), crc32c(std::span(bytes).first(kSlabClaimOffset)));
  (void)decode_slab_header(std::span(bytes).first<kSlabHeaderBytes>());
}

ObjectHeader sample(size_t sections, bool names) {
  ObjectHeader header;
  header.key.digest.fill(std::byte{7});
  header.ns = NamespaceId{3};
  header.generation = 9;
  if (names) header.raw_key = "a/raw/key", header.user_meta = "{}", header.optional_fields = "x";
  if (sections > 8) {
    Kept kept;
    kept.session = "s";
    set_hints(&header, kept, pack_worth({.recompute_us = 1'000'000, .importance = 0.5}));
  }
  for (size_t i = 0; i < sections; ++i) {
    header.sections.push_back({i % 2 == 0 ? SectionKind::k_plane : SectionKind::v_plane,
                               Codec::identity, static_cast<uint16_t>(i / 2), 70'000 * (i + 1)});
    header.unit_crcs.resize(header.unit_crcs.size() + units_of(header.sections.back().bytes), 5);
  }
  header.extents = {{256, 64}, {1024, 256}};
  return header;
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  try_header(bytes);
  try_sealed_header(bytes);
  try_rows(bytes);
  try_devices(bytes);
  try_blocks(bytes);
  return 0;
}

/// Headers of one and of many sections, with and without hints, rows with each of them, an identity
/// block, a slab header, a list of devices.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  std::vector<std::byte> bytes;
  if (i < 3) {
    const ObjectHeader header = sample(i == 0 ? 1 : 8 * i, i == 1);
    bytes.resize(header_bytes(header, header.extents.size()));
    encode(header, bytes);
  } else if (i == 3 || (i >= 7 && i <= 9)) {
    MetadataRow row;
    if (i == 7 || i == 9) row.kept.emplace().session = "s";
    if (i >= 8) row.worth = pack_worth({.recompute_us = 1000});
    row.key.digest.fill(std::byte{1});
    row.ns = NamespaceId{2};
    row.extents = {{256, 9}, {512, 256}};
    const std::string text = row_key(row.ns, row.key) + encode_row(row);
    bytes.resize(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
  } else if (i == 4) {
    bytes.resize(DataFileIdentity::kBytes);
    encode(DataFileIdentity{.device = {}, .directory = {}, .bytes = kGiB}, bytes);
  } else if (i == 6) {
    const std::string text = encode_device_list({3, {{0, {}, "/a"}, {2, {}, "/b"}}});
    bytes.resize(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
  } else if (i == 5) {
    bytes.resize(kSlabHeaderBytes);
    encode(SlabHeader{.data_bytes = 64 * kMiB, .first_block = 0, .epoch = 1},
           std::span(bytes).first<kSlabHeaderBytes>());
  }
  TERRACE_CHECK(bytes.size() <= out_max);
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return bytes.size();
}
