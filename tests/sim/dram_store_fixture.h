// tests/sim/dram_store_fixture.h - a store without nvme, for tests: its time stands still but while
// somebody waits.
#pragma once
#include <gtest/gtest.h>

#include <memory>

#include "base/limits.h"
#include "storage/chunk_store.h"
#include "tests/sim/store_driver.h"

namespace terrace::testing {

class DramStoreTest : public ::testing::Test {
 protected:
  void open(uint64_t dram_bytes) {
    config_.dram_bytes = dram_bytes;
    config_.slab_bytes = 64 * kMiB;
    config_.populate_memory = false;
    if (loop_ == nullptr) loop_ = *Loop::create({.ring_entries = 64}, &clock_);
    StatusOr<std::unique_ptr<ChunkStore>> store =
        ChunkStore::open(config_, loop_.get(), {}, nullptr);
    ASSERT_TRUE(store.ok()) << store.status().to_string();
    store_ = std::move(*store);
    driver_ = std::make_unique<StoreDriver>(store_.get(), [this] {
      clock_.advance(milliseconds(1));
      loop_->turn(Nanos(0));
      return true;
    });
  }
  void TearDown() override {
    if (store_ != nullptr) {
      EXPECT_TRUE(driver_->close().ok());
    }
    driver_.reset();
    store_.reset();
  }
  uint64_t used() { return store_->tier_use(Tier::dram).used; }

  ManualClock clock_;
  StoreConfig config_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<ChunkStore> store_;
  std::unique_ptr<StoreDriver> driver_;
};
}  // namespace terrace::testing
