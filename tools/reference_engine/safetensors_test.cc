// Goal: tensors of all three types are read exactly, and no file, however wrong, is more than an
// error. Method: every 16-bit float against ldexp; headers by hand; random damage from a seed.
#include "tools/reference_engine/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/bytes.h"
#include "base/prng.h"
#include "tools/reference_engine/testing.h"

namespace terrace {
namespace {
using testing::safetensors_bytes;

std::string entry(const std::string& type, const std::string& shape, const std::string& offsets) {
  return "{\"t\": {\"dtype\": " + type + ", \"shape\": " + shape +
         ", \"data_offsets\": " + offsets + "}}";
}

TEST(Safetensors, EveryHalfWidensExactly) {
  ByteWriter bytes;
  for (uint32_t half = 0; half <= 0xFFFF; ++half) bytes.u16(static_cast<uint16_t>(half));
  const std::string halves = bytes.take();
  std::vector<float> f16(0x10000), bf16(0x10000);
  widen_f16(halves, f16);
  widen_bf16(halves, bf16);
  for (uint32_t half = 0; half <= 0xFFFF; ++half) {
    const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
    const int exponent = static_cast<int>((half >> 10) & 0x1F);
    const double fraction = (half & 0x3FF) / 1024.0;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(f16[half]), fraction > 0) << half;
      EXPECT_EQ(std::isinf(f16[half]), fraction == 0) << half;
    } else {
      const double expected =
          exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
      EXPECT_EQ(f16[half], sign * expected) << half;
    }
    EXPECT_EQ(std::signbit(f16[half]), sign < 0) << half;
    const int wide = static_cast<int>((half >> 7) & 0xFF);
    if (wide == 0 || wide == 255) continue;
    EXPECT_EQ(bf16[half], sign * std::ldexp(1.0 + (half & 0x7F) / 128.0, wide - 127)) << half;
  }
}

TEST(Safetensors, HostileHeadersAreErrors) {
  const std::string data(16, '\0');
  const std::string good = entry("\"F32\"", "[2, 2]", "[0, 16]");
  ASSERT_TRUE(parse_safetensors(safetensors_bytes(good, data)).ok());
  const std::string headers[] = {
      "",
      "[]",
      "{\"t\": 3}",
      "{\"t\": {}}",
      std::string(1 << 20, '['),
      "{\"t\": " + std::string(1 << 16, '{'),
      entry("\"F32\"", "[2, 2]", "[0, 17]"),
      entry("\"F32\"", "[2, 2]", "[8, 24]"),
      entry("\"F32\"", "[2, 2]", "[16, 0]"),
      entry("\"F32\"", "[2, 2]", "[-16, 0]"),
      entry("\"F32\"", "[2, 2]", "[0]"),
      entry("\"F32\"", "[2, 2]", "[0, 18446744073709551615]"),
      entry("\"F32\"", "[2, 2]", "[18446744073709551600, 18446744073709551615]"),
      entry("\"F32\"", "[4611686018427387904, 4]", "[0, 0]"),
      entry("\"F32\"", "[4611686018427387905, 4]", "[0, 16]"),
      entry("\"F32\"", "[1, 1, 1, 1, 1, 1, 1, 1, 4]", "[0, 16]"),
      entry("\"F32\"", "[2.0, 2]", "[0, 16]"),
      entry("\"F32\"", "\"four\"", "[0, 16]"),
      entry("\"BF16\"", "[2, 2]", "[0, 16]"),
      entry("7", "[2, 2]", "[0, 16]"),
  };
  for (const std::string& header : headers) {
    const auto parsed = parse_safetensors(safetensors_bytes(header, data));
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << header.substr(0, 100);
  }
  ByteWriter huge;
  huge.u64(~uint64_t{0});
  for (const std::string& file : {std::string(), std::string(7, 'x'), huge.take()}) {
    EXPECT_EQ(parse_safetensors(file).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(Safetensors, DamageIsAnErrorOrAFileThatHoldsTogether) {
  const std::string file = safetensors_bytes(
      "{\"a\": {\"dtype\": \"F16\", \"shape\": [4], \"data_offsets\": [0, 8]}, \"b\": {\"dtype\": "
      "\"I64\", \"shape\": [1], \"data_offsets\": [8, 16]}}",
      std::string(16, 'x'));
  constexpr uint64_t kSeed = 11;
  Prng prng(kSeed);
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = file.substr(0, prng.chance(20) ? prng.below(file.size()) : file.size());
    for (uint64_t flips = prng.below(4); flips > 0 && !damaged.empty(); --flips) {
      damaged[prng.below(damaged.size())] = static_cast<char>(prng.below(256));
    }
    const auto parsed = parse_safetensors(damaged);
    if (!parsed.ok()) continue;
    for (const auto& [name, info] : *parsed) {
      EXPECT_LE(info.begin, info.end) << "seed " << kSeed << " round " << round;
      EXPECT_LE(info.end, damaged.size()) << "seed " << kSeed << " round " << round;
    }
  }
}

TEST(Checkpoint, ShapesTypesAndNamesAreChecked) {
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(Checkpoint::open(directory.path()).status().code(), StatusCode::kNotFound);
  directory.write("model.safetensors", "");
  EXPECT_EQ(Checkpoint::open(directory.path()).status().code(), StatusCode::kInvalidArgument);
  directory.write("model.safetensors",
                  safetensors_bytes("{\"a\": {\"dtype\": \"F16\", \"shape\": [1, 2], "
                                    "\"data_offsets\": [0, 4]}, \"b\": {\"dtype\": \"I64\", "
                                    "\"shape\": [0], \"data_offsets\": [4, 4]}}",
                                    std::string("\x00\x3c\x00\xc0", 4)));
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().to_string();
  const uint64_t shape[] = {1, 2};
  const uint64_t other[] = {2, 1};
  const uint64_t none[] = {0};
  const auto read = checkpoint->read("a", shape);
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_EQ(read->data()[0], 1.0f);
  EXPECT_EQ(read->data()[1], -2.0f);
  EXPECT_EQ(checkpoint->read("a", other).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(checkpoint->read("b", none).status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(checkpoint->read("c", shape).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(checkpoint->digest().size(), 64u);
}

TEST(Checkpoint, AnIndexNamesFilesOfItsOwnDirectoryOnly) {
  for (const std::string& index :
       {std::string("{}"), std::string("{\"weight_map\": {\"a\": \"../x\"}}"),
        std::string("{\"weight_map\": {\"a\": 1}}"), std::string("{\"weight_map\": {}}"),
        std::string("{\"weight_map\": {\"a\": \"\"}}"), std::string("nothing")}) {
    const testing::TemporaryDirectory directory;
    directory.write("model.safetensors.index.json", index);
    EXPECT_EQ(Checkpoint::open(directory.path()).status().code(), StatusCode::kInvalidArgument)
        << index;
  }
}
}  // namespace
}  // namespace terrace
