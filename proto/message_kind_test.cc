// Goal: packed arrays survive the trip, and no length or count off the wire is believed.
// Method: round trips from seeds; every truncation; counts over their limits.
#include "proto/message_kind.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

TEST(PackedArrays, RoundTrips) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<Fragment> fragments(prng.below(20));
    for (Fragment& f : fragments) {
      f = {prng.below(kObjectBytesMax), RegionId{prng.next()}, prng.next(),
           1 + prng.below(kObjectBytesMax)};
    }
    ASSERT_EQ(*unpack_fragments(pack_fragments(fragments), 20), fragments);
    std::vector<PoolPlane> planes(prng.below(20));
    for (PoolPlane& p : planes) {
      p = {prng.below(kObjectBytesMax), RegionId{prng.next()}, prng.next(), prng.next(),
           1 + prng.below(kObjectBytesMax)};
    }
    ASSERT_EQ(*unpack_planes(pack_planes(planes), 20), planes);
    std::vector<SectionSpec> sections(prng.below(20));
    for (SectionSpec& s : sections) {
      s = {SectionKind::v_plane, Codec::identity, static_cast<uint16_t>(prng.below(99)),
           1 + prng.below(1 << 20)};
    }
    ASSERT_EQ(*unpack_sections(pack_sections(sections)), sections);
    std::vector<Delivery> deliveries(1 + prng.below(5));
    for (Delivery& d : deliveries) {
      d.item = static_cast<uint32_t>(prng.below(512));
      d.section = static_cast<uint32_t>(prng.below(64));
      d.offset = prng.below(1 << 24);
      d.object_offset = prng.below(1 << 24);
      d.bytes = static_cast<uint32_t>(1 + prng.below(kFramePayloadBytesMax));
      d.tier = static_cast<Tier>(prng.below(kTierCount));
      d.crcs.resize(units_touched(d.offset, d.bytes));
      for (uint32_t& crc : d.crcs) crc = static_cast<uint32_t>(prng.next());
    }
    const std::string packed = pack_deliveries(deliveries);
    ASSERT_EQ(*unpack_deliveries(packed), deliveries);
    ASSERT_FALSE(unpack_deliveries(packed.substr(0, prng.below(packed.size()))).ok());
    ASSERT_FALSE(unpack_deliveries(packed + "x").ok());
  }
}

TEST(PackedArrays, InfosAndKeys) {
  std::string packed;
  const WireInfo info{StatusCode::kOk, mask_of(Tier::nvme), 64, 120, uint64_t{1} << 25, 7};
  pack_info(info, &packed);
  pack_info({}, &packed);
  const auto infos = unpack_infos(packed, 2);
  ASSERT_TRUE(infos.ok());
  EXPECT_EQ((*infos)[0], info);
  EXPECT_EQ((*infos)[1], WireInfo{});
  EXPECT_EQ(unpack_infos(packed, 1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(unpack_infos(packed.substr(1), 2).status().code(), StatusCode::kInvalidArgument);
  std::vector<ChunkKey> keys(3);
  keys[1].digest[5] = std::byte{9};
  const std::string bytes = pack_keys(keys);
  EXPECT_EQ((*view_keys(bytes, 3))[1], keys[1]);
  EXPECT_FALSE(view_keys(bytes, 2).ok());
  EXPECT_FALSE(view_keys(bytes.substr(1), 3).ok());
}

TEST(PackedArrays, LiesAreRefused) {
  const auto one_section = [](uint64_t bytes) {
    return pack_sections(std::vector<SectionSpec>{{SectionKind::raw, Codec::identity, 0, bytes}});
  };
  EXPECT_TRUE(unpack_sections(one_section(kObjectBytesMax)).ok());
  EXPECT_FALSE(unpack_sections(one_section(0)).ok());
  EXPECT_FALSE(unpack_sections(one_section(kObjectBytesMax + 1)).ok());
  EXPECT_FALSE(unpack_sections(one_section(kObjectBytesMax) + one_section(1)).ok());
  std::string odd = one_section(1);
  odd[0] = 77;
  EXPECT_FALSE(unpack_sections(odd).ok());
  const std::vector<Fragment> zero = {{0, RegionId{1}, 0, 0}};
  EXPECT_FALSE(unpack_fragments(pack_fragments(zero), 1).ok());
  const PoolPlane empty_blocks{0, RegionId{1}, 0, 64, 0};
  EXPECT_FALSE(unpack_planes(pack_planes({&empty_blocks, 1}), 1).ok());
  const PoolPlane far{kObjectBytesMax + 1, RegionId{1}, 0, 64, 64};
  EXPECT_FALSE(unpack_planes(pack_planes({&far, 1}), 1).ok());
  EXPECT_EQ(units_touched(0, 65536), 1u);
  EXPECT_EQ(units_touched(65535, 2), 2u);
  EXPECT_EQ(units_touched(70000, 0), 0u);
}
}  // namespace
}  // namespace terrace
