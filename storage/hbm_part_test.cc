// Goal: an object that device memory has no room for has its first sections there; they are served
// from it and the rest from nvme, every byte right, and nothing takes the part for the whole.
// Method: a store on the simulated accelerator, objects larger than the tier.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "storage/explanation.h"
#include "tests/sim/hbm_fixture.h"

namespace terrace {
namespace {
using testing::TestObject;
constexpr auto kHbm = static_cast<size_t>(Tier::hbm);
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

class HbmPartTest : public testing::HbmFixture {
 protected:
  HbmPartTest() : HbmFixture(256 * kMiB) {
    world_->config.dram_bytes = 32 * kMiB;
    world_->config.slab_bytes = 32 * kMiB;
  }
  static TestObject large() { return TestObject(1, std::vector<uint64_t>(6, kMiB)); }
  void start() { ASSERT_TRUE(world_->start().ok()); }
  uint64_t hbm_bytes_of(const TestObject& object) const {
    for (const Explanation::Copy& copy : world_->store->explain(ns(), object.key).copies) {
      if (copy.tier == Tier::hbm) return copy.bytes;
    }
    return 0;
  }
};

TEST_F(HbmPartTest, the_first_sections_come_from_device_memory_and_the_rest_from_nvme) {
  start();
  put_and_use(large());
  EXPECT_GE(hbm_bytes_of(large()), 3 * kMiB);
  EXPECT_LE(hbm_bytes_of(large()), 4 * kMiB);
  sink(large());
  const uint64_t from_hbm = metrics().read_bytes[kHbm].get();
  const uint64_t from_nvme = metrics().read_bytes[kNvme].get();
  EXPECT_TRUE(world_->driver->get(large()).ok());
  EXPECT_GE(metrics().read_bytes[kHbm].get() - from_hbm, 3 * kMiB);
  EXPECT_GE(metrics().read_bytes[kNvme].get() - from_nvme, 3 * kMiB);
  EXPECT_LT(metrics().read_bytes[kNvme].get() - from_nvme, 4 * kMiB);
}

TEST_F(HbmPartTest, a_flipped_bit_costs_the_part_and_never_a_byte) {
  start();
  put_and_use(large());
  sink(large());
  for (size_t at = 2 * kMiB; at < sim_->memory().size(); ++at) sim_->memory()[at] ^= std::byte{8};
  EXPECT_EQ(world_->driver->get(large()).code(), StatusCode::kOk);
  EXPECT_EQ(metrics().crc_failures_hbm.get(), 1u);
  EXPECT_EQ(tiers_of(large()), mask_of(Tier::nvme));
}

TEST_F(HbmPartTest, what_needs_the_whole_does_not_take_the_part_for_it) {
  world_->config.promote_hits = 1;
  start();
  world_->store->keep_hbm_for(own_domain_of(ns()));
  put_and_use(large());
  sink(large());
  {
    ChunkReader reader;
    ASSERT_TRUE(open(large(), &reader).ok());
    const Status shown = world_->store->device_view(reader).status();
    EXPECT_EQ(shown.code(), StatusCode::kFailedPrecondition);
    EXPECT_NE(shown.message().find("first sections"), std::string::npos);
  }
  EXPECT_TRUE(world_->driver->get(large()).ok());  // read whole, so it comes back into dram
  EXPECT_TRUE(world_->driver->until([&] { return is_in(Tier::dram, large()); }));
  Tier tier = Tier::shared;
  EXPECT_TRUE(world_->driver->get(large(), &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
}

TEST_F(HbmPartTest, a_small_part_is_no_help_and_is_not_made) {
  start();
  const TestObject object(1, {100'000, 5 * kMiB});
  put_and_use(object);
  EXPECT_EQ(hbm_bytes_of(object), 0u);
  EXPECT_EQ(metrics().hbm_unworthy.get(), 1u);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).used, 0u);
}
}  // namespace
}  // namespace terrace
