// tests/sim/hbm_fixture.h - a store with an hbm tier on the simulated accelerator, which starts
// when a test starts it.
#pragma once
#include <gtest/gtest.h>

#include <memory>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace::testing {

class HbmFixture : public ::testing::Test {
 protected:
  explicit HbmFixture(uint64_t nvme_bytes = 48 * kMiB) { make_world(nvme_bytes); }
  void make_world(uint64_t nvme_bytes = 48 * kMiB) {
    world_ = std::make_unique<StoreWorld>(1, nvme_bytes);
    sim_ = std::make_shared<SimAccelerator>(world_->loop.get());
    world_->accelerator = sim_;
    world_->config.hbm_bytes = 4 * kMiB;
    world_->config.promote_hits = 0;  // what is asked for is asked of hbm
  }
  NamespaceId ns() const { return world_->driver->ns; }
  const StoreMetrics& metrics() const { return world_->store->metrics(); }
  TierMask tiers_of(const TestObject& object) const {
    const auto info = world_->store->find(ns(), object.key);
    return info ? info->tiers : TierMask(0);
  }
  bool is_in(Tier tier, const TestObject& object) const {
    return (tiers_of(object) & mask_of(tier)) != 0;
  }
  void turn(int turns) {
    while (turns-- > 0) world_->turn();
  }
  void use(const TestObject& object) {
    world_->store->touch(ns(), {&object.key, 1});
    turn(50);
  }
  void put_and_use(const TestObject& object) {
    ASSERT_TRUE(world_->driver->put(object, Durability::nvme).ok());
    use(object);
  }
  /// Others push it out of dram.
  void sink(const TestObject& object) {
    for (uint64_t n = 1000; n < 1200 && is_in(Tier::dram, object); ++n) {
      ASSERT_TRUE(world_->driver->put(TestObject(n, {400'000}), Durability::nvme).ok());
    }
    ASSERT_EQ(tiers_of(object), mask_of(Tier::hbm) | mask_of(Tier::nvme));
  }
  Status open(const TestObject& object, ChunkReader* reader) {
    Waiting opened;
    TERRACE_RETURN_IF_ERROR(world_->store->open_reader(ns(), object.key, 1, reader, &opened));
    return world_->driver->wait(&opened);
  }

  std::unique_ptr<StoreWorld> world_;
  std::shared_ptr<SimAccelerator> sim_;
};
}  // namespace terrace::testing
