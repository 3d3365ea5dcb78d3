// Goal: slabs come and go while the machine has no memory for some of them. Method: the arena's own
// thread, and a limit on the size of files, which slabs are.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "storage/arena.h"
#include "storage/slab.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace terrace {
namespace {
constexpr DomainId kA{1};
constexpr DomainId kB{2};

/// No file can be as large as a slab meanwhile, so none gets memory.
struct SmallFiles {
  SmallFiles() {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit small = before;
    small.rlim_cur = kMiB;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  ~SmallFiles() { EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0); }
  rlimit before{};
};

TEST(ArenaSizeTest, a_slab_that_gets_no_memory_does_not_keep_others_from_giving_theirs_back) {
  StoreConfig config;
  config.dram_bytes = 16 * kMiB;
  config.slab_bytes = 4 * kMiB;
  StatusOr<std::unique_ptr<Arena>> made = Arena::create(config);
  ASSERT_TRUE(made.ok());
  Arena& arena = **made;
  while (!arena.populated()) std::this_thread::yield();
  arena.allocate(kA, 4096).reset();  // a slab of A's, empty
  const uint32_t taken = arena.holding(kA).slabs.at(0);
  arena.retire(taken);
  {
    const SmallFiles none;
    arena.replace(taken, kB);
    while (arena.replace_failures() == 0) std::this_thread::yield();
    const std::optional<uint32_t> given_back = arena.retire_unowned();
    ASSERT_TRUE(given_back);
    arena.replace(*given_back, kNobody);
    EXPECT_EQ(arena.capacity_bytes(), 12 * kMiB);
    std::vector<Arena::Replaced> over;
    while (over.empty()) over = arena.replaced();
    EXPECT_EQ(over[0].slab, *given_back);
    EXPECT_FALSE(over[0].present);
    const uint64_t failures = arena.replace_failures();
    ASSERT_TRUE(arena.add());
    over.clear();
    while (over.empty()) over = arena.replaced();
    EXPECT_FALSE(over[0].present) << "once";
    EXPECT_GT(arena.replace_failures(), failures);
  }
  std::vector<Arena::Replaced> over;
  while (over.empty()) over = arena.replaced();
  EXPECT_EQ(over[0].slab, taken);
  EXPECT_TRUE(over[0].present) << "it was tried again";
  EXPECT_EQ(arena.capacity_bytes(), 12 * kMiB);
  ASSERT_TRUE(arena.add());
  over.clear();
  while (over.empty()) over = arena.replaced();
  EXPECT_TRUE(over[0].present);
  EXPECT_EQ(arena.capacity_bytes(), 16 * kMiB);
}
/// The file of a slab is too short, so the last of its pages cannot be had: as when the machine has
/// none.
TEST(ArenaSizeTest, memory_that_the_machine_has_not_is_an_error_and_no_signal) {
  constexpr uint64_t kSlab = 4 * kMiB;
  void* const place =
      ::mmap(nullptr, kSlab, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(place, MAP_FAILED);
  if (::madvise(place, 0, MADV_POPULATE_WRITE) != 0) GTEST_SKIP() << "the kernel is too old";
  {
    SlabMemory slab(static_cast<std::byte*>(place), 0, kSlab, false, std::nullopt);
    Fd file(::memfd_create("slab", MFD_CLOEXEC));
    const uint64_t whole = slab_data_offset(kSlab) + kSlab;
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(whole - kMiB)), 0);
    const Fd same(::dup(file.get()));
    SlabHeader header;
    header.data_bytes = kSlab;
    ASSERT_TRUE(slab.adopt(&file, header).ok());
    const std::atomic<bool> stop{false};
    std::atomic<uint64_t> locked{0};
    const Status said = slab.populate(true, stop, &locked);
    EXPECT_EQ(said.code(), StatusCode::kResourceExhausted) << said.to_string();
    EXPECT_NE(said.message().find(std::to_string(kSlab)), std::string::npos) << said.to_string();
    ASSERT_EQ(::ftruncate(same.get(), static_cast<off_t>(whole)), 0);
    EXPECT_EQ(slab.populate(false, stop, &locked).to_string(), "OK") << "it has some now";
    slab.drop(&locked);
    EXPECT_EQ(locked.load(), 0u);
  }
  ::munmap(place, kSlab);
}
}  // namespace
}  // namespace terrace
