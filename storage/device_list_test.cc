// Goal: which devices a data directory has is remembered exactly, and a damaged list is never
// believed. Method: golden bytes, every bit flip and truncation, contradictions with a good
// checksum.
#include "storage/device_list.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace terrace {
namespace {

DeviceList example() {
  DeviceList list;
  list.next_place = 5;
  for (const uint16_t place : {uint16_t{0}, uint16_t{4}}) {
    DeviceRecord record;
    record.place = place;
    record.device.fill(std::byte{0xA0});
    record.path = "/disk" + std::to_string(place);
    list.devices.push_back(record);
  }
  return list;
}

std::string sealed(std::string body) {
  ByteWriter crc;
  crc.u32(crc32c(body));
  return body + crc.take();
}

TEST(DeviceListTest, golden_bytes) {
  const std::string bytes = encode_device_list(example());
  ASSERT_EQ(bytes.size(), 18 + 4 + 2 * (2 + 16 + 4 + 6) + 4u);
  EXPECT_EQ(bytes.substr(0, 24), std::string("terrace devices 1\n\x05\0\x02\0\0\0", 24));
  const auto back = decode_device_list(bytes);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, example());
}

TEST(DeviceListTest, damage_is_seen) {
  const std::string bytes = encode_device_list(example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(decode_device_list(bad).status().code(), StatusCode::kDataLoss) << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_device_list(bytes.substr(0, size)).ok()) << size;
  }
}

TEST(DeviceListTest, contradictions_are_refused) {
  for (const bool twice : {true, false}) {
    DeviceList list = example();
    list.devices[1].place = twice ? uint16_t{0} : uint16_t{5};  // the latter was never given out
    EXPECT_EQ(decode_device_list(encode_device_list(list)).status().code(), StatusCode::kDataLoss);
  }
  const std::string good = encode_device_list(example());
  std::string many = good.substr(0, good.size() - 4);
  many[20] = static_cast<char>(17);
  EXPECT_FALSE(decode_device_list(sealed(many)).ok());
  many[20] = 3;
  EXPECT_FALSE(decode_device_list(sealed(many)).ok()) << "a record less than it says";
}
}  // namespace
}  // namespace terrace
