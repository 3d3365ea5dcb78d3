// Goal: a process that is killed at any instruction leaves slabs in which every committed object is
// whole, every one that was acknowledged is there, and none that was given up. Method: a child
// works on an arena and says in shared memory what it was promised; its parent steps it instruction
// by instruction and looks at the slab each time as a restarted node would. The canary commits
// before its bytes are there, and must be caught.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/arena.h"
#include "tests/sim/sim_keeper.h"

namespace terrace::testing {
namespace {

constexpr DomainId kTenant{1};
constexpr size_t kObjects = 14;
constexpr uint64_t kStride = 512;  // a word in so many bytes: every store is a stop of the child

/// What the child was told of object n, whose generation is n: 0 is nobody's.
enum class Told : uint8_t { nothing, there, gone };
struct Shared {
  std::array<std::atomic<Told>, kObjects> told{};
  std::array<std::atomic<uint64_t>, kObjects> bytes{};
};

StoreConfig tiny() {
  StoreConfig config;
  config.dram_bytes = kMiB;
  config.slab_bytes = kMiB;
  config.populate_memory = false;
  config.huge_pages = false;
  return config;
}

class EveryInstruction : public ::testing::Test {
 protected:
  EveryInstruction() {
    void* const at =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_ = new (at) Shared();
    SlabKeeping keeping = kept();
    EXPECT_TRUE(Arena::create(tiny(), &keeping).ok());  // makes the slab
    file_ = &keeper_.files.at(0).file;
    view_ = static_cast<std::byte*>(
        ::mmap(nullptr, slab_data_offset(kMiB) + kMiB, PROT_READ, MAP_SHARED, file_->get(), 0));
  }
  ~EveryInstruction() override {
    ::munmap(view_, slab_data_offset(kMiB) + kMiB);
    ::munmap(shared_, sizeof(Shared));
  }
  SlabKeeping kept() {
    SlabKeeping keeping;
    keeping.keeper = &keeper_;
    keeping.files = keeper_.take();
    return keeping;
  }

  /// Runs `work` in a child, and from its begin() on looks at the slab before each instruction. The
  /// first thing that is wrong; empty: nothing. `steps`: how many instructions there were.
  std::string watch(const std::function<void()>& work, uint64_t* steps) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);  // then nothing was seen
      work();
      ::_exit(0);
    }
    int status = 0;
    std::string wrong;
    while (::waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
      const int expected = *steps == 0 ? SIGSTOP : SIGTRAP;
      wrong = WSTOPSIG(status) == expected ? look() : "the child failed";
      if (!wrong.empty()) break;
      ++*steps;
      if (::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) break;
    }
    if (WIFSTOPPED(status)) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return wrong.empty() ? "this machine cannot step a child" : wrong;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "the child failed";
  }
  static void begin() { ::raise(SIGSTOP); }

  /// As a restarted node would see it now.
  std::string look() const {
    auto* const entries = reinterpret_cast<SlabDirectoryEntry*>(view_ + kSlabHeaderBytes);
    const SlabDirectories directories{kMiB / 4096, {{entries, kMiB / 4096}}};
    std::array<bool, kObjects> found{};
    std::string wrong;
    const uint64_t bad = walk_directories(directories, [&](const WalkedObject& object) {
      if (object.generation >= kObjects) wrong = "an unknown generation";
      if (!wrong.empty()) return;
      found[object.generation] = true;
      uint64_t bytes = 0;
      for (const Extent& extent : object.extents) {
        const std::byte* const at = view_ + slab_data_offset(kMiB) + extent.offset();
        bytes += extent.bytes();
        for (uint64_t offset = 0; offset < extent.bytes(); offset += kStride) {
          if (*reinterpret_cast<const uint64_t*>(at + offset) == object.generation) continue;
          wrong = "object " + std::to_string(object.generation) + " is not whole";
        }
      }
      if (bytes != shared_->bytes[object.generation].load()) {
        wrong = "object " + std::to_string(object.generation) + " has another size";
      }
    });
    if (bad > 0) wrong = "a directory that does not add up";
    for (size_t n = 1; n < kObjects && wrong.empty(); ++n) {
      const Told told = shared_->told[n].load();
      if (told == Told::there && !found[n]) wrong = "object " + std::to_string(n) + " is lost";
      if (told == Told::gone && found[n]) wrong = "object " + std::to_string(n) + " is back";
    }
    return wrong;
  }

  std::shared_ptr<ArenaSpace> fill(Arena* arena, size_t n, uint64_t blocks) {
    auto space = arena->allocate(kTenant, blocks * 4096);
    if (space == nullptr) ::_exit(2);
    shared_->bytes[n].store(space->allocated_bytes());
    for (const Extent& extent : space->extents()) {
      for (uint64_t offset = 0; offset < extent.bytes(); offset += kStride) {
        *reinterpret_cast<volatile uint64_t*>(arena->at(extent.block) + offset) = n;
      }
    }
    return space;
  }
  void commit(ArenaSpace* space, size_t n) {
    space->commit(n);
    shared_->told[n].store(Told::there);
  }
  void uncommit(ArenaSpace* space, size_t n) {
    shared_->told[n].store(Told::nothing);
    space->uncommit();
    shared_->told[n].store(Told::gone);
  }
  std::unique_ptr<Arena> take_arena() {
    SlabKeeping keeping = kept();
    auto arena = Arena::create(tiny(), &keeping);
    if (!arena.ok()) ::_exit(3);
    if ((*arena)->kept_count() != 1) ::_exit(4);
    return *std::move(arena);
  }

  SimKeeper keeper_;
  Shared* shared_ = nullptr;
  const Fd* file_ = nullptr;
  std::byte* view_ = nullptr;
};

TEST_F(EveryInstruction, of_puts_erases_and_evictions_leaves_whole_objects) {
  uint64_t steps = 0;
  const std::string wrong = watch(
      [this] {
        const std::unique_ptr<Arena> arena = take_arena();
        arena->settle_kept();
        std::vector<std::shared_ptr<ArenaSpace>> spaces(kObjects);
        begin();
        // More than fits: the later ones lie where earlier ones did, in pieces.
        for (size_t n = 1; n < kObjects; ++n) {
          if (n > 5) {  // an erase with a reader, or an eviction without one
            uncommit(spaces[n - 5].get(), n - 5);
            spaces[n - 5].reset();
          }
          spaces[n] = fill(arena.get(), n, 3 + n * 7 % 40);
          commit(spaces[n].get(), n);
        }
        arena->leave_contents();
      },
      &steps);
  RecordProperty("steps", static_cast<int>(steps));
  EXPECT_EQ(wrong, "") << "after " << steps << " instructions";
  EXPECT_GT(steps, 10'000u);
}

TEST_F(EveryInstruction, of_taking_back_leaves_what_was_there) {
  uint64_t ignored = 0;
  const auto live_once = [this] {
    const std::unique_ptr<Arena> arena = take_arena();
    arena->settle_kept();
    begin();
    std::vector<std::shared_ptr<ArenaSpace>> spaces;
    for (size_t n = 1; n <= 4; ++n) {
      spaces.push_back(fill(arena.get(), n, 2 + n));
      commit(spaces.back().get(), n);
    }
    uncommit(spaces[1].get(), 2);
    arena->leave_contents();
  };
  ASSERT_EQ(watch(live_once, &ignored), "");
  uint64_t steps = 0;
  const std::string wrong = watch(
      [this] {
        begin();
        const std::unique_ptr<Arena> arena = take_arena();
        std::vector<std::shared_ptr<ArenaSpace>> spaces;
        arena->own_kept(0, kTenant);
        walk_directories(arena->kept_directories(), [&](const WalkedObject& object) {
          uint64_t bytes = 0;
          for (const Extent& extent : object.extents) bytes += extent.bytes();
          spaces.push_back(arena->take_back(kTenant, bytes, object.extents));
          if (spaces.back() == nullptr) ::_exit(5);
        });
        if (spaces.size() != 3) ::_exit(6);
        arena->settle_kept();
        arena->leave_contents();
      },
      &steps);
  EXPECT_EQ(wrong, "") << "after " << steps << " instructions";
  EXPECT_GT(steps, 3'000u);
}

TEST_F(EveryInstruction, the_canary_that_commits_too_early_is_caught) {
  uint64_t steps = 0;
  const std::string wrong = watch(
      [this] {
        const std::unique_ptr<Arena> arena = take_arena();
        arena->settle_kept();
        begin();
        auto space = arena->allocate(kTenant, 3 * 4096);
        shared_->bytes[1].store(space->allocated_bytes());
        commit(space.get(), 1);
        *reinterpret_cast<volatile uint64_t*>(arena->at(space->extents()[0].block)) = 1;
        arena->leave_contents();
      },
      &steps);
  EXPECT_EQ(wrong, "object 1 is not whole");
}
}  // namespace
}  // namespace terrace::testing
