// Goal: the bytes on a data connection are those of docs/formats.md, and no header, hello or
// fragment table of a hostile peer is taken for a good one.
// Method: golden bytes, round trips, one field spoiled at a time, every single bit flipped.
#include "transport/wire_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte b : bytes) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

const FrameHeader kGolden{.type = FrameType::write,
                          .kind = 0x0302,
                          .tag = 0x1122334455667788,
                          .body_bytes = 0x00010203,
                          .payload_bytes = 0x000A0B0C,
                          .immediate = 0xDEADBEEF};

/// Re-seals a header whose fields a test changed.
void seal(FrameHeaderBytes* bytes) {
  const uint32_t crc = crc32c_by_table(std::span(*bytes).first(28));
  for (size_t i = 0; i < 4; ++i) (*bytes)[28 + i] = static_cast<std::byte>((crc >> (8 * i)) & 0xFF);
}

TEST(WireFormat, HeaderHasItsGoldenBytes) {
  EXPECT_EQ(hex(encode(kGolden)),
            "54525243"  // TRRC
            "01"
            "04"
            "0203"              // version, type write, kind
            "8877665544332211"  // tag
            "03020100"
            "0c0b0a00"
            "efbeadde"
            "a28e1530");  // CRC32C of the 28 bytes before
  const StatusOr<FrameHeader> back = decode_header(encode(kGolden));
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, kGolden);
}

TEST(WireFormat, AnyFlippedBitIsRefused) {
  for (size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
    FrameHeaderBytes bytes = encode(kGolden);
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_FALSE(decode_header(bytes).ok()) << "bit " << bit;
  }
}

TEST(WireFormat, RefusalsNameTheReason) {
  FrameHeaderBytes bytes = encode(kGolden);
  bytes[4] = std::byte{9};
  seal(&bytes);
  const Status version = decode_header(bytes).status();
  EXPECT_EQ(version.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(version.message().find('9'), std::string::npos);
  EXPECT_NE(version.message().find('1'), std::string::npos);

  for (const int type : {0, 16, 255}) {
    bytes = encode(kGolden);
    bytes[5] = static_cast<std::byte>(type);
    seal(&bytes);
    EXPECT_EQ(decode_header(bytes).status().code(), StatusCode::kInvalidArgument) << type;
  }
  FrameHeader big = kGolden;
  big.body_bytes = kBodyBytesMax + 1;
  EXPECT_EQ(decode_header(encode(big)).status().code(), StatusCode::kInvalidArgument);
  big = kGolden;
  big.payload_bytes = 0xFFFFFFFF;
  EXPECT_EQ(decode_header(encode(big)).status().code(), StatusCode::kInvalidArgument);
  bytes = encode(kGolden);
  bytes[0] = std::byte{0};
  EXPECT_EQ(decode_header(bytes).status().code(), StatusCode::kDataLoss);
}

TEST(WireFormat, HelloRoundTripsAndIsChecked) {
  Hello hello;
  for (size_t i = 0; i < 16; ++i) hello.secret[i] = static_cast<std::byte>(i);
  hello.connection = 3;
  hello.connections = 4;
  const std::array<std::byte, kHelloBytes> bytes = encode(hello);
  EXPECT_EQ(hex(bytes), "000102030405060708090a0b0c0d0e0f0300000004000000");
  const StatusOr<Hello> back = decode_hello(bytes);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->secret, hello.secret);
  EXPECT_EQ(back->connection, 3u);
  EXPECT_EQ(back->connections, 4u);
  EXPECT_FALSE(decode_hello(std::span(bytes).first(23)).ok());
  for (const auto& [connection, connections] : std::vector<std::pair<uint32_t, uint32_t>>{
           {0, 0}, {1, 1}, {4, 4}, {0, 17}, {9, 0xFFFFFFFF}}) {
    hello.connection = connection;
    hello.connections = connections;
    EXPECT_FALSE(decode_hello(encode(hello)).ok()) << connection << " of " << connections;
  }
}

TEST(WireFormat, SpansHaveTheirGoldenBytes) {
  const std::vector<RemoteSpan> spans{{RegionId{1}, 2, 3},
                                      {RegionId{0x0102030405060708}, 16, 4096}};
  std::vector<std::byte> bytes(spans.size() * kRemoteSpanBytes);
  encode(spans, bytes);
  EXPECT_EQ(hex(bytes),
            "010000000000000002000000000000000300000000000000"
            "080706050403020110000000000000000010000000000000");
  std::vector<RemoteSpan> back(2);
  ASSERT_TRUE(decode_spans(bytes, back, 4099).ok());
  EXPECT_EQ(back, spans);
}

TEST(WireFormat, HostileSpansAreRefused) {
  const auto refused = [](const RemoteSpan& span, uint64_t total) {
    std::vector<std::byte> bytes(kRemoteSpanBytes);
    encode(std::span(&span, 1), bytes);
    RemoteSpan back;
    return !decode_spans(bytes, std::span(&back, 1), total).ok();
  };
  EXPECT_FALSE(refused({RegionId{1}, 0, 8}, 8));
  EXPECT_TRUE(refused({RegionId{1}, 0, 0}, 0));
  EXPECT_TRUE(refused({RegionId{1}, 0, 8}, 7));
  EXPECT_TRUE(refused({RegionId{1}, 0, 8}, 9));
  EXPECT_TRUE(refused({RegionId{1}, UINT64_MAX - 3, 8}, 8));
  EXPECT_TRUE(refused({RegionId{1}, 8, UINT64_MAX}, UINT64_MAX));
  // Two lengths whose sum wraps around to the total.
  const std::vector<RemoteSpan> wrapping{{RegionId{1}, 0, UINT64_MAX - 7}, {RegionId{1}, 0, 16}};
  std::vector<std::byte> bytes(2 * kRemoteSpanBytes);
  encode(wrapping, bytes);
  std::vector<RemoteSpan> back(2);
  EXPECT_FALSE(decode_spans(bytes, back, 8).ok());
  EXPECT_FALSE(decode_spans(std::span(bytes).first(47), back, 8).ok());
}

TEST(WireFormat, RandomBytesNeverPass) {
  constexpr uint64_t kSeed = 11;
  Prng prng(kSeed);
  for (int i = 0; i < 20'000; ++i) {
    FrameHeaderBytes bytes;
    prng.fill(bytes);
    if (prng.chance(50)) std::memcpy(bytes.data(), "TRRC\x01\x04", 6);
    ASSERT_FALSE(decode_header(bytes).ok()) << "seed " << kSeed << " round " << i;
  }
}
}  // namespace
}  // namespace terrace
