// Goal: an engine that registers the memory of views with a device learns of every mapping, once,
// can keep it mapped for as long as it needs, and learns when it is of no use any more. Method:
// memory files mapped as a node's would be, views made by hand.
#include "client/views.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>

#include "base/memory_file.h"

namespace terrace {
namespace {

constexpr uint64_t kBytes = 64 << 10;

std::shared_ptr<const ShmMapping> mapped() {
  const StatusOr<Fd> file = make_memory_file("views-test", kBytes);
  return std::make_shared<const ShmMapping>(*ShmMapping::map(*file, {0, kBytes}, true));
}

/// Whether the kernel has a mapping there.
bool is_mapped(const std::byte* begin) {
  unsigned char resident = 0;
  return ::mincore(const_cast<std::byte*>(begin), 4096, &resident) == 0 || errno != ENOMEM;
}

Views::Held view_in(const std::shared_ptr<const ShmMapping>& board,
                    const std::vector<std::shared_ptr<const ShmMapping>>& data) {
  Views::Held held;
  held.mappings = {board};
  held.word = board->memory().data();
  ViewedSection section;
  for (const auto& mapping : data) {
    held.mappings.push_back(mapping);
    section.pieces.push_back(mapping->at(4096, 100));
    section.spec.bytes += 100;
  }
  held.sections = {section};
  return held;
}

TEST(ViewMemoryTest, NamesWhatViewsLieInOnceAndNotTheBoard) {
  Views views;
  const auto board = mapped(), a = mapped(), b = mapped();
  EXPECT_TRUE(views.memory().empty());
  const uint64_t before = views.memory_version();
  views.add(view_in(board, {a}));
  const uint64_t first = views.memory_version();
  EXPECT_NE(first, before);
  views.add(view_in(board, {a}));
  EXPECT_EQ(views.memory_version(), first) << "nothing new";
  views.add(view_in(board, {a, b}));
  EXPECT_NE(views.memory_version(), first);
  const std::vector<ViewMemory> memory = views.memory();
  ASSERT_EQ(memory.size(), 2u);
  EXPECT_EQ(memory[0].memory.data(), a->memory().data());
  EXPECT_EQ(memory[0].memory.size(), kBytes);
  EXPECT_EQ(memory[1].memory.data(), b->memory().data());
  EXPECT_NE(memory[0].id, memory[1].id);
}

TEST(ViewMemoryTest, StaysMappedWhileItIsHeldAndIsNotNamedAnyMore) {
  Views views;
  const auto board = mapped();
  auto data = mapped();
  const ViewId view = views.add(view_in(board, {data}));
  const uint64_t version = views.memory_version();
  std::vector<ViewMemory> held = views.memory();
  ASSERT_EQ(held.size(), 1u);
  data.reset();  // the node took the memory back
  EXPECT_EQ(views.memory().size(), 1u) << "a view lies in it";
  EXPECT_EQ(views.memory_version(), version);
  views.release(view);
  EXPECT_TRUE(views.memory().empty()) << "though the engine holds it";
  EXPECT_NE(views.memory_version(), version);
  const std::byte* const begin = held[0].memory.data();
  EXPECT_TRUE(is_mapped(begin));
  EXPECT_EQ(begin[0], std::byte{0});
  held.clear();
  EXPECT_FALSE(is_mapped(begin));
}

TEST(ViewMemoryTest, IdsDoNotComeBackThoughAddressesDo) {
  Views views;
  const auto board = mapped();
  uint64_t last = 0;
  for (int i = 0; i < 50; ++i) {
    const ViewId view = views.add(view_in(board, {mapped()}));
    const std::vector<ViewMemory> memory = views.memory();
    ASSERT_EQ(memory.size(), 1u);
    EXPECT_GT(memory[0].id, last);
    last = memory[0].id;
    views.release(view);
  }
}

TEST(ViewMemoryTest, OutlivesTheClient) {
  std::vector<ViewMemory> held;
  {
    Views views;
    views.add(view_in(mapped(), {mapped()}));
    held = views.memory();
  }
  ASSERT_EQ(held.size(), 1u);
  EXPECT_TRUE(is_mapped(held[0].memory.data()));
}
}  // namespace
}  // namespace terrace
