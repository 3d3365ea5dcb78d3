// tests/sim/warm_world.h - a fixture for stores whose dram tier outlives them: lives, kills, and
// slabs that are changed as they lie with their keeper.
#pragma once
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <functional>
#include <memory>

#include "storage/slab_format.h"
#include "tests/sim/store_world.h"

namespace terrace::testing {

class WarmWorld : public ::testing::Test {
 protected:
  WarmWorld() : world_(7) {
    world_.keeper = std::make_unique<SimKeeper>();
    world_.config.dram_bytes = 8 * kMiB;
    world_.config.slab_bytes = 2 * kMiB;
    world_.config.write_through = false;
    world_.namespaces = {{NamespaceId{1}, DomainId{1}}, {NamespaceId{2}, DomainId{2}}};
  }
  void start() { ASSERT_TRUE(world_.start().ok()); }
  void put(uint64_t number, Durability durability = Durability::memory) {
    ASSERT_TRUE(world_.driver->put(TestObject(number), durability).ok()) << number;
  }
  /// Kills the store and starts the next.
  void killed() {
    world_.crash();
    start();
  }
  uint64_t objects() { return world_.store->metrics().warm_objects.get(); }
  uint64_t refused(NotTaken why) {
    return world_.store->metrics().warm_objects_refused[static_cast<size_t>(why)].get();
  }
  uint64_t slabs_refused(NotTaken why) {
    return world_.store->metrics().warm_slabs_refused[static_cast<size_t>(why)].get();
  }
  Status get(uint64_t number, Tier* tier = nullptr) {
    return world_.driver->get(TestObject(number), tier);
  }

  /// Changes a kept slab as it lies there. `data`: where its data begins.
  using Change = std::function<void(std::span<std::byte> file, uint64_t data)>;
  void change(size_t file, const Change& how) {
    const Fd& fd = world_.keeper->files[file].file;
    const auto bytes = static_cast<size_t>(::lseek(fd.get(), 0, SEEK_END));
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    how({static_cast<std::byte*>(at), bytes}, slab_data_offset(2 * kMiB));
    ::munmap(at, bytes);
  }
  static SlabDirectoryEntry& entry(std::span<std::byte> file, size_t block) {
    return reinterpret_cast<SlabDirectoryEntry*>(file.data() + kSlabHeaderBytes)[block];
  }

  StoreWorld world_;
};
}  // namespace terrace::testing
