// Goal: device memory holds second copies of what is used, serves them with every byte right, and
// costs nothing but itself when its copies fail, hang, or rot.
// Method: a store on the simulated device, file system and accelerator; every object read is
// compared byte for byte; random work from seeds, with a canary that must be seen.
#include <gtest/gtest.h>

#include "storage/chunk_store.h"
#include "storage/tier_pass.h"
#include "tests/sim/hbm_fixture.h"

namespace terrace {
namespace {
using testing::SimAccelerator;
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;
constexpr auto kHbm = static_cast<size_t>(Tier::hbm);
constexpr auto kNvme = static_cast<size_t>(Tier::nvme);

class HbmTierTest : public testing::HbmFixture {
 protected:
  HbmTierTest() { EXPECT_TRUE(world_->start().ok()); }
  ~HbmTierTest() override {
    if (world_->store != nullptr && sim_->waiting() > 0) sim_->release();
  }
  bool in_hbm(const TestObject& object) const { return is_in(Tier::hbm, object); }
  /// An object in hbm and nvme, not in dram any more.
  void put_in_hbm_only(const TestObject& object) {
    put_and_use(object);
    ASSERT_TRUE(in_hbm(object));
    sink(object);
  }
  Status get(const TestObject& object, Tier* tier) { return world_->driver->get(object, tier); }
};

TEST_F(HbmTierTest, what_is_used_is_served_from_device_memory_once_dram_dropped_it) {
  const TestObject object(1, {70'000, 1, 200'000});
  put_in_hbm_only(object);
  const uint64_t from_nvme = metrics().reads[kNvme].get();
  Tier tier = Tier::shared;
  EXPECT_TRUE(get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::hbm);
  EXPECT_EQ(metrics().reads[kNvme].get(), from_nvme);
  EXPECT_GT(metrics().reads[kHbm].get(), 0u);
}

TEST_F(HbmTierTest, a_put_alone_and_a_probe_bring_nothing_in) {
  const TestObject object(1);
  ASSERT_TRUE(world_->driver->put(object, Durability::memory).ok());
  EXPECT_TRUE(world_->store->find(ns(), object.key));
  turn(20);
  EXPECT_FALSE(in_hbm(object));
  EXPECT_EQ(metrics().writes[kHbm].get(), 0u);
}

TEST_F(HbmTierTest, an_erased_object_leaves_nothing_behind) {
  const TestObject object(1);
  ASSERT_TRUE(world_->driver->put(object, Durability::nvme).ok());
  use(object);
  ASSERT_TRUE(in_hbm(object));
  EXPECT_GT(world_->store->tier_use(Tier::hbm).used, 0u);
  EXPECT_TRUE(world_->driver->erase(object).ok());
  EXPECT_EQ(tiers_of(object), 0);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).used, 0u);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).objects, 0u);
}

TEST_F(HbmTierTest, an_object_erased_while_its_copy_comes_does_not_come) {
  const TestObject object(1);
  ASSERT_TRUE(world_->driver->put(object, Durability::memory).ok());
  world_->store->touch(ns(), {&object.key, 1});
  EXPECT_TRUE(world_->driver->erase(object).ok());
  turn(50);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).used, 0u);
  EXPECT_EQ(metrics().writes[kHbm].get(), 0u);
}

TEST_F(HbmTierTest, another_size_drops_the_copies_and_nothing_else) {
  const auto resize = [this](uint64_t bytes) -> Status {
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::hbm;
    pass->target = bytes;
    TERRACE_RETURN_IF_ERROR(world_->store->resize(pass));
    EXPECT_TRUE(world_->driver->until([&] { return pass->over; }));
    EXPECT_EQ(pass->bytes, world_->store->tier_use(Tier::hbm).capacity);
    return pass->result;
  };
  const TestObject object(1, {70'000});
  put_in_hbm_only(object);
  world_->store->touch(ns(), {&object.key, 1});
  EXPECT_TRUE(resize(8 * kMiB + 5).ok());
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).capacity, 8 * kMiB);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).used, 0u);
  Tier tier = Tier::shared;
  EXPECT_TRUE(get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::nvme);
  EXPECT_EQ(resize(kMiB - 1).code(), StatusCode::kInvalidArgument);
  const Status too_much = resize(100 * kMiB);
  EXPECT_EQ(too_much.code(), StatusCode::kResourceExhausted) << too_much.to_string();
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).capacity, 8 * kMiB) << "as before";
  const TestObject other(2, {70'000});
  ASSERT_TRUE(world_->driver->put(other, Durability::nvme).ok());
  use(other);
  EXPECT_TRUE(in_hbm(other)) << "copies come again";
}

TEST_F(HbmTierTest, a_resize_waits_for_copies_and_not_for_ever) {
  const TestObject object(1, {70'000});
  put_in_hbm_only(object);
  sim_->hang();
  ChunkReader reader;
  Waiting opened;
  ASSERT_TRUE(world_->store->open_reader(ns(), object.key, 1, &reader, &opened).ok());
  const auto pass = std::make_shared<ResizePass>();
  pass->tier = Tier::hbm;
  pass->target = 8 * kMiB;
  ASSERT_TRUE(world_->store->resize(pass).ok());
  EXPECT_EQ(world_->store->resize(std::make_shared<ResizePass>(*pass)).code(),
            StatusCode::kResourceExhausted);
  turn(10);
  EXPECT_FALSE(pass->over);
  ASSERT_TRUE(world_->driver->until([&] { return pass->over; }));
  EXPECT_EQ(pass->result.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(world_->driver->wait(&opened).ok()) << "from nvme";
}

TEST_F(HbmTierTest, a_flipped_bit_costs_the_copy_and_never_a_byte) {
  for (const size_t at : {size_t{100}, size_t{4096 + 5}, size_t{8000}}) {  // header, data
    make_world();
    ASSERT_TRUE(world_->start().ok());
    const TestObject object(1, {30'000});
    put_in_hbm_only(object);
    sim_->memory()[at] ^= std::byte{4};  // it came first, so it lies first
    Tier tier = Tier::shared;
    EXPECT_TRUE(get(object, &tier).ok()) << at;
    EXPECT_EQ(tier, Tier::nvme) << at;
    EXPECT_EQ(metrics().crc_failures_hbm.get(), 1u) << at;
    EXPECT_EQ(metrics().crc_failures_nvme.get(), 0u) << at;
    EXPECT_EQ(tiers_of(object), mask_of(Tier::nvme)) << at;
    EXPECT_GT(world_->store->tier_use(Tier::hbm).used, 0u) << "its place is used again";
  }
}

TEST_F(HbmTierTest, a_failing_device_is_given_up_and_costs_no_read) {
  const TestObject object(1, {300'000});
  put_in_hbm_only(object);
  sim_->fail(100);
  for (int i = 0; i < 5; ++i) {
    Tier tier = Tier::shared;
    EXPECT_TRUE(get(object, &tier).ok());
    EXPECT_EQ(tier, Tier::nvme);
    const TestObject other(50 + static_cast<uint64_t>(i));
    EXPECT_TRUE(world_->driver->put(other, Durability::memory).ok());
    use(other);
    EXPECT_FALSE(in_hbm(other));
  }
  EXPECT_EQ(metrics().hbm_errors.get(), 3u) << "asked on and on";
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).objects, 0u);
}

TEST_F(HbmTierTest, a_hanging_device_costs_one_deadline_and_comes_back) {
  const TestObject object(1, {300'000});
  put_in_hbm_only(object);
  sim_->hang();
  Tier tier = Tier::shared;
  EXPECT_TRUE(get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::nvme);
  EXPECT_FALSE(in_hbm(object));
  EXPECT_GT(sim_->waiting(), 0u);
  const Nanos before = world_->clock.now();
  EXPECT_TRUE(get(object, &tier).ok());
  EXPECT_LT(world_->clock.now() - before, seconds(1)) << "waited again";
  sim_->release();  // late bytes land in memory that rested
  turn(20);
  EXPECT_TRUE(get(object, &tier).ok());
  const TestObject other(2);
  ASSERT_TRUE(world_->driver->put(other, Durability::memory).ok());
  use(other);
  EXPECT_TRUE(in_hbm(other));
}

TEST_F(HbmTierTest, a_store_closes_and_goes_while_the_device_hangs) {
  const TestObject object(1, {300'000});
  put_in_hbm_only(object);
  sim_->hang();
  EXPECT_TRUE(get(object, nullptr).ok());
  EXPECT_GT(sim_->waiting(), 0u);
  world_->stop();
  sim_->release();  // writes into memory that nobody may have given back
  turn(5);
}

TEST_F(HbmTierTest, promotion_to_dram_copies_out_of_device_memory) {
  world_->stop();
  world_->config.promote_hits = 1;
  ASSERT_TRUE(world_->start().ok());
  const TestObject object(1, {300'000});
  put_in_hbm_only(object);
  const uint64_t from_nvme = metrics().reads[kNvme].get();
  ASSERT_TRUE(get(object, nullptr).ok());
  const TierMask all = mask_of(Tier::hbm) | mask_of(Tier::dram) | mask_of(Tier::nvme);
  EXPECT_TRUE(world_->driver->until([&] { return tiers_of(object) == all; }));
  EXPECT_EQ(metrics().reads[kNvme].get(), from_nvme);
  Tier tier = Tier::shared;
  EXPECT_TRUE(get(object, &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
}

TEST_F(HbmTierTest, a_promotion_out_of_rotten_device_memory_does_not_reach_dram) {
  world_->stop();
  world_->config.promote_hits = 1;
  ASSERT_TRUE(world_->start().ok());
  const TestObject object(1, {300'000});
  put_in_hbm_only(object);
  for (size_t at = 8192; at < sim_->memory().size(); ++at) sim_->memory()[at] ^= std::byte{1};
  Tier tier = Tier::shared;
  EXPECT_TRUE(get(object, &tier).ok());  // the units' damage is seen in the arena
  EXPECT_EQ(tier, Tier::nvme);
  EXPECT_EQ(metrics().crc_failures_hbm.get(), 1u);
  EXPECT_EQ(tiers_of(object), mask_of(Tier::nvme));
  EXPECT_EQ(metrics().promotions.get(), 0u);
  EXPECT_TRUE(get(object, nullptr).ok());
  EXPECT_EQ(tiers_of(object), mask_of(Tier::nvme) | mask_of(Tier::dram));
}

TEST_F(HbmTierTest, host_memory_is_expected_and_forgotten) {
  EXPECT_EQ(sim_->expected_bytes(), world_->config.dram_bytes + world_->config.staging_bytes);
}

TEST_F(HbmTierTest, sizes_that_do_not_fit_the_device_are_refused_in_words) {
  for (uint64_t n = 0; n < 3; ++n) {
    ASSERT_TRUE(world_->driver->put(TestObject(n), Durability::nvme).ok());
  }
  world_->stop();
  world_->config.hbm_bytes = kGiB;
  const Status refused = world_->start();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.to_string().find("hbm_bytes=1073741824"), std::string::npos);
  world_->config.hbm_bytes = 0;
  EXPECT_EQ(world_->start().code(), StatusCode::kInvalidArgument);
}

/// Puts, uses, gets and erases of more than all tiers hold, with failures now and then.
struct Outcome {
  uint64_t wrong = 0;
  uint64_t hbm_reads = 0;
  uint64_t evictions = 0;
  uint64_t damaged_seen = 0;
};
Outcome random_run(uint64_t seed, bool damage) {
  Prng prng(seed);
  StoreWorld world(seed);
  const auto sim = std::make_shared<SimAccelerator>(world.loop.get());
  world.accelerator = sim;
  world.config.hbm_bytes = 2 * kMiB;
  world.config.dram_bytes = kMiB;
  world.config.promote_hits = static_cast<uint32_t>(prng.below(2));
  EXPECT_TRUE(world.start().ok());
  Outcome run;
  for (int step = 0; step < 600; ++step) {
    const TestObject object(prng.below(60));
    const uint64_t what = prng.below(10);
    if (what < 4) {
      (void)world.driver->put(object, Durability::nvme);
    } else if (what < 9) {
      world.store->touch(world.driver->ns, {&object.key, 1});
      const Status got = world.driver->get(object);
      if (!got.ok() && got.code() != StatusCode::kNotFound) ++run.wrong;
    } else {
      (void)world.driver->erase(object);
    }
    if (prng.below(60) == 0) sim->fail(1);
    if (damage && prng.below(20) == 0) {
      for (size_t at = prng.below(4096); at < sim->memory().size(); at += 4096) {
        sim->memory()[at] ^= std::byte{1};
      }
    }
    const ChunkStore::TierUse use = world.store->tier_use(Tier::hbm);
    EXPECT_LE(use.used, use.capacity);
  }
  const StoreMetrics& m = world.store->metrics();
  run.hbm_reads = m.reads[kHbm].get();
  run.evictions = m.evictions[kHbm].get();
  run.damaged_seen = m.crc_failures_hbm.get();
  EXPECT_EQ(m.crc_failures_nvme.get(), 0u);
  return run;
}

TEST(HbmTierRandomTest, every_byte_is_right_whatever_the_device_does) {
  uint64_t reads = 0, evictions = 0, seen = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Outcome run = random_run(seed, seed % 2 == 0);
    EXPECT_EQ(run.wrong, 0u) << "seed " << seed;
    reads += run.hbm_reads;
    evictions += run.evictions;
    seen += run.damaged_seen;
    EXPECT_EQ(run.damaged_seen > 0 && seed % 2 == 1, false) << "seed " << seed;
  }
  EXPECT_GT(reads, 50u);
  EXPECT_GT(evictions, 10u);
  EXPECT_GT(seen, 5u) << "the canary: damage that no check saw";
}
}  // namespace
}  // namespace terrace
