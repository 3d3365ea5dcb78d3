// Goal: the byte order is the formats' own, and what is not there reads as zero and is told.
// Method: golden bytes; every truncation of them.
#include "base/bytes.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

std::string golden() {
  ByteWriter w;
  w.u8(0x01);
  w.u16(0x0302);
  w.u32(0x07060504);
  w.u64(0x0F0E0D0C0B0A0908);
  w.text("kv");
  return w.take();
}

TEST(Bytes, LittleEndianWithoutPadding) {
  const char expected[] =
      "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x02\0\0\0kv";
  EXPECT_EQ(golden(), std::string(expected, sizeof(expected) - 1));
}

TEST(Bytes, WhatIsCutOffReadsAsZero) {
  const std::string all = golden();
  for (size_t length = 0; length <= all.size(); ++length) {
    SCOPED_TRACE(length);
    ByteReader in(std::string_view(all).substr(0, length));
    EXPECT_EQ(in.u8(), length >= 1 ? 0x01 : 0);
    EXPECT_EQ(in.u16(), length >= 3 ? 0x0302 : 0);
    EXPECT_EQ(in.u32(), length >= 7 ? 0x07060504u : 0u);
    EXPECT_EQ(in.u64(), length >= 15 ? 0x0F0E0D0C0B0A0908u : 0u);
    EXPECT_EQ(in.text(16), length == all.size() ? "kv" : "");
    EXPECT_EQ(in.ok(), length == all.size());
    EXPECT_EQ(in.left(), 0u);
  }
}

TEST(Bytes, ATextOverItsBoundIsRefused) {
  const std::string all = golden();
  ByteReader in(std::string_view(all).substr(15));
  EXPECT_EQ(in.text(1), "");
  EXPECT_FALSE(in.ok());
}
}  // namespace
}  // namespace terrace
