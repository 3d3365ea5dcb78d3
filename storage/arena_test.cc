// Goal: the arena gives every byte to one owner at a time, keeps sharing domains apart, and
// describes itself as specified. Method: random allocations whose bytes are filled with their
// number and checked; the slab header and directory are read back; a slab is mapped as a client
// would, before it changes hands.
#include "storage/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/prng.h"
#include "tests/sim/sim_keeper.h"

namespace terrace {
namespace {

StoreConfig small(uint64_t dram_bytes) {
  StoreConfig config;
  config.dram_bytes = dram_bytes;
  config.slab_bytes = 64 * kMiB;
  config.populate_memory = false;
  return config;
}

constexpr DomainId kA{1};
constexpr DomainId kB{2};

struct Held {
  std::shared_ptr<ArenaSpace> space;
  uint8_t number;
};

void fill(const Held& held) {
  std::vector<iovec> memory;
  held.space->memory(0, held.space->bytes(), &memory);
  for (const iovec& run : memory) std::memset(run.iov_base, held.number, run.iov_len);
}

bool intact(const Held& held) {
  std::vector<iovec> memory;
  held.space->memory(0, held.space->bytes(), &memory);
  uint64_t bytes = 0;
  for (const iovec& run : memory) {
    bytes += run.iov_len;
    const auto* at = static_cast<const uint8_t*>(run.iov_base);
    if (!std::all_of(at, at + run.iov_len, [&](uint8_t b) { return b == held.number; })) {
      return false;
    }
  }
  return bytes == held.space->bytes();
}

TEST(ArenaTest, space_has_one_owner) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Prng prng(seed);
    StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(128 * kMiB));
    ASSERT_TRUE(arena.ok()) << arena.status().to_string();
    std::vector<Held> held;
    uint8_t number = 0;
    for (int step = 0; step < 200; ++step) {
      if (prng.chance(60)) {
        const uint64_t blocks = 1 + prng.below(prng.chance(20) ? 5000 : 40);
        std::shared_ptr<ArenaSpace> space = (*arena)->allocate(kA, blocks * 4096);
        if (space != nullptr) {
          held.push_back({std::move(space), ++number});
          fill(held.back());
          held.back().space->commit(number);
        }
      } else if (!held.empty()) {
        const size_t i = prng.below(held.size());
        ASSERT_TRUE(intact(held[i])) << "seed " << seed;
        held.erase(held.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    for (const Held& each : held) ASSERT_TRUE(intact(each)) << "seed " << seed;
    held.clear();
    EXPECT_EQ((*arena)->free_bytes(), (*arena)->ready_bytes()) << "seed " << seed;
  }
}

TEST(ArenaTest, an_object_larger_than_a_slab_spans_slabs) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(192 * kMiB));
  ASSERT_TRUE(arena.ok());
  Held held{(*arena)->allocate(kA, 130 * kMiB), 3};
  ASSERT_NE(held.space, nullptr);
  fill(held);
  EXPECT_TRUE(intact(held));
  EXPECT_EQ((*arena)->allocate(kA, 100 * kMiB), nullptr);
}

TEST(ArenaTest, slabs_describe_themselves) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(128 * kMiB));
  ASSERT_TRUE(arena.ok());
  ASSERT_EQ((*arena)->slab_count(), 2u);
  const auto meta = (*arena)->meta(1);
  const StatusOr<SlabHeader> header = decode_slab_header(meta.first<kSlabHeaderBytes>());
  ASSERT_TRUE(header.ok()) << header.status().to_string();
  EXPECT_EQ(header->data_bytes, 64 * kMiB);
  EXPECT_EQ(header->first_block, 64 * kMiB / 4096);

  std::shared_ptr<ArenaSpace> space = (*arena)->allocate(kA, 3 * 4096);
  space->commit(77);
  const uint32_t block = space->extents()[0].block;
  const auto* entry =
      reinterpret_cast<const SlabDirectoryEntry*>((*arena)->meta(0).data() + kSlabHeaderBytes) +
      block;
  EXPECT_EQ(entry->commit.load(), 77u);
  EXPECT_EQ(entry->blocks, space->extents()[0].blocks);
  space.reset();
  EXPECT_EQ(entry->commit.load(), 0u);
}

TEST(ArenaTest, a_damaged_slab_header_is_refused) {
  SlabHeader header;
  header.data_bytes = 64 * kMiB;
  std::array<std::byte, kSlabHeaderBytes> block{};
  encode(header, block);
  ASSERT_TRUE(decode_slab_header(block).ok());
  for (size_t at : {size_t{0}, size_t{9}, size_t{30}, size_t{4000}, size_t{4095}}) {
    std::array<std::byte, kSlabHeaderBytes> bad = block;
    bad[at] ^= std::byte{1};
    EXPECT_EQ(decode_slab_header(bad).status().code(), StatusCode::kDataLoss) << at;
  }
}

TEST(ArenaTest, withheld_space_is_not_used_again) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(small(4 * kMiB));
  ASSERT_TRUE(arena.ok());
  std::shared_ptr<ArenaSpace> space = (*arena)->allocate(kA, kMiB);
  space->withhold();
  space.reset();
  EXPECT_EQ((*arena)->withheld_bytes(), kMiB);
  EXPECT_EQ((*arena)->allocate(kA, 4 * kMiB), nullptr);
  EXPECT_NE((*arena)->allocate(kA, 3 * kMiB), nullptr);
}

TEST(ArenaTest, memory_is_populated_in_the_background_with_or_without_locks) {
  for (const bool lock : {false, true}) {
    StoreConfig config = small(128 * kMiB);
    config.populate_memory = true;
    config.lock_memory = lock;
    config.huge_pages = lock;
    StatusOr<std::unique_ptr<Arena>> arena = Arena::create(config);
    ASSERT_TRUE(arena.ok());
    EXPECT_NE((*arena)->allocate(kA, kMiB), nullptr) << "the first slab serves at once";
    while ((*arena)->ready_bytes() < 128 * kMiB) std::this_thread::yield();
    EXPECT_LE((*arena)->locked_bytes(), 128 * kMiB);
  }
}

std::span<std::byte> bytes_of(const ArenaSpace& space) {
  std::vector<iovec> memory;
  space.memory(0, space.bytes(), &memory);
  return {static_cast<std::byte*>(memory.at(0).iov_base), memory.at(0).iov_len};
}

StoreConfig four_slabs(bool background) {
  StoreConfig config = small(16 * kMiB);
  config.slab_bytes = 4 * kMiB;
  config.populate_memory = background;
  return config;
}

void wait_until_replaced(Arena* arena, uint32_t slab) {
  std::vector<Arena::Replaced> over;
  while (over.empty()) {
    over = arena->replaced();
    std::this_thread::yield();
  }
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0].slab, slab);
  EXPECT_TRUE(over[0].present);
}

TEST(ArenaTest, a_slab_holds_objects_of_one_domain) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    StatusOr<std::unique_ptr<Arena>> arena = Arena::create(four_slabs(false));
    ASSERT_TRUE(arena.ok());
    std::vector<std::shared_ptr<ArenaSpace>> held;
    for (int step = 0; step < 300; ++step) {
      const DomainId domain = prng.chance(50) ? kA : kB;
      auto space = (*arena)->allocate(domain, 4096 * (1 + prng.below(700)));
      if (space != nullptr) held.push_back(std::move(space));
      if (!held.empty() && prng.chance(50)) {
        held.erase(held.begin() + static_cast<ptrdiff_t>(prng.below(held.size())));
      }
      std::map<uint32_t, DomainId> owners;
      for (const auto& each : held) {
        for (const Extent& extent : each->extents()) {
          const auto place = (*arena)->place_of((*arena)->at(extent.block));
          ASSERT_TRUE(place) << "seed " << seed;
          ASSERT_EQ(place->domain, each->domain()) << "seed " << seed;
          ASSERT_EQ(owners.try_emplace(place->slab, place->domain).first->second, place->domain);
        }
      }
      ASSERT_EQ((*arena)->holding(kA).slabs.size() + (*arena)->holding(kB).slabs.size() +
                    (*arena)->unowned_bytes() / (4 * kMiB),
                4u);
    }
    held.clear();
    EXPECT_EQ((*arena)->free_bytes(), (*arena)->ready_bytes());
    EXPECT_EQ((*arena)->holding(kA).free + (*arena)->holding(kB).free + (*arena)->unowned_bytes(),
              (*arena)->ready_bytes());
  }
}

TEST(ArenaTest, what_does_not_fit_claims_no_slab) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(four_slabs(false));
  ASSERT_TRUE(arena.ok());
  const auto a = (*arena)->allocate(kA, kMiB);
  EXPECT_EQ((*arena)->allocate(kB, 13 * kMiB), nullptr) << "there are 12 for it";
  EXPECT_TRUE((*arena)->holding(kB).slabs.empty());
  EXPECT_NE((*arena)->allocate(kB, 12 * kMiB), nullptr);
}

TEST(ArenaTest, a_slab_that_changes_hands_has_new_memory_at_the_same_address) {
  for (const bool background : {false, true}) {
    StatusOr<std::unique_ptr<Arena>> created = Arena::create(four_slabs(background));
    ASSERT_TRUE(created.ok());
    Arena& arena = **created;
    while (arena.slabs_populated() < arena.slab_count()) std::this_thread::yield();
    auto space = arena.allocate(kA, kMiB);
    const std::span<std::byte> secret = bytes_of(*space);
    std::memset(secret.data(), 0x5A, secret.size());
    space->commit(9);
    const SlabPlace before = *arena.place_of(secret.data());
    const auto uuid = decode_slab_header(arena.meta(before.slab).first<kSlabHeaderBytes>())->uuid;
    StatusOr<SlabDescriptor> out = arena.export_slab(before.slab);
    ASSERT_TRUE(out.ok()) << out.status().to_string();
    EXPECT_TRUE(arena.exported(before.slab));
    EXPECT_EQ(out->epoch, before.epoch);
    void* const old = ::mmap(nullptr, out->bytes, PROT_READ, MAP_SHARED, out->fd.get(),
                             static_cast<off_t>(out->file_offset));
    ASSERT_NE(old, MAP_FAILED);
    const auto* const seen = static_cast<const std::byte*>(old) + before.offset;
    EXPECT_EQ(std::memcmp(seen, secret.data(), secret.size()), 0);

    arena.retire(before.slab);
    EXPECT_TRUE(arena.holding(kA).slabs.empty());
    EXPECT_EQ(arena.place_of(secret.data()), before) << "its objects are still there";
    ASSERT_EQ(arena.spaces_in(before.slab).size(), 1u);
    EXPECT_NE(arena.place_of(bytes_of(*arena.allocate(kA, kMiB)).data())->slab, before.slab);
    space.reset();
    ASSERT_TRUE(arena.empty(before.slab));
    arena.replace(before.slab, kB);
    EXPECT_FALSE(arena.place_of(secret.data()));
    EXPECT_EQ(arena.export_slab(before.slab).status().code(), StatusCode::kFailedPrecondition);
    wait_until_replaced(&arena, before.slab);

    const SlabPlace after = *arena.place_of(secret.data());
    EXPECT_EQ(after.domain, kB);
    EXPECT_GT(after.epoch, before.epoch);
    EXPECT_FALSE(arena.exported(before.slab));
    const auto header = decode_slab_header(arena.meta(before.slab).first<kSlabHeaderBytes>());
    ASSERT_TRUE(header.ok());
    EXPECT_NE(header->uuid, uuid);
    const std::span<std::byte> fresh = arena.memory_of(before.slab);
    EXPECT_EQ(fresh.data() + before.offset, secret.data());
    EXPECT_TRUE(
        std::all_of(fresh.begin(), fresh.end(), [](std::byte b) { return b == std::byte{}; }));
    std::memset(fresh.data(), 0x77, fresh.size());
    EXPECT_EQ(std::count(seen, seen + kMiB, std::byte{}), static_cast<ptrdiff_t>(kMiB))
        << "who mapped the slab before sees nothing any more, and holds no memory";
    ::munmap(old, out->bytes);
    EXPECT_NE(arena.allocate(kB, kMiB), nullptr);
  }
}

TEST(ArenaTest, a_slab_with_withheld_space_is_not_empty) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(four_slabs(false));
  ASSERT_TRUE(arena.ok());
  auto space = (*arena)->allocate(kA, kMiB);
  space->withhold();
  space.reset();
  EXPECT_TRUE((*arena)->spaces_in(0).empty());
  EXPECT_TRUE((*arena)->has_withheld(0));
  EXPECT_FALSE((*arena)->empty(0));
}

/// What a process with another user id gets when it opens the descriptor anew.
int reopen_as_somebody_else(int fd, int flags) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(99);
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    ::_exit(::open(path.c_str(), flags) >= 0 ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ArenaTest, an_exported_slab_can_only_be_read) {
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(four_slabs(false));
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ((*arena)->export_slab(0).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ((*arena)->export_slab(4).status().code(), StatusCode::kInvalidArgument);
  const auto space = (*arena)->allocate(kA, kMiB);
  StatusOr<SlabDescriptor> out = (*arena)->export_slab(0);
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  EXPECT_EQ(out->bytes, 4 * kMiB);
  EXPECT_EQ(out->file_offset, slab_data_offset(4 * kMiB));
  const int fd = out->fd.get();
  const auto offset = static_cast<off_t>(out->file_offset);
  EXPECT_EQ(::pwrite(fd, "x", 1, offset), -1);
  EXPECT_EQ(::ftruncate(fd, 0), -1);
  EXPECT_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, 4096), -1);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset), MAP_FAILED);
  void* const read_only = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, offset);
  ASSERT_NE(read_only, MAP_FAILED);
  EXPECT_EQ(::mprotect(read_only, 4096, PROT_READ | PROT_WRITE), -1);
  ::munmap(read_only, 4096);
  if (::getuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(reopen_as_somebody_else(fd, O_RDWR), 0);
  EXPECT_EQ(reopen_as_somebody_else(fd, O_WRONLY), 0);
}

TEST(ArenaTest, memory_that_a_device_may_write_to_rests_for_some_lives) {
  testing::SimKeeper keeper;
  StoreConfig config = small(64 * kMiB);
  uint64_t lives = 0;
  uint32_t block = 0;
  for (bool withheld = true; withheld && lives < 20; ++lives) {
    SlabKeeping keeping;
    keeping.keeper = &keeper;
    keeping.files = keeper.take();
    auto arena = Arena::create(config, &keeping);
    ASSERT_TRUE(arena.ok());
    if (lives > 0) (*arena)->own_kept(0, kA);
    (*arena)->settle_kept();
    if (lives > 0) withheld = (*arena)->has_withheld(0);
    auto space = (*arena)->allocate(kA, 3 * kMiB);
    ASSERT_NE(space, nullptr);
    if (lives == 0) {
      space->mark_filling();
      block = space->extents()[0].block;
    } else {
      EXPECT_EQ(space->extents()[0].block == block, !withheld) << "life " << lives;
      EXPECT_EQ((*arena)->withheld_bytes(), withheld ? 3 * kMiB : 0);
    }
    (*arena)->leave_contents();  // killed
  }
  EXPECT_EQ(lives, 10u) << "eight with it, one without";
}

TEST(StoreConfigTest, there_are_slabs_for_several_tenants) {
  const auto slab_of = [](uint64_t dram, uint64_t slab = 0) {
    StoreConfig config;
    config.dram_bytes = dram;
    config.slab_bytes = slab;
    EXPECT_TRUE(config.validate().ok()) << dram << " " << slab;
    return config.slab_size();
  };
  EXPECT_EQ(slab_of(kMiB), kMiB);
  EXPECT_EQ(slab_of(8 * kMiB), 4 * kMiB);
  EXPECT_EQ(slab_of(64 * kMiB), 8 * kMiB);
  EXPECT_EQ(slab_of(kGiB), 128 * kMiB);
  EXPECT_EQ(slab_of(64 * kGiB), 256 * kMiB);
  EXPECT_EQ(slab_of(64 * kGiB, kGiB), kGiB);
  EXPECT_EQ(slab_of(64 * kMiB, kGiB), 64 * kMiB);
  StoreConfig config;
  for (const uint64_t bad : {uint64_t{1}, kMiB + 1, 65 * kMiB, 2 * kGiB}) {
    config.slab_bytes = bad;
    EXPECT_EQ(config.validate().code(), StatusCode::kInvalidArgument) << bad;
  }
}
}  // namespace
}  // namespace terrace
