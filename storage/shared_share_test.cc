// Goal: what is published from nvme is read once for all who ask, and a rotten source is said to
// whose it is only. Method: a store on a simulated device with a real shared directory whose
// renames the test holds.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <list>
#include <thread>

#include "storage/shared_directory.h"
#include "tests/sim/held_files.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::HeldFiles;
using testing::Hold;
using testing::StoreWorld;
using testing::TestObject;
using testing::Waiting;

struct OnePut {
  ChunkWriter writer;
  Waiting over;
};

class SharedShareTest : public ::testing::Test {
 protected:
  explicit SharedShareTest(uint64_t dram_bytes = 4 * kMiB, uint64_t nvme_bytes = 48 * kMiB)
      : world_(1, nvme_bytes) {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-share-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    StoreConfig& config = world_.config;
    config.dram_bytes = dram_bytes;
    config.shared_directory = path_;
    config.shared_bytes_max = kGiB;
    config.shared_threads = 1;
    config.shared_timeout = seconds(600);  // of the simulated clock
    config.shared_list_period = seconds(36'000);
    config.shared_sweep_period = seconds(36'000);
    world_.metadata = *MetadataStore::open(world_.metadata_options, world_.loop.get());
    auto medium = SharedDirectory::make(path_, std::make_unique<HeldFiles>(hold_), &world_.clock);
    world_.store = *ChunkStore::open(config, world_.loop.get(), world_.plug_in(),
                                     world_.metadata.get(), std::move(medium));
    world_.store->name_namespace(NamespaceId{1}, ChunkKey{{std::byte{1}}});
    world_.driver = std::make_unique<testing::StoreDriver>(world_.store.get(), [this] {
      // Real threads write real files: simulated time must not run away from them.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return world_.turn();
    });
  }
  ~SharedShareTest() override {
    hold_->on = false;
    puts_.clear();  // no writer outlives its store
    world_.stop();
    std::filesystem::remove_all(path_);
  }
  /// It lies on nvme and nowhere else.
  void put_on_nvme(const TestObject& object) {
    ASSERT_TRUE(world_.driver->put(object, Durability::nvme).ok());
    for (uint64_t n = 1000; n < 1200; ++n) {
      if (world_.store->find(world_.driver->ns, object.key)->tiers == mask_of(Tier::nvme)) return;
      ASSERT_TRUE(world_.driver->put(TestObject(n, {400'000}), Durability::nvme).ok());
    }
    FAIL() << "still in dram";
  }
  /// Asks for a shared copy of an object that is there.
  void share(const TestObject& object) {
    OnePut& put = puts_.emplace_back();
    const PutSpec spec = world_.driver->spec_of(object, Durability::shared);
    ASSERT_TRUE(world_.store->open_writer(spec, &put.writer, &put.over).ok());
  }
  /// From now on something is being published, and holds the only thread.
  void hold() {
    hold_->on = true;
    ASSERT_TRUE(world_.driver->put(TestObject(777), Durability::memory).ok());
    share(TestObject(777));
    ASSERT_TRUE(world_.driver->until([&] { return hold_->waiting == 1; }));
  }
  uint64_t waiting() const { return world_.store->metrics().shared.waiting.get(); }

  const std::shared_ptr<Hold> hold_ = std::make_shared<Hold>();
  std::string path_;
  StoreWorld world_;
  std::list<OnePut> puts_;
};

TEST_F(SharedShareTest, who_comes_later_joins_and_reads_nothing) {
  const TestObject object(1, {300'000});
  put_on_nvme(object);
  hold();
  share(object);
  ASSERT_TRUE(world_.driver->until([&] { return waiting() == 1; }));
  for (int i = 0; i < 20; ++i) {
    share(object);
    EXPECT_EQ(world_.device.pending(), 0u);
  }
  hold_->on = false;
  for (OnePut& put : puts_) {
    EXPECT_EQ(world_.driver->wait(&put.over).code(), StatusCode::kAlreadyExists);
  }
  EXPECT_EQ(world_.store->metrics().shared.publishes.get(), 2u);
}

TEST_F(SharedShareTest, a_rotten_source_is_its_owners) {
  const TestObject object(1, {300'000});
  put_on_nvme(object);
  MetadataRow found;
  ASSERT_TRUE(world_.metadata
                  ->recover(
                      [&](const MetadataRow& row) {
                        if (row.key == object.key) found = row;
                      },
                      [](std::string_view, const Status&) {})
                  .ok());
  world_.device.flip_bit(slice(found.extents, found.header_bytes, 4096)[0].offset(), 3);
  hold();
  share(object);
  ASSERT_TRUE(world_.driver->until([&] { return waiting() == 1; }));
  share(object);
  hold_->on = false;
  const StatusCode wanted[] = {StatusCode::kAlreadyExists, StatusCode::kDataLoss,
                               StatusCode::kAborted};
  size_t i = 0;
  for (OnePut& put : puts_) EXPECT_EQ(world_.driver->wait(&put.over).code(), wanted[i++]);
  EXPECT_EQ(world_.store->metrics().quarantined_objects.get(), 1u);
}

TEST_F(SharedShareTest, what_is_erased_while_it_is_read_is_not_published) {
  const TestObject object(1, {300'000});
  put_on_nvme(object);
  share(object);
  EXPECT_TRUE(world_.driver->erase(object).ok());
  EXPECT_EQ(world_.driver->wait(&puts_.front().over).code(), StatusCode::kAborted);
  EXPECT_EQ(world_.store->metrics().shared.publishes.get(), 0u);
}
class SharedShareBoundTest : public SharedShareTest {
 protected:
  SharedShareBoundTest() : SharedShareTest(64 * kMiB, 400 * kMiB) {}
};

TEST_F(SharedShareBoundTest, the_memory_of_sources_is_bounded) {
  constexpr uint64_t kBytes = 44 * kMiB;
  constexpr uint64_t kFit = 5;  // of that in 256 MiB
  for (uint64_t n = 1; n <= kFit + 3; ++n) {
    ASSERT_TRUE(world_.driver->put(TestObject(n, {kBytes}), Durability::nvme).ok()) << n;
  }
  hold();
  for (uint64_t n = 1; n <= kFit + 2; ++n) share(TestObject(n, {kBytes}));
  const auto refused = std::prev(puts_.end(), 2);
  for (auto put = refused; put != puts_.end(); ++put) {
    EXPECT_EQ(world_.driver->wait(&put->over).code(), StatusCode::kResourceExhausted);
  }
  hold_->on = false;
  for (auto put = puts_.begin(); put != refused; ++put) {
    EXPECT_EQ(world_.driver->wait(&put->over).code(), StatusCode::kAlreadyExists);
  }
  share(TestObject(kFit + 1, {kBytes}));  // there is room again
  EXPECT_EQ(world_.driver->wait(&puts_.back().over).code(), StatusCode::kAlreadyExists);
}
}  // namespace
}  // namespace terrace
