// tests/sim/shared_nodes.h - nodes in one process that share a directory: a store each, over files
// that fail and hang on request. Used from one thread, beside those of the stores.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/limits.h"
#include "storage/shared_directory.h"
#include "storage/shared_tier.h"
#include "tests/sim/faulty_files.h"
#include "tests/sim/store_driver.h"

namespace terrace::testing {

/// One node: a store of its own over the shared directory.
struct TestNode {
  TestNode(const std::string& path, Loop* loop, const Clock* clock, StoreConfig config,
           const std::vector<NamespaceDigest>& digests) {
    config.shared_directory = path;
    auto medium = SharedDirectory::make(path, std::make_unique<FaultyFiles>(faults), clock);
    store = *ChunkStore::open(config, loop, {}, nullptr, std::move(medium));
    for (size_t i = 0; i < digests.size(); ++i) {
      store->name_namespace(NamespaceId{static_cast<uint32_t>(i + 1)}, digests[i]);
    }
    driver = std::make_unique<StoreDriver>(store.get(), [loop] {
      loop->turn(milliseconds(1));
      return true;
    });
  }
  const SharedMetrics& metrics() const { return store->metrics().shared; }
  uint64_t misses(SharedFailure why) const {
    return metrics().misses[static_cast<size_t>(why)].get();
  }
  std::shared_ptr<FileFaults> faults = std::make_shared<FileFaults>();
  std::unique_ptr<ChunkStore> store;
  std::unique_ptr<StoreDriver> driver;
};

class SharedNodesTest : public ::testing::Test {
 protected:
  SharedNodesTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-tier-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    config_.dram_bytes = 16 * kMiB;
    config_.slab_bytes = 16 * kMiB;
    config_.populate_memory = false;
    config_.shared_bytes_max = kGiB;
    config_.shared_list_period = milliseconds(20);
    config_.shared_timeout = milliseconds(1'000);  // of real files, on a busy machine
  }
  ~SharedNodesTest() override {
    for (const auto& node : nodes_) {
      node->faults->set_hang(false);
      EXPECT_TRUE(node->driver->close().ok());
      node->driver.reset();
      node->store.reset();
    }
    std::filesystem::remove_all(path_);
  }
  TestNode& node() {
    nodes_.push_back(std::make_unique<TestNode>(
        path_, loop_.get(), &clock_, config_,
        std::vector{ChunkKey{{std::byte{1}}}, ChunkKey{{std::byte{2}}}}));
    return *nodes_.back();
  }
  static bool knows(TestNode& node, const TestObject& object) {
    return node.driver->until(
        [&] { return node.store->find(node.driver->ns, object.key).has_value(); });
  }
  /// The only published file.
  std::string file() const {
    for (const auto& each : std::filesystem::recursive_directory_iterator(path_ + "/objects")) {
      if (each.is_regular_file()) return each.path();
    }
    return "";
  }
  size_t files_in(const std::string& folder) const {
    size_t count = 0;
    if (!std::filesystem::exists(path_ + "/" + folder)) return 0;
    for (const auto& each : std::filesystem::recursive_directory_iterator(path_ + "/" + folder)) {
      count += each.is_regular_file() ? 1 : 0;
    }
    return count;
  }

  SystemClock clock_;
  std::string path_;
  StoreConfig config_;
  std::unique_ptr<Loop> loop_ = *Loop::create({.ring_entries = 64}, &clock_);
  std::vector<std::unique_ptr<TestNode>> nodes_;
};
}  // namespace terrace::testing
