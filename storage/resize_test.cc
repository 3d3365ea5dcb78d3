// Goal: a tier gets larger and smaller while it is used, whoever calls it off in between: what is
// in use or durable stays right, and nothing is refused that there is room for. Method: stores over
// memory and over simulated devices; the sizes of what is put are such that it lies where it is
// cut.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "storage/tier_pass.h"
#include "tests/sim/dram_store_fixture.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::DramStoreTest;
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

std::shared_ptr<ResizePass> to(Tier tier, uint64_t bytes) {
  const auto pass = std::make_shared<ResizePass>();
  pass->tier = tier;
  pass->target = bytes;
  return pass;
}

// dram: slabs of 64 MiB.

class DramResizeTest : public DramStoreTest {
 protected:
  static constexpr uint64_t kSlab = 64 * kMiB;
  Status resize(uint64_t bytes) {
    const auto pass = to(Tier::dram, bytes);
    TERRACE_RETURN_IF_ERROR(store_->resize(pass));
    EXPECT_TRUE(driver_->until([&] { return pass->over; }));
    EXPECT_EQ(pass->bytes, capacity());
    return pass->result;
  }
  uint64_t capacity() { return store_->tier_use(Tier::dram).capacity; }
  static TestObject large(uint64_t n) { return TestObject(n, {15 * kMiB}); }  // 4 in a slab
  uint64_t readable(uint64_t end) {
    uint64_t there = 0;
    for (uint64_t n = 0; n < end; ++n) {
      const Status got = driver_->get(large(n));
      EXPECT_NE(got.code(), StatusCode::kInternal) << n;
      there += got.ok() ? 1 : 0;
    }
    return there;
  }
};

TEST_F(DramResizeTest, more_slabs_hold_more_and_fewer_less) {
  open(2 * kSlab);
  ASSERT_TRUE(resize(4 * kSlab).ok());
  EXPECT_EQ(capacity(), 4 * kSlab);
  for (uint64_t n = 0; n < 16; ++n) {
    ASSERT_TRUE(driver_->put(large(n), Durability::memory).ok()) << n;
  }
  EXPECT_EQ(readable(16), 16u);
  ASSERT_TRUE(resize(kSlab).ok());
  EXPECT_EQ(capacity(), kSlab);
  EXPECT_EQ(readable(16), 4u) << "what lies in the slab that stayed";
  ASSERT_TRUE(resize(3 * kSlab).ok()) << "of places that were given up";
  for (uint64_t n = 0; n < 12; ++n) {
    const Status put = driver_->put(large(n), Durability::memory);
    ASSERT_TRUE(put.ok() || put.code() == StatusCode::kAlreadyExists) << put.to_string();
  }
  EXPECT_EQ(readable(12), 12u);
}

TEST_F(DramResizeTest, a_size_between_slabs_is_rounded_to_what_was_asked_for) {
  open(2 * kSlab);
  ASSERT_TRUE(resize(3 * kSlab - kMiB).ok());
  EXPECT_EQ(capacity(), 3 * kSlab) << "not less than that";
  ASSERT_TRUE(resize(2 * kSlab + kMiB).ok());
  EXPECT_EQ(capacity(), 2 * kSlab) << "not more than that";
  ASSERT_TRUE(resize(2 * kSlab).ok());
}

TEST_F(DramResizeTest, what_cannot_be_is_refused) {
  open(2 * kSlab);
  EXPECT_EQ(store_->resize(to(Tier::dram, kSlab - 1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->resize(to(Tier::dram, uint64_t{1} << 62)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->resize(to(Tier::nvme, kSlab)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(store_->resize(to(Tier::hbm, kSlab)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(store_->resize(to(Tier::shared, kSlab)).code(), StatusCode::kUnavailable);
  const auto running = to(Tier::dram, kSlab);
  ASSERT_TRUE(store_->resize(running).ok());
  EXPECT_EQ(store_->resize(to(Tier::dram, kSlab)).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(driver_->until([&] { return running->over; }));
}

TEST_F(DramResizeTest, what_is_read_stays_and_its_slab_with_it) {
  open(2 * kSlab);
  for (uint64_t n = 0; n < 8; ++n) {
    ASSERT_TRUE(driver_->put(large(n), Durability::memory).ok());
  }
  std::vector<ChunkReader> readers(8);  // in both slabs
  for (uint64_t n = 0; n < 8; ++n) {
    Waiting opened;
    ASSERT_TRUE(store_->open_reader(driver_->ns, large(n).key, 1, &readers[n], &opened).ok());
    ASSERT_TRUE(driver_->wait(&opened).ok());
  }
  const Status stuck = resize(kSlab);
  EXPECT_EQ(stuck.code(), StatusCode::kUnavailable) << stuck.to_string();
  EXPECT_EQ(capacity(), 2 * kSlab);
  EXPECT_EQ(readable(8), 8u) << "nothing was taken from under a reader";
  readers.clear();
  clock_.advance(seconds(31));  // slabs that could not be emptied rest
  ASSERT_TRUE(resize(kSlab).ok());
  EXPECT_EQ(readable(8), 4u);
}

TEST_F(DramResizeTest, one_that_is_called_off_leaves_a_tier_that_is_whole) {
  open(4 * kSlab);
  for (uint64_t n = 0; n < 16; ++n) {
    ASSERT_TRUE(driver_->put(large(n), Durability::memory).ok());
  }
  const auto pass = to(Tier::dram, kSlab);
  ASSERT_TRUE(store_->resize(pass).ok());
  pass->cancelled = true;
  ASSERT_TRUE(driver_->until([&] { return pass->over; }));
  EXPECT_EQ(pass->result.code(), StatusCode::kCancelled);
  for (int i = 0; i < 100; ++i) driver_->until([] { return true; });
  for (uint64_t n = 0; n < 16; ++n) {
    const Status put = driver_->put(large(n), Durability::memory);
    EXPECT_TRUE(put.ok() || put.code() == StatusCode::kAlreadyExists) << put.to_string();
  }
  EXPECT_EQ(readable(16), capacity() / kSlab * 4);
}

TEST_F(DramResizeTest, two_tenants_share_what_is_left) {
  open(4 * kSlab);
  store_->assign_domain(NamespaceId{1}, DomainId{1});
  store_->assign_domain(NamespaceId{2}, DomainId{2});
  for (uint64_t n = 0; n < 16; ++n) {
    driver_->ns = NamespaceId{1 + static_cast<uint32_t>(n % 2)};
    ASSERT_TRUE(driver_->put(large(n), Durability::memory).ok());
  }
  ASSERT_TRUE(resize(2 * kSlab).ok());
  uint64_t there[2] = {0, 0};
  for (uint64_t n = 0; n < 16; ++n) {
    driver_->ns = NamespaceId{1 + static_cast<uint32_t>(n % 2)};
    there[n % 2] += driver_->get(large(n)).ok() ? 1 : 0;
  }
  EXPECT_EQ(there[0], 4u);
  EXPECT_EQ(there[1], 4u);
}

// nvme: 64 MiB are the least that a device has, and are filled before what follows.

class NvmeResizeTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kRegion = 64 * kMiB;
  static constexpr uint64_t kBallast = 63;  // the identity block has the first MiB
  NvmeResizeTest() : world_(5, 2 * kRegion) {
    world_.config.promote_hits = 0;
    world_.config.dram_bytes = 8 * kMiB;
  }
  /// Takes a MiB with its header.
  static TestObject ballast(uint64_t n) { return TestObject(1000 + n, {kMiB - 4096}); }
  void put(const TestObject& object) {
    const Status put = world_.driver->put(object, Durability::nvme);
    ASSERT_TRUE(put.ok()) << object.number << ": " << put.to_string();
  }
  /// So that the objects 0 to 19 lie behind the first 64 MiB.
  void fill() {
    ASSERT_TRUE(world_.start().ok());
    for (uint64_t n = 0; n < kBallast; ++n) put(ballast(n));
    for (uint64_t n = 0; n < 20; ++n) put(TestObject(n));
    ASSERT_EQ(behind(kRegion), 20u);
  }
  void erase_ballast(uint64_t count) {
    for (uint64_t n = 0; n < count; ++n) {
      ASSERT_TRUE(world_.driver->erase(ballast(n)).ok());
    }
  }
  uint64_t behind(uint64_t offset) {
    uint64_t objects = 0;
    EXPECT_TRUE(world_.metadata
                    ->recover(
                        [&](const MetadataRow& row) {
                          for (const Extent& extent : row.extents) {
                            if (extent.offset() + extent.bytes() <= offset) continue;
                            ++objects;
                            break;
                          }
                        },
                        [](std::string_view, const Status&) {})
                    .ok());
    return objects;
  }
  Status resize(uint64_t bytes) {
    const auto pass = to(Tier::nvme, bytes);
    TERRACE_RETURN_IF_ERROR(world_.store->resize(pass));
    EXPECT_TRUE(world_.driver->until([&] { return pass->over; }));
    EXPECT_EQ(pass->bytes, world_.device.size_bytes());
    return pass->result;
  }
  void expect_all(uint64_t first_ballast) {
    for (uint64_t n = 0; n < 20; ++n) {
      EXPECT_EQ(world_.driver->get(TestObject(n)).to_string(), "OK") << n;
    }
    for (uint64_t n = first_ballast; n < kBallast; ++n) {
      EXPECT_EQ(world_.driver->get(ballast(n)).to_string(), "OK") << n;
    }
  }
  void again() {
    world_.stop();
    ASSERT_TRUE(world_.start().ok());
  }
  StoreWorld world_;
};

TEST_F(NvmeResizeTest, what_lies_at_the_end_moves_before_it_is_cut) {
  fill();
  erase_ballast(5);
  ASSERT_TRUE(resize(kRegion).ok());
  EXPECT_EQ(world_.device.size_bytes(), kRegion);
  EXPECT_EQ(behind(kRegion), 0u);
  EXPECT_EQ(world_.store->metrics().evictions[static_cast<size_t>(Tier::nvme)].get(), 0u);
  expect_all(5);
  again();
  expect_all(5);
}

TEST_F(NvmeResizeTest, a_larger_device_holds_more) {
  fill();
  ASSERT_TRUE(resize(3 * kRegion).ok());
  EXPECT_EQ(world_.store->devices()[0].bytes, 3 * kRegion - kMiB);
  for (uint64_t n = 0; n < 100; ++n) put(ballast(100 + n));
  EXPECT_GT(behind(2 * kRegion), 20u);
  again();
  expect_all(0);
  for (uint64_t n = 0; n < 100; ++n) {
    EXPECT_EQ(world_.driver->get(ballast(100 + n)).to_string(), "OK") << n;
  }
}

TEST_F(NvmeResizeTest, without_room_for_all_the_least_valuable_leave) {
  fill();
  ASSERT_TRUE(resize(kRegion).ok());
  EXPECT_GT(world_.store->metrics().evictions[static_cast<size_t>(Tier::nvme)].get(), 0u);
  EXPECT_EQ(behind(kRegion), 0u);
  uint64_t there = 0;
  for (uint64_t n = 0; n < kBallast; ++n) {
    const Status got = world_.driver->get(ballast(n));
    EXPECT_TRUE(got.ok() || got.code() == StatusCode::kNotFound) << got.to_string();
    there += got.ok() ? 1 : 0;
  }
  EXPECT_GE(there, kBallast - 10) << "no more than had to";
}

TEST_F(NvmeResizeTest, a_reader_at_the_end_keeps_its_bytes_and_holds_the_cut_up) {
  fill();
  again();  // so that they are on nvme only
  erase_ballast(5);
  std::optional<ChunkReader> reader(std::in_place);
  Waiting opened;
  ASSERT_TRUE(
      world_.store->open_reader(world_.driver->ns, TestObject(3).key, 1, &*reader, &opened).ok());
  ASSERT_TRUE(world_.driver->wait(&opened).ok());
  const Status stuck = resize(kRegion);
  EXPECT_EQ(stuck.code(), StatusCode::kUnavailable) << stuck.to_string();
  EXPECT_EQ(world_.device.size_bytes(), 2 * kRegion);
  {
    ReadBuffer buffer;
    Waiting read;
    ASSERT_TRUE(world_.store->read(&*reader, 0, 0, 1, &buffer, &read).ok());
    EXPECT_EQ(world_.driver->wait(&read).to_string(), "OK");
  }
  reader.reset();
  put(ballast(100));  // there is room for all again
  ASSERT_TRUE(resize(kRegion).ok());
  expect_all(5);
}

TEST_F(NvmeResizeTest, one_that_is_called_off_or_fails_changes_nothing) {
  fill();
  erase_ballast(5);
  const auto pass = to(Tier::nvme, kRegion);
  ASSERT_TRUE(world_.store->resize(pass).ok());
  EXPECT_EQ(world_.store->resize(to(Tier::nvme, kRegion)).code(), StatusCode::kResourceExhausted);
  pass->cancelled = true;
  ASSERT_TRUE(world_.driver->until([&] { return pass->over; }));
  EXPECT_EQ(pass->result.code(), StatusCode::kCancelled);
  again();  // what was on its way has ended
  world_.device.fail(0, error(StatusCode::kResourceExhausted, "no such space"));
  EXPECT_EQ(resize(4 * kRegion).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(world_.store->devices()[0].bytes, 2 * kRegion - kMiB);
  for (uint64_t n = 0; n < 50; ++n) put(ballast(100 + n));  // behind the 64 MiB, too
  expect_all(5);
}

TEST_F(NvmeResizeTest, a_device_that_is_being_made_longer_is_called_off_too) {
  fill();
  for (const bool closing : {false, true}) {
    world_.device.hang();  // until somebody called it off
    const auto pass = to(Tier::nvme, 4 * kRegion);
    ASSERT_TRUE(world_.store->resize(pass).ok());
    pass->cancelled = !closing;
    Timer goes_on([&] { world_.device.let_go(); });
    world_.loop->arm(&goes_on, world_.loop->now() + milliseconds(50));
    if (closing) {
      again();
    } else {
      ASSERT_TRUE(world_.driver->until([&] { return pass->over; }));
      EXPECT_EQ(pass->result.code(), StatusCode::kCancelled) << pass->result.to_string();
    }
    EXPECT_EQ(world_.device.size_bytes(), 2 * kRegion);
    EXPECT_EQ(world_.store->devices()[0].bytes, 2 * kRegion - kMiB);
    expect_all(0);
  }
}

TEST_F(NvmeResizeTest, what_is_pinned_or_verified_meanwhile_is_right_after_a_power_cut) {
  for (int round = 0; round < 6; ++round) {
    if (round == 0) fill();
    for (uint64_t n = 0; round > 0 && n < 20; ++n) {
      ASSERT_TRUE(world_.driver->erase(TestObject(n)).ok());
    }
    for (uint64_t n = 0; n < kBallast; ++n) {
      const Status put = world_.driver->put(ballast(n), Durability::nvme);
      ASSERT_TRUE(put.ok() || put.code() == StatusCode::kAlreadyExists) << put.to_string();
    }
    for (uint64_t n = 0; round > 0 && n < 20; ++n) put(TestObject(n));
    erase_ballast(5);
    const auto verify = std::make_shared<VerifyPass>();
    verify->mib_per_s = 10'000;
    ASSERT_TRUE(world_.store->verify(verify).ok());
    const auto pass = to(Tier::nvme, kRegion);
    ASSERT_TRUE(world_.store->resize(pass).ok());
    uint64_t pinned = 0;
    for (uint64_t n = 0; n < 20; ++n) {
      for (uint64_t turns = 0; turns < n % 4; ++turns) world_.turn();
      world_.store->set_pin(world_.driver->ns, TestObject(n).key, true, kGiB, [&](const Status& s) {
        EXPECT_TRUE(s.ok()) << s.to_string();
        ++pinned;
      });
    }
    ASSERT_TRUE(world_.driver->until([&] { return pass->over && verify->over && pinned == 20; }));
    EXPECT_TRUE(pass->result.ok()) << pass->result.to_string();
    EXPECT_EQ(verify->bad, 0u);
    EXPECT_EQ(world_.store->metrics().quarantined_objects.get(), 0u);
    world_.crash();
    ASSERT_TRUE(world_.start().ok());
    uint64_t bytes = 0;
    for (uint64_t n = 0; n < 20; ++n) bytes += TestObject(n).bytes();
    EXPECT_EQ(world_.store->pinned_bytes(world_.driver->ns), bytes);
    expect_all(5);
    ASSERT_TRUE(resize(2 * kRegion).ok());
  }
}

TEST_F(NvmeResizeTest, what_cannot_be_is_refused) {
  ASSERT_TRUE(world_.start().ok());
  EXPECT_EQ(world_.store->resize(to(Tier::nvme, kRegion - 1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.store->resize(to(Tier::nvme, uint64_t{17} << 40)).code(),
            StatusCode::kInvalidArgument);
  const auto nowhere = to(Tier::nvme, kRegion);
  nowhere->place = 7;
  EXPECT_EQ(world_.store->resize(nowhere).code(), StatusCode::kNotFound);
  EXPECT_TRUE(resize(2 * kRegion + 5).ok()) << "as it is: there are only whole 64 MiB";
}
}  // namespace
}  // namespace terrace
