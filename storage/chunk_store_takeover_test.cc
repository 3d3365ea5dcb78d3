// Goal: with a device that has registered the slabs, bytes stay right while slabs change hands:
// what is written back, read and promoted goes through the memory that is mapped now. Method: three
// tenants in turn flood a store over a real file, io_uring and registered buffers, so that each
// takes the slabs of the one before; everything is read back, from both tiers.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>
#include <string>

#include "base/limits.h"
#include "storage/chunk_store.h"
#include "storage/data_file.h"
#include "storage/uring_device.h"
#include "tests/sim/store_driver.h"

namespace terrace {
namespace {
using testing::StoreDriver;
using testing::TestObject;
constexpr uint64_t kObjects = 40;  // of a tenant; more than dram holds

class TakeoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/terrace_takeover_XXXXXX";
    config_.data_directory = mkdtemp(name);
    config_.dram_bytes = 16 * kMiB;
    config_.slab_bytes = 4 * kMiB;
    config_.nvme_bytes = 192 * kMiB;
    config_.staging_bytes = 4 * kMiB;
    config_.promote_hits = 1;
    loop_ = *Loop::create({.ring_entries = 256}, &clock_);
    DataFile::Options data;
    data.path = config_.data_paths().front();
    data.bytes = config_.nvme_bytes;
    file_ = std::move(*DataFile::open(data, Uuid{}));
    device_ = std::make_unique<UringDevice>(file_.get(), loop_.get(), DeviceOptions());
    MetadataStore::Options rows;
    rows.path = config_.metadata_path();
    metadata_ = std::move(*MetadataStore::open(rows, loop_.get()));
    StatusOr<std::unique_ptr<ChunkStore>> store =
        ChunkStore::open(config_, loop_.get(), {{device_.get(), 0, {}}}, metadata_.get());
    ASSERT_TRUE(store.ok()) << store.status().to_string();
    store_ = std::move(*store);
    driver_ = std::make_unique<StoreDriver>(store_.get(), [this] {
      clock_.advance(microseconds(200));
      loop_->turn(milliseconds(1));
      return true;
    });
    store_->on_slab_memory([this](uint32_t slab, std::span<std::byte>, bool present) {
      if (present) present_.insert(slab);
      if (!present) present_.erase(slab);
    });
    ASSERT_TRUE(driver_->until([this] { return present_.size() == 4; }));
    for (int i = 0; i < 20; ++i) loop_->turn(milliseconds(1));  // registered with the device
  }
  void TearDown() override {
    EXPECT_TRUE(driver_->close().ok());
    driver_.reset();
    store_.reset();
    metadata_.reset();
    device_.reset();
    std::filesystem::remove_all(config_.data_directory);
  }
  TestObject object_of(uint32_t tenant, uint64_t n) const {
    return TestObject(tenant * 1000 + n, {250'000 + n * 5000});
  }
  void put(uint32_t tenant, uint64_t n) {
    driver_->ns = NamespaceId{tenant};
    Status status = driver_->put(object_of(tenant, n), Durability::nvme);
    for (int i = 0; status.code() == StatusCode::kResourceExhausted && i < 500; ++i) {
      for (int turns = 0; turns < 10; ++turns) {
        clock_.advance(microseconds(500));
        loop_->turn(milliseconds(1));
      }
      status = driver_->put(object_of(tenant, n), Durability::nvme);
    }
    ASSERT_TRUE(status.ok() || status.code() == StatusCode::kAlreadyExists) << status.to_string();
  }

  ManualClock clock_;
  StoreConfig config_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<DataFile> file_;
  std::unique_ptr<UringDevice> device_;
  std::unique_ptr<MetadataStore> metadata_;
  std::unique_ptr<ChunkStore> store_;
  std::unique_ptr<StoreDriver> driver_;
  std::set<uint32_t> present_;
};

TEST_F(TakeoverTest, bytes_stay_right_while_slabs_change_hands) {
  for (uint32_t tenant = 1; tenant <= 3; ++tenant) {
    store_->assign_domain(NamespaceId{tenant}, DomainId{tenant});
  }
  EXPECT_EQ(store_->staging_memory().size(), config_.staging_bytes);
  uint64_t from_dram = 0;
  for (uint32_t round = 0; round < 6; ++round) {
    const uint32_t tenant = 1 + round % 3;
    clock_.advance(seconds(11));  // the others rest
    for (uint64_t n = 0; n < kObjects; ++n) put(tenant, n);
    driver_->ns = NamespaceId{tenant};
    for (uint64_t n = 0; n < 2 * kObjects; ++n) {  // from nvme, promoted, and again
      Tier tier = Tier::hbm;
      ASSERT_EQ(driver_->get(object_of(tenant, kObjects - 1 - n / 2), &tier).to_string(), "OK")
          << "round " << round << " object " << n;
      if (tier == Tier::dram) ++from_dram;
      for (int i = 0; i < 5; ++i) loop_->turn(milliseconds(1));
    }
  }
  EXPECT_GT(from_dram, 0u);
  EXPECT_GT(store_->metrics().promotions.get(), 50u);
  EXPECT_GE(store_->metrics().slabs_replaced.get(), 12u);
  EXPECT_EQ(store_->metrics().slab_moves_given_up.get(), 0u);
  EXPECT_EQ(store_->metrics().quarantined_objects.get(), 0u);
  EXPECT_GT(device_->metrics().writes.get(), 100u);
  EXPECT_LT(device_->metrics().unregistered.get(), device_->metrics().writes.get())
      << "registered buffers were used";
  for (uint32_t tenant = 1; tenant <= 3; ++tenant) {
    driver_->ns = NamespaceId{tenant};
    for (uint64_t n = 0; n < kObjects; ++n) {
      ASSERT_EQ(driver_->get(object_of(tenant, n)).to_string(), "OK") << tenant << " " << n;
    }
  }
}
}  // namespace
}  // namespace terrace
