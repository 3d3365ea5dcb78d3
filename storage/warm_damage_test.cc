// Goal: nothing that happens to slabs while no store runs gives a wrong byte, reaches nvme, or
// costs more than what it hit. Method: between two lives slabs are damaged, exchanged, lost and
// given other owners.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/sim/warm_world.h"

namespace terrace {
namespace {
using testing::TestObject;
using WarmDamageTest = testing::WarmWorld;

TEST_F(WarmDamageTest, a_bit_that_flipped_is_a_miss_never_data) {
  start();
  put(1);
  put(2, Durability::nvme);
  world_.crash();
  // Every byte of the data that is not zero, in a few places: in both objects' sections.
  for (size_t file = 0; file < world_.keeper->files.size(); ++file) {
    change(file, [](std::span<std::byte> bytes, uint64_t data) {
      for (uint64_t at = data + 8192; at < bytes.size(); at += 4096) {
        if (bytes[at + 100] != std::byte{}) bytes[at + 100] ^= std::byte{4};
      }
    });
  }
  start();
  EXPECT_EQ(objects(), 2u);
  EXPECT_EQ(get(1).code(), StatusCode::kDataLoss);
  EXPECT_EQ(get(1).code(), StatusCode::kNotFound) << "quarantined";
  Tier tier = Tier::dram;
  EXPECT_EQ(get(2, &tier).to_string(), ok_status().to_string()) << "nvme has it, too";
  EXPECT_EQ(tier, Tier::nvme);
  EXPECT_EQ(world_.store->metrics().warm_failed_objects.get(), 2u);
  killed();
  EXPECT_EQ(objects(), 0u) << "what was quarantined does not come back";
}

TEST_F(WarmDamageTest, bad_bytes_never_reach_nvme) {
  world_.config.write_through = true;
  start();
  put(1);
  put(2);
  world_.keeper->freeze();
  world_.crash();
  change(0, [](std::span<std::byte> bytes, uint64_t data) {
    bytes[data + 4096 + 50] ^= std::byte{1};
  });
  world_.disk.power_on();
  start();
  ASSERT_TRUE(world_.driver->until([&] {
    return world_.store->metrics().warm_verified_objects.get() +
               world_.store->metrics().warm_failed_objects.get() ==
           objects();
  }));
  world_.stop();
  world_.keeper = nullptr;  // cold
  start();
  EXPECT_FALSE(get(1).ok());
  EXPECT_NE(get(1).code(), StatusCode::kInternal);
  EXPECT_TRUE(get(2).ok());
}

TEST_F(WarmDamageTest, a_damaged_directory_or_header_costs_what_it_names_and_nothing_else) {
  start();
  for (uint64_t n = 1; n <= 6; ++n) put(n);
  world_.crash();
  size_t damaged = 0;
  change(0, [&](std::span<std::byte> bytes, uint64_t data) {
    for (size_t block = 0; block < 2 * kMiB / 4096; ++block) {
      SlabDirectoryEntry& at = entry(bytes, block);
      if (at.commit.load() == 0) continue;
      switch (damaged++) {
        case 0:
          at.blocks = 100'000;
          break;
        case 1:
          at.next = static_cast<uint32_t>(block);  // in a circle
          break;
        case 2:
          bytes[data + block * 4096 + 200] ^= std::byte{1};  // its header
          break;
        case 3:
          at.commit.store(at.commit.load() + 1'000'000);  // another generation
          break;
        default:
          break;
      }
    }
  });
  ASSERT_GE(damaged, 4u);
  start();
  EXPECT_EQ(refused(NotTaken::extents), 2u);
  EXPECT_EQ(refused(NotTaken::header), 2u);
  EXPECT_EQ(objects(), 2u);
  killed();
  EXPECT_EQ(refused(NotTaken::extents) + refused(NotTaken::header), 0u) << "forgotten for good";
  EXPECT_EQ(objects(), 2u);
}

TEST_F(WarmDamageTest, slabs_that_do_not_fit_are_let_go) {
  const auto sealed = [](std::span<std::byte> bytes) {
    ByteWriter crc;
    crc.u32(crc32c(bytes.first(kSlabClaimOffset)));
    std::memcpy(bytes.data() + kSlabHeaderBytes - 4, crc.take().data(), 4);
  };
  start();
  put(1);
  world_.crash();
  change(0, [](std::span<std::byte> bytes, uint64_t) { bytes[3] ^= std::byte{1}; });  // magic
  change(1, [&](std::span<std::byte> bytes, uint64_t) {
    bytes[8] = std::byte{1};  // an older version
    sealed(bytes);
  });
  change(2, [](std::span<std::byte> bytes, uint64_t) { bytes[33] ^= std::byte{1}; });  // checksum
  world_.keeper->files[3].file = *make_memory_file("unrelated", 4 * kMiB);
  start();
  EXPECT_EQ(slabs_refused(NotTaken::format), 4u);
  EXPECT_EQ(world_.keeper->files.size(), 4u) << "their places were taken by new ones";
  EXPECT_EQ(get(1).code(), StatusCode::kNotFound);
  put(1);
  world_.crash();
  world_.config.slab_bytes = 4 * kMiB;
  start();
  EXPECT_EQ(slabs_refused(NotTaken::geometry), 4u);
  EXPECT_EQ(world_.keeper->files.size(), 2u);
}

TEST_F(WarmDamageTest, slabs_of_another_directory_are_not_touched) {
  start();
  put(1);
  world_.crash();
  world_.owner = {std::byte{2}};
  start();
  EXPECT_EQ(slabs_refused(NotTaken::foreign), 4u);
  EXPECT_EQ(objects(), 0u);
  EXPECT_EQ(world_.keeper->files.size(), 8u);
  world_.crash();
  world_.owner = {std::byte{1}};
  start();
  EXPECT_EQ(objects(), 1u);
  EXPECT_TRUE(get(1).ok());
}

TEST_F(WarmDamageTest, a_slab_without_a_known_tenant_or_with_two_is_let_go) {
  start();
  put(1);
  world_.driver->ns = NamespaceId{2};
  put(2);
  world_.driver->ns = NamespaceId{1};
  world_.crash();
  world_.namespaces = {{NamespaceId{1}, DomainId{1}}};  // namespace 2 is gone
  start();
  EXPECT_EQ(slabs_refused(NotTaken::tenant), 1u);
  EXPECT_EQ(refused(NotTaken::tenant), 1u);
  EXPECT_EQ(objects(), 1u);
  world_.namespaces = {{NamespaceId{1}, DomainId{1}}, {NamespaceId{2}, DomainId{1}}};
  killed();
  world_.driver->ns = NamespaceId{2};
  put(2);  // beside the other one now
  world_.namespaces = {{NamespaceId{1}, DomainId{1}}, {NamespaceId{2}, DomainId{2}}};
  killed();
  EXPECT_EQ(slabs_refused(NotTaken::tenant), 1u);
  EXPECT_EQ(refused(NotTaken::tenant), 2u);
  EXPECT_EQ(objects(), 0u);
}

TEST_F(WarmDamageTest, an_object_over_several_slabs_needs_all_of_them) {
  const TestObject large(1, {5 * kMiB + 12'345});
  start();
  ASSERT_TRUE(world_.driver->put(large, Durability::memory).ok());
  killed();
  EXPECT_EQ(objects(), 1u);
  EXPECT_TRUE(world_.driver->get(large).ok());
  world_.crash();
  world_.keeper->files.erase(world_.keeper->files.begin() + 1);
  start();
  EXPECT_EQ(refused(NotTaken::extents), 1u);
  EXPECT_EQ(world_.driver->get(large).code(), StatusCode::kNotFound);
  EXPECT_TRUE(world_.driver->put(large, Durability::memory).ok());
}
}  // namespace
}  // namespace terrace
