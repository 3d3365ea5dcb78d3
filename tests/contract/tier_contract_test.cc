// Goal: every tier keeps the same promises - its space adds up, what lies there comes back byte for
// byte, damage costs the copy and never a byte, a medium that fails or hangs costs itself - so that
// nothing above needs to know which tier it talks to.
// Method: one suite over hbm, dram, nvme and shared, each behind the store's front door on
// simulated media (shared: two nodes on a real directory whose calls fail and hang); a canary whose
// damage no tier may miss.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "storage/chunk_store.h"
#include "tests/sim/shared_nodes.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::SimAccelerator;
using testing::StoreDriver;
using testing::StoreWorld;
using testing::TestNode;
using testing::TestObject;
using testing::Waiting;

/// A store, and how to bring an object into the tier under test and to trouble that tier.
class TierWorld {
 public:
  virtual ~TierWorld() = default;
  virtual ChunkStore& store() = 0;  // that reads
  virtual StoreDriver& driver() = 0;
  /// Afterwards the tier serves it.
  virtual Status bring(const TestObject& object) = 0;
  /// One bit of the first section of the only object there; the copy that the tier has.
  virtual void flip(const TestObject& object) = 0;
  virtual void fail(bool on) = 0;
  virtual void hang(bool on) = 0;
  /// Memory does neither.
  virtual bool has_a_device() const { return true; }
  virtual Tier tier() const = 0;

  bool holds(const TestObject& object) {
    const auto info = store().find(driver().ns, object.key);
    return info && (info->tiers & mask_of(tier())) != 0;
  }
  ChunkStore::TierUse use() { return store().tier_use(tier()); }
};

class SimTierWorld : public TierWorld {
 public:
  SimTierWorld() : world_(1) {
    world_.config.promote_hits = 0;
    world_.config.device_timeout = seconds(5);
  }
  ChunkStore& store() override { return *world_.store; }
  StoreDriver& driver() override { return *world_.driver; }

 protected:
  void start() { EXPECT_TRUE(world_.start().ok()); }
  Status put(const TestObject& object, Durability durability) {
    const Status status = world_.driver->put(object, durability);
    return status.code() == StatusCode::kAlreadyExists ? ok_status() : status;
  }
  bool in_dram(const TestObject& object) {
    const auto info = store().find(driver().ns, object.key);
    return info && (info->tiers & mask_of(Tier::dram)) != 0;
  }
  /// Fillers take its place.
  Status push_out_of_dram(const TestObject& object) {
    for (int n = 0; n < 200 && in_dram(object); ++n) {
      TERRACE_RETURN_IF_ERROR(put(TestObject(next_filler_++, {400'000}), Durability::nvme));
    }
    return in_dram(object) ? error(StatusCode::kInternal, "still in dram") : ok_status();
  }
  StoreWorld world_;
  uint64_t next_filler_ = 100'000;
};

class DramWorld final : public SimTierWorld {
 public:
  DramWorld() {
    world_.config.scrub_period = seconds(1);  // rot of memory is the scrubber's to find
    world_.config.write_through = false;
    start();
  }
  Tier tier() const override { return Tier::dram; }
  bool has_a_device() const override { return false; }
  Status bring(const TestObject& object) override { return put(object, Durability::memory); }
  void flip(const TestObject& object) override {
    {
      ChunkReader reader;
      Waiting opened;
      ASSERT_TRUE(store().open_reader(driver().ns, object.key, 1, &reader, &opened).ok());
      ASSERT_TRUE(driver().wait(&opened).ok());
      std::vector<iovec> memory;
      ASSERT_TRUE(store().resident(reader, 0, &memory));
      static_cast<std::byte*>(memory[0].iov_base)[0] ^= std::byte{1};
    }
    EXPECT_TRUE(driver().until([&] { return !in_dram(object); }));
  }
  void fail(bool) override {}
  void hang(bool) override {}
};

class NvmeWorld final : public SimTierWorld {
 public:
  NvmeWorld() { start(); }
  Tier tier() const override { return Tier::nvme; }
  Status bring(const TestObject& object) override {
    TERRACE_RETURN_IF_ERROR(put(object, Durability::nvme));
    return push_out_of_dram(object);
  }
  void flip(const TestObject&) override {
    world_.device.flip_bit(kMiB + 4096 + 100, 2);  // behind the first object's header
  }
  void fail(bool on) override {
    if (on) world_.device.fail(0, error(StatusCode::kUnavailable, "bus error"), true);
    if (!on) world_.device.heal();
  }
  void hang(bool on) override {
    if (on) world_.device.hang();
    if (!on) world_.device.let_go();
  }
};

class HbmWorld final : public SimTierWorld {
 public:
  HbmWorld() : sim_(std::make_shared<SimAccelerator>(world_.loop.get())) {
    world_.accelerator = sim_;
    world_.config.hbm_bytes = 4 * kMiB;
    start();
  }
  Tier tier() const override { return Tier::hbm; }
  Status bring(const TestObject& object) override {
    TERRACE_RETURN_IF_ERROR(put(object, Durability::nvme));
    store().touch(driver().ns, {&object.key, 1});
    driver().until([&, turns = 0]() mutable { return ++turns > 30 || holds(object); });
    return push_out_of_dram(object);
  }
  void flip(const TestObject&) override { sim_->memory()[4096 + 100] ^= std::byte{4}; }
  void fail(bool on) override { sim_->fail(on ? 1 : 0); }
  void hang(bool on) override { on ? sim_->hang() : sim_->release(); }

 private:
  std::shared_ptr<SimAccelerator> sim_;
};

class SharedWorld final : public TierWorld, public testing::SharedNodesTest {
 public:
  SharedWorld() : writer_(node()), reader_(node()) {}
  void TestBody() override {}
  ChunkStore& store() override { return *reader_.store; }
  StoreDriver& driver() override { return *reader_.driver; }
  Tier tier() const override { return Tier::shared; }
  Status bring(const TestObject& object) override {
    TERRACE_RETURN_IF_ERROR(writer_.driver->put(object, Durability::shared));
    return knows(reader_, object) ? ok_status() : error(StatusCode::kInternal, "never heard of");
  }
  void flip(const TestObject&) override {
    std::fstream stored(file(), std::ios::in | std::ios::out | std::ios::binary);
    stored.seekg(100'000);  // in the first section
    const auto byte = static_cast<char>(stored.get() ^ 1);
    stored.seekp(100'000);
    stored.put(byte);
  }
  void fail(bool on) override {
    if (on) reader_.faults->fail(0, EIO, true);
    if (!on) reader_.faults->reset();
  }
  void hang(bool on) override { reader_.faults->set_hang(on); }

 private:
  TestNode& writer_;
  TestNode& reader_;
};

std::unique_ptr<TierWorld> make_world(Tier tier) {
  switch (tier) {
    case Tier::hbm:
      return std::make_unique<HbmWorld>();
    case Tier::dram:
      return std::make_unique<DramWorld>();
    case Tier::nvme:
      return std::make_unique<NvmeWorld>();
    case Tier::shared:
      return std::make_unique<SharedWorld>();
  }
  return nullptr;
}

class TierContract : public ::testing::TestWithParam<Tier> {
 protected:
  std::unique_ptr<TierWorld> world_ = make_world(GetParam());
  const TestObject object_{1, {200'000, 70'000}};
  Status get(const TestObject& object, Tier* tier = nullptr) {
    return world_->driver().get(object, tier);
  }
};

TEST_P(TierContract, what_lies_there_comes_back_byte_for_byte_whatever_its_size) {
  const std::vector<std::vector<uint64_t>> sizes = {{1},      {4095, 1},   {4096},
                                                    {65'536}, {65'537, 3}, {kMiB + 1}};
  for (uint64_t n = 0; n < sizes.size(); ++n) {
    const TestObject object(n + 1, sizes[n]);
    ASSERT_TRUE(world_->bring(object).ok()) << n;
    ASSERT_TRUE(world_->holds(object)) << n;
    Tier tier{};
    ASSERT_EQ(get(object, &tier).to_string(), ok_status().to_string()) << n;
    EXPECT_EQ(tier, GetParam()) << n;
  }
}

TEST_P(TierContract, space_adds_up_and_comes_back) {
  const uint64_t before = world_->use().used;
  ASSERT_TRUE(world_->bring(object_).ok());
  const ChunkStore::TierUse use = world_->use();
  EXPECT_LE(use.used, use.capacity);
  EXPECT_GT(use.objects, 0u);
  const bool counts_blocks = GetParam() != Tier::shared;
  EXPECT_GE(use.used, before + (counts_blocks ? object_.bytes() : 0));
  ASSERT_TRUE(world_->driver().erase(object_).ok());
  EXPECT_EQ(get(object_).code(), StatusCode::kNotFound);
  EXPECT_FALSE(world_->holds(object_));
}

TEST_P(TierContract, an_erase_waits_for_who_reads) {
  ASSERT_TRUE(world_->bring(object_).ok());
  ChunkReader reader;
  Waiting opened;
  ChunkStore& store = world_->store();
  ASSERT_TRUE(store.open_reader(world_->driver().ns, object_.key, 1, &reader, &opened).ok());
  ASSERT_TRUE(world_->driver().wait(&opened).ok());
  Waiting erased;
  ASSERT_TRUE(store.erase(world_->driver().ns, object_.key, &erased).ok());
  const std::vector<std::byte> want = object_.section(1);
  ReadBuffer buffer;
  Waiting read;
  ASSERT_TRUE(store.read(&reader, 1, 0, 2, &buffer, &read).ok());
  ASSERT_TRUE(world_->driver().wait(&read).ok());
  size_t at = 0;
  for (const iovec& piece : buffer.pieces()) {
    ASSERT_EQ(std::memcmp(piece.iov_base, want.data() + at, piece.iov_len), 0);
    at += piece.iov_len;
  }
  EXPECT_EQ(at, want.size());
  EXPECT_TRUE(world_->driver().wait(&erased).ok());
  EXPECT_FALSE(world_->holds(object_));
}

TEST_P(TierContract, a_flipped_bit_costs_the_copy_and_never_a_byte) {
  ASSERT_TRUE(world_->bring(object_).ok());
  world_->flip(object_);
  const Status got = get(object_);
  EXPECT_NE(got.code(), StatusCode::kInternal) << "a wrong byte came as if it were right";
  EXPECT_TRUE(got.ok() || got.code() == StatusCode::kDataLoss ||
              got.code() == StatusCode::kNotFound)
      << got.to_string();
  EXPECT_FALSE(world_->holds(object_)) << "the canary: damage that the tier did not see";
  const TestObject other(2);
  ASSERT_TRUE(world_->bring(other).ok());
  EXPECT_TRUE(get(other).ok());
  ASSERT_TRUE(world_->driver().put(object_, Durability::memory).ok() || got.ok());
  EXPECT_TRUE(get(object_).ok());
}

TEST_P(TierContract, a_medium_that_fails_costs_itself) {
  if (!world_->has_a_device()) return;
  ASSERT_TRUE(world_->bring(object_).ok());
  const TestObject near(2);
  ASSERT_TRUE(world_->driver().put(near, Durability::memory).ok());
  world_->fail(true);
  const Status got = get(object_);
  EXPECT_NE(got.code(), StatusCode::kInternal) << "a wrong byte came as if it were right";
  Tier tier{};
  EXPECT_TRUE(get(near, &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
  world_->fail(false);
  const TestObject later(3);
  EXPECT_TRUE(world_->driver().until([&] { return world_->bring(later).ok(); }));
  EXPECT_TRUE(get(later).ok());
}

TEST_P(TierContract, a_medium_that_hangs_costs_one_deadline_and_comes_back) {
  if (!world_->has_a_device()) return;
  ASSERT_TRUE(world_->bring(object_).ok());
  const TestObject near(2);
  ASSERT_TRUE(world_->driver().put(near, Durability::memory).ok());
  world_->hang(true);
  const Status got = get(object_);
  EXPECT_NE(got.code(), StatusCode::kInternal) << "a wrong byte came as if it were right";
  Tier tier{};
  EXPECT_TRUE(get(near, &tier).ok());
  EXPECT_EQ(tier, Tier::dram);
  world_->hang(false);
  const TestObject later(3);
  EXPECT_TRUE(world_->driver().until([&] { return world_->bring(later).ok(); }));
  EXPECT_TRUE(get(later).ok());
}

INSTANTIATE_TEST_SUITE_P(Tiers, TierContract,
                         ::testing::Values(Tier::hbm, Tier::dram, Tier::nvme, Tier::shared),
                         [](const auto& each) { return std::string(name_of(each.param)); });
}  // namespace
}  // namespace terrace
