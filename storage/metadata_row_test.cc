// Goal: a row keeps what recovery needs in at most 160 bytes; a damaged one is never believed.
// Method: golden bytes, round trips, every bit flip and truncation.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "storage/metadata_store.h"

namespace terrace {
namespace {

MetadataRow example(size_t extents) {
  MetadataRow row;
  for (size_t i = 0; i < 32; ++i) row.key.digest[i] = static_cast<std::byte>(255 - i);
  row.ns = static_cast<NamespaceId>(0x01020304);
  row.generation = 9;
  row.logical_bytes = 1 << 20;
  row.stored_bytes = (1 << 20) + 4096;
  row.sections = 64;
  row.header_crc = 0xDEADBEEF;
  row.header_bytes = 4096;
  for (uint32_t i = 0; i < extents; ++i) row.extents.push_back({256 + i * 300, 256});
  return row;
}

std::string hex(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[b >> 4];
    out += "0123456789abcdef"[b & 15];
  }
  return out;
}

TEST(MetadataRow, GoldenBytes) {
  const MetadataRow row = example(1);
  EXPECT_EQ(hex(row_key(row.ns, row.key)).substr(0, 16), "01020304fffefdfc");
  EXPECT_EQ(hex(encode_row(row)),
            "01010100090000000000000000001000000000000010100000000000"
            "40000000efbeadde0010000000010000000100000d714d87");
}

TEST(MetadataRow, a_device_that_is_not_the_first_makes_another_version) {
  MetadataRow row = example(3);
  for (Extent& extent : row.extents) extent.device = 7;
  const std::string key = row_key(row.ns, row.key);
  const std::string value = encode_row(row);
  EXPECT_EQ(hex(value).substr(0, 8), "02010300");
  EXPECT_EQ(hex(value).substr(80, 32),
            "00010000"
            "00010007"
            "2c020000"
            "00010007");
  StatusOr<MetadataRow> back = decode_row(key, value);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, row);
}

TEST(MetadataRow, RoundTripWithinTheLimit) {
  for (size_t extents = 0; extents <= kRowExtentsMax; ++extents) {
    const MetadataRow row = example(extents);
    const std::string key = row_key(row.ns, row.key);
    const std::string value = encode_row(row);
    EXPECT_LE(key.size() + value.size(), 160u);
    StatusOr<MetadataRow> back = decode_row(key, value);
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    EXPECT_EQ(*back, row);
  }
}

TEST(MetadataRow, MoreExtentsThanFit) {
  MetadataRow row = example(40);
  const std::string key = row_key(row.ns, row.key);
  const std::string value = encode_row(row);
  EXPECT_LE(key.size() + value.size(), 160u);
  StatusOr<MetadataRow> back = decode_row(key, value);
  ASSERT_TRUE(back.ok());
  EXPECT_FALSE(back->extents_complete);
  row.extents.resize(kRowExtentsMax);
  row.extents_complete = false;
  EXPECT_EQ(*back, row);
}

TEST(MetadataRow, HintsTakeTheRoomOfExtents) {
  for (const size_t text : {size_t{0}, kRetentionSessionBytesMax}) {
    MetadataRow row = example(kRowExtentsMax);
    row.kept.emplace();
    row.kept->pinned = true;
    row.kept->expires_s = 77;
    row.kept->session = std::string(text, 's');
    row.kept->type = std::string(std::min(text, kRetentionTypeBytesMax), 't');
    row.worth = pack_worth({.recompute_us = 1});
    const std::string key = row_key(row.ns, row.key);
    const std::string value = encode_row(row);
    EXPECT_LE(key.size() + value.size(), 160u);
    StatusOr<MetadataRow> back = decode_row(key, value);
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    EXPECT_FALSE(back->extents_complete);
    EXPECT_GE(back->extents.size(), 2u);
    row.extents.resize(back->extents.size());
    row.extents_complete = false;
    EXPECT_EQ(*back, row);
  }
}

TEST(MetadataRow, a_worth_makes_another_version) {
  MetadataRow row = example(1);
  row.worth = pack_worth({.recompute_us = 7, .importance = 0.5});
  const std::string key = row_key(row.ns, row.key);
  const std::string value = encode_row(row);
  EXPECT_EQ(hex(value).substr(0, 8), "04010100");
  EXPECT_EQ(hex(value).substr(96, 8), "07000064");
  StatusOr<MetadataRow> back = decode_row(key, value);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, row);
}

TEST(MetadataRow, PlainRetentionIsAnOldRow) {
  MetadataRow row = example(1);
  const std::string old = encode_row(row);
  row.kept = Kept();
  EXPECT_EQ(encode_row(row), old);
}

/// `row` as one of `version` with `record`, with the checksum that belongs to it.
std::string forged(const std::string& key, const MetadataRow& row, const std::string& record,
                   char version = 3) {
  const auto bytes = [](const std::string& text) { return std::as_bytes(std::span(text)); };
  std::string body = encode_row(row);
  body.resize(body.size() - 4);
  body[0] = version;
  body += record;
  ByteWriter crc;
  crc.u32(crc32c(bytes(body), crc32c(bytes(key))));
  return body + crc.take();
}

TEST(MetadataRow, RetentionThatIsNeverWrittenIsDamage) {
  const std::string says_nothing = encode_kept(Kept());
  Kept pinned;
  pinned.pinned = true;
  MetadataRow row = example(1);
  const std::string key = row_key(row.ns, row.key);
  EXPECT_TRUE(decode_row(key, forged(key, row, encode_kept(pinned))).ok());
  EXPECT_EQ(decode_row(key, forged(key, row, says_nothing)).status().code(), StatusCode::kDataLoss);
  pinned.session = std::string(kRetentionSessionBytesMax, 's');
  row = example(kRowExtentsMax);
  EXPECT_EQ(decode_row(key, forged(key, row, encode_kept(pinned))).status().code(),
            StatusCode::kDataLoss)
      << "more than 160 bytes";
}

TEST(MetadataRow, WorthThatIsNeverWrittenIsDamage) {
  const auto record = [](uint32_t worth) {
    ByteWriter out;
    out.u32(worth);
    return out.take();
  };
  const uint32_t worth = pack_worth({.recompute_us = 7});
  Kept pinned;
  pinned.pinned = true;
  const MetadataRow row = example(1);
  const std::string key = row_key(row.ns, row.key);
  EXPECT_TRUE(decode_row(key, forged(key, row, record(worth), 4)).ok());
  EXPECT_TRUE(decode_row(key, forged(key, row, record(worth) + encode_kept(pinned), 4)).ok());
  for (const std::string& bad : {
           record(0),
           record(201u << 24),
           record(1u << 19 | 1),
           record(worth).substr(0, 3),
           record(worth) + encode_kept(Kept()),
           record(worth) + encode_kept(pinned) + "more",
           record(0) + encode_kept(pinned),
       }) {
    EXPECT_EQ(decode_row(key, forged(key, row, bad, 4)).status().code(), StatusCode::kDataLoss);
  }
  EXPECT_EQ(decode_row(key, forged(key, row, record(worth), 5)).status().code(),
            StatusCode::kDataLoss);
}

/// Bit 0: with retention; bit 1: with a worth.
class MetadataRowDamage : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Versions, MetadataRowDamage, testing::Range(0, 4));

TEST_P(MetadataRowDamage, IsSeen) {
  MetadataRow row = example(3);
  Retention retention;
  retention.ttl = std::chrono::seconds(5);
  if ((GetParam() & 1) != 0) row.kept = kept_of(retention, 100);
  if ((GetParam() & 2) != 0) row.worth = pack_worth({.recompute_us = 300'000});
  const std::string key = row_key(row.ns, row.key);
  const std::string value = encode_row(row);
  for (size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string bad = value;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(decode_row(key, bad).status().code(), StatusCode::kDataLoss) << bit;
  }
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_EQ(decode_row(key, value.substr(0, size)).status().code(), StatusCode::kDataLoss);
  }
  std::string other = key;
  other[35] = static_cast<char>(other[35] ^ 1);
  EXPECT_EQ(decode_row(other, value).status().code(), StatusCode::kDataLoss)
      << "row of another key";
  EXPECT_EQ(decode_row(key.substr(1), value).status().code(), StatusCode::kDataLoss);
}
}  // namespace
}  // namespace terrace
