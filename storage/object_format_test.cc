// Goal: a header is read back as it was written, for ever; a damaged or hostile one gives a Status.
// Method: golden bytes, round trips, every single-bit flip, every truncation, random bytes behind a
// correct checksum; layouts and slices against small examples.
#include "storage/object_format.h"

#include <gtest/gtest.h>

#include <string>

#include "base/crc32c.h"
#include "base/prng.h"

namespace terrace {
namespace {

ObjectHeader example() {
  ObjectHeader header;
  for (size_t i = 0; i < 32; ++i) header.key.digest[i] = static_cast<std::byte>(i);
  header.ns = static_cast<NamespaceId>(7);
  header.generation = 0x0102030405060708;
  header.raw_key = "raw";
  header.user_meta = "meta!";
  header.sections = {{SectionKind::k_plane, Codec::identity, 0, 70'000},
                     {SectionKind::v_plane, Codec::identity, 0, 10}};
  header.unit_crcs = {0xAABBCCDD, 0x11223344, 0x55667788};
  header.extents = {{256, 2}, {1024, 18}};
  return header;
}

std::vector<std::byte> encoded(const ObjectHeader& header) {
  std::vector<std::byte> bytes(header_bytes(header, header.extents.size()));
  encode(header, bytes);
  return bytes;
}

void seal(std::vector<std::byte>* bytes) {
  for (size_t i = 88; i < 92; ++i) (*bytes)[i] = std::byte{0};
  const uint32_t crc = crc32c(*bytes);
  for (size_t i = 0; i < 4; ++i) (*bytes)[88 + i] = static_cast<std::byte>(crc >> (8 * i) & 0xFF);
}

std::string hex(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    for (const unsigned digit :
         {std::to_integer<unsigned>(b) >> 4, std::to_integer<unsigned>(b) & 15}) {
      out += "0123456789abcdef"[digit];
    }
  }
  return out;
}

TEST(ObjectFormat, GoldenBytesOfVersion1) {
  const std::vector<std::byte> bytes = encoded(example());
  ASSERT_EQ(bytes.size(), 4096u);
  EXPECT_EQ(hex(std::span(bytes).first(96)),
            "544f424a0100600000100000000000000000000002000000030000000200000003000500"
            "0000000007000000000000000807060504030201000102030405060708090a0b0c0d0e0f"
            "101112131415161718191a1b1c1d1e1f53574f3e00000000");
  EXPECT_EQ(hex(std::span(bytes).subspan(96, 68)),
            "01000000000000007011010000000000"
            "02000000000000000a00000000000000"
            "ddccbbaa4433221188776655"
            "00010000020000000004000012000000"
            "7261776d65746121");
}

TEST(ObjectFormat, RoundTrip) {
  const ObjectHeader header = example();
  const std::vector<std::byte> bytes = encoded(header);
  StatusOr<ObjectHeader> back = decode_object_header(bytes);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, header);
  StatusOr<uint64_t> size = header_size_of(std::span(bytes).first(4096));
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, 4096u);
}

TEST(ObjectFormat, TheLargestHeader) {
  ObjectHeader header;
  header.raw_key.assign(kRawKeyBytesMax, 'k');
  header.user_meta.assign(kUserMetaBytesMax, 'm');
  header.optional_features = 0x80000001;
  header.optional_fields.assign(ObjectHeader::kOptionalBytesMax, 'o');
  for (uint32_t i = 0; i < kSectionsMax; ++i) {
    header.sections.push_back(
        {SectionKind::raw, Codec::identity, static_cast<uint16_t>(i), 524'288});
    for (int u = 0; u < 8; ++u) header.unit_crcs.push_back(i);
  }
  header.extents.assign(extents_max_of(kObjectBytesMax + 16 * kMiB), Extent{1, 2});
  const std::vector<std::byte> bytes = encoded(header);
  EXPECT_LE(bytes.size(), kHeaderBytesMax);
  StatusOr<ObjectHeader> back = decode_object_header(bytes);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, header);
  EXPECT_EQ(*header_size_of(std::span(bytes).first(4096)), bytes.size());
  EXPECT_EQ(decode_object_header(std::span(bytes).first(bytes.size() - 1)).status().code(),
            StatusCode::kOutOfRange);
  EXPECT_EQ(decode_object_header(std::span(bytes).first(4096)).status().code(),
            StatusCode::kOutOfRange);
}

TEST(ObjectFormat, EveryBitCounts) {
  const std::vector<std::byte> bytes = encoded(example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<std::byte> bad = bytes;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const StatusCode code = decode_object_header(bad).status().code();
    // One that says that it is longer goes on behind these bytes.
    EXPECT_TRUE(code == StatusCode::kDataLoss || code == StatusCode::kOutOfRange) << "bit " << bit;
    EXPECT_EQ(code == StatusCode::kOutOfRange, bit >= 64 + 13 && bit <= 64 + 17) << "bit " << bit;
  }
}

TEST(ObjectFormat, EveryTruncationIsAStatus) {
  const std::vector<std::byte> bytes = encoded(example());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::byte> part(bytes.begin(),
                                      bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(decode_object_header(part).status().code(), StatusCode::kOutOfRange) << size;
  }
}

TEST(ObjectFormat, HostileCountsBehindACorrectChecksum) {
  const std::vector<std::byte> good = encoded(example());
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    Prng prng(seed);
    std::vector<std::byte> bytes = good;
    for (uint64_t n = 1 + prng.below(4); n > 0; --n) {
      bytes[prng.below(200)] = static_cast<std::byte>(prng.below(2) == 0 ? 0xFF : prng.below(256));
    }
    seal(&bytes);
    const StatusOr<ObjectHeader> header = decode_object_header(bytes);
    if (!header.ok()) continue;
    uint32_t units = 0;
    for (const SectionSpec& section : header->sections) units += units_of(section.bytes);
    EXPECT_EQ(header->unit_crcs.size(), units) << "seed " << seed;
  }
}

TEST(ObjectFormat, NewerThanThisBuild) {
  std::vector<std::byte> bytes = encoded(example());
  bytes.resize(8192);
  bytes[4] = std::byte{2};
  bytes[6] = std::byte{200};  // whatever stands behind its size
  bytes[9] = std::byte{0x20};
  bytes[20] = std::byte{0xFF};
  bytes[23] = std::byte{0xFF};
  EXPECT_EQ(decode_object_header(bytes).status().code(), StatusCode::kDataLoss);
  seal(&bytes);
  EXPECT_EQ(decode_object_header(bytes).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(*header_size_of(std::span(bytes).first(4096)), 8192u);
  EXPECT_EQ(decode_object_header(std::span(bytes).first(4096)).status().code(),
            StatusCode::kOutOfRange);
  bytes[5000] = std::byte{1};
  EXPECT_EQ(decode_object_header(bytes).status().code(), StatusCode::kDataLoss);
  bytes = encoded(example());
  bytes[12] = std::byte{1};  // a required feature
  seal(&bytes);
  EXPECT_EQ(decode_object_header(bytes).status().code(), StatusCode::kFailedPrecondition);
  bytes = encoded(example());
  bytes[16] = std::byte{1};  // an optional one
  seal(&bytes);
  const StatusOr<ObjectHeader> header = decode_object_header(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->optional_features, 1u);
}

TEST(ObjectLayout, PlacesSections) {
  const std::vector<SectionSpec> sections = {{SectionKind::raw, Codec::identity, 0, 1},
                                             {SectionKind::raw, Codec::identity, 1, 65'537},
                                             {SectionKind::raw, Codec::identity, 2, 4096}};
  const ObjectLayout layout(8192, sections);
  EXPECT_EQ(layout.section_offset(0), 8192u);
  EXPECT_EQ(layout.section_offset(1), 12'288u);
  EXPECT_EQ(layout.section_offset(2), 12'288u + 69'632u);
  EXPECT_EQ(layout.stored_bytes(), 12'288u + 69'632u + 4096u);
  EXPECT_EQ(layout.logical_bytes(), 1u + 65'537u + 4096u);
  EXPECT_EQ(layout.units(), 4u);
  EXPECT_EQ(layout.first_unit(2), 3u);
  EXPECT_EQ(layout.section_at(0), 0u);
  EXPECT_EQ(layout.section_at(1), 1u);
  EXPECT_EQ(layout.section_at(65'537), 1u);
  EXPECT_EQ(layout.section_at(65'538), 2u);
}

TEST(ObjectLayout, SliceFollowsTheExtents) {
  const std::vector<Extent> extents = {{100, 2}, {50, 1}, {200, 4}};
  EXPECT_EQ(slice(extents, 0, 4096), (std::vector<Extent>{{100, 1}}));
  EXPECT_EQ(slice(extents, 4096, 12'288), (std::vector<Extent>{{101, 1}, {50, 1}, {200, 1}}));
  EXPECT_EQ(slice(extents, 5 * 4096, 100 * 4096), (std::vector<Extent>{{202, 2}}));
  EXPECT_TRUE(slice(extents, 7 * 4096, 4096).empty());
}
}  // namespace
}  // namespace terrace
