// Goal: fsck finds every kind of damage, repairs the index from the headers alone, and a node
// serves what a rebuild took back. Method: a store in a real directory is filled and closed; bytes
// of its data file are changed or its index is removed.
#include "storage/fsck.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "storage/chunk_store.h"
#include "storage/data_file.h"
#include "storage/explanation.h"
#include "storage/uring_device.h"
#include "tests/sim/store_driver.h"

namespace terrace {
namespace {
using testing::StoreDriver;
using testing::TestObject;

class FsckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "terrace_fsck_" + std::to_string(::getpid());
    std::filesystem::remove_all(directory_);
    config_.data_directory = directory_;
    config_.dram_bytes = 8 * kMiB;
    config_.slab_bytes = 64 * kMiB;
    config_.populate_memory = false;
    config_.nvme_bytes = 16 * kMiB;
    config_.staging_bytes = 4 * kMiB;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  /// Runs `work` on a node that is started and stopped around it.
  void with_store(const std::function<void(StoreDriver&, ChunkStore&)>& work) {
    StatusOr<DirectoryLock> lock = DirectoryLock::acquire(directory_);
    ASSERT_TRUE(lock.ok()) << lock.status().to_string();
    DataFile::Options file_options;
    file_options.path = config_.data_paths().front();
    file_options.bytes = config_.nvme_bytes;
    StatusOr<std::unique_ptr<DataFile>> file = DataFile::open(file_options, lock->uuid());
    ASSERT_TRUE(file.ok()) << file.status().to_string();
    std::unique_ptr<Loop> loop = *Loop::create({.ring_entries = 256}, &clock_);
    {
      UringDevice device(file->get(), loop.get(), {});
      MetadataStore::Options options;
      options.path = config_.metadata_path();
      StatusOr<std::unique_ptr<MetadataStore>> metadata = MetadataStore::open(options, loop.get());
      ASSERT_TRUE(metadata.ok()) << metadata.status().to_string();
      StatusOr<std::unique_ptr<ChunkStore>> store =
          ChunkStore::open(config_, loop.get(), {{&device, 0, {}}}, metadata->get());
      ASSERT_TRUE(store.ok()) << store.status().to_string();
      StoreDriver driver(store->get(), [&] {
        loop->turn(milliseconds(5));
        return true;
      });
      work(driver, **store);
      EXPECT_TRUE(driver.close().ok());
    }
  }
  void put_objects(uint64_t count) {
    with_store([&](StoreDriver& driver, ChunkStore&) {
      for (uint64_t n = 0; n < count; ++n) {
        ASSERT_TRUE(driver.put(TestObject(n), Durability::nvme).ok()) << n;
      }
    });
  }
  /// Changes a byte in the middle of the data of some object.
  void damage_data() {
    const int fd = ::open(config_.data_paths().front().c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    const std::vector<std::byte> want = TestObject(3).section(0);
    std::vector<std::byte> file(config_.nvme_bytes);
    ASSERT_EQ(::pread(fd, file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
    const auto at = std::search(file.begin(), file.end(), want.begin(), want.begin() + 64);
    ASSERT_NE(at, file.end());
    const std::byte bad = *at ^ std::byte{1};
    ASSERT_EQ(::pwrite(fd, &bad, 1, at - file.begin()), 1);
    ASSERT_EQ(::fsync(fd), 0);
    ::close(fd);
  }
  StatusOr<FsckReport> check(bool rebuild = false) {
    FsckOptions options;
    options.data_directory = directory_;
    options.rebuild = rebuild;
    return fsck(options);
  }

  SystemClock clock_;
  std::string directory_;
  StoreConfig config_;
};

TEST_F(FsckTest, a_good_directory_is_clean) {
  put_objects(20);
  const StatusOr<FsckReport> report = check();
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->rows, 20u);
  EXPECT_EQ(report->objects_good, 20u);
}

TEST_F(FsckTest, a_changed_byte_is_found_and_dropped_by_a_rebuild) {
  put_objects(20);
  damage_data();
  StatusOr<FsckReport> report = check();
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_EQ(report->units_bad, 1u);
  EXPECT_EQ(report->objects_good, 19u);
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_NE(report->findings[0].find(TestObject(3).key.hex()), std::string::npos);
  report = check(true);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->rebuilt, 19u);
  report = check();
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->objects_good, 19u);
}

TEST_F(FsckTest, the_index_comes_back_from_the_headers) {
  put_objects(20);
  with_store([](StoreDriver& driver, ChunkStore&) {
    ASSERT_TRUE(driver.erase(TestObject(4)).ok());
    PutSpec spec = driver.spec_of(TestObject(4), Durability::nvme);
    spec.worth.recompute_us = 77;
    ASSERT_TRUE(driver.put(TestObject(4), spec).ok());  // two headers of one name
  });
  std::filesystem::remove_all(config_.metadata_path());
  const StatusOr<FsckReport> report = check(true);
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_EQ(report->rebuilt, 20u);
  with_store([](StoreDriver& driver, ChunkStore& store) {
    EXPECT_EQ(store.metrics().recovered_objects.get(), 20u);
    EXPECT_EQ(store.explain(driver.ns, TestObject(4).key).worth.recompute_us, 77u);
    for (uint64_t n = 0; n < 20; ++n) {
      EXPECT_EQ(driver.get(TestObject(n)).to_string(), "OK") << n;
    }
    ASSERT_TRUE(driver.put(TestObject(50), Durability::nvme).ok());
    EXPECT_TRUE(driver.get(TestObject(50)).ok());
  });
}

TEST_F(FsckTest, what_is_not_there_and_what_is_in_use) {
  EXPECT_EQ(check().status().code(), StatusCode::kNotFound);
  with_store([&](StoreDriver&, ChunkStore&) {
    EXPECT_EQ(check().status().code(), StatusCode::kUnavailable);
  });
}
}  // namespace
}  // namespace terrace
