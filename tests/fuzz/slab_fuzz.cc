// Goal: whatever the directory of a slab says that an earlier run left, taking it back neither
// crashes nor gives a block to two objects, and afterwards the directory says what was taken and
// nothing else. Method: entries from the input are written into the slabs of an arena, which takes
// back what it can; then the directories are walked again. The packets of a keeper are decoded,
// too.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "server/node/keeper_protocol.h"
#include "storage/arena.h"

namespace terrace {
namespace {

constexpr DomainId kTenant{1};
constexpr uint64_t kSlabs = 2;
constexpr uint64_t kSlabBlocks = kMiB / 4096;

class Files final : public SlabKeeper {
 public:
  Status keep(const std::string& name, const Fd& file) override {
    files_.push_back({name, Fd(::dup(file.get()))});
    return ok_status();
  }
  void forget(const std::string& name) override {
    std::erase_if(files_, [&](const KeptFile& each) { return each.name == name; });
  }
  std::unique_ptr<Arena> arena() {
    StoreConfig config;
    config.dram_bytes = kSlabs * kMiB;
    config.slab_bytes = kMiB;
    config.populate_memory = false;
    config.huge_pages = false;
    SlabKeeping keeping;
    keeping.keeper = this;
    for (const KeptFile& each : files_) {
      keeping.files.push_back({each.name, Fd(::dup(each.file.get()))});
    }
    auto made = Arena::create(config, &keeping);
    TERRACE_CHECK(made.ok());
    return *std::move(made);
  }

 private:
  std::vector<KeptFile> files_;
};

/// 12 bytes a time: which entry, its blocks, where it goes on, its commit word.
void write_entries(std::string_view input, const SlabDirectories& directories) {
  for (const std::span<SlabDirectoryEntry> slab : directories.slabs) {
    for (SlabDirectoryEntry& entry : slab) {
      entry.blocks = entry.next = 0;
      entry.commit.store(0);
    }
  }
  for (ByteReader in(input); in.left() >= 12;) {
    SlabDirectoryEntry* const entry = directories.entry(in.u16() % (kSlabs * kSlabBlocks));
    const uint16_t blocks = in.u16();
    const uint32_t next = in.u32();
    const uint32_t commit = in.u32();
    entry->blocks = blocks == 0xFFFF ? ~uint32_t{0} : blocks;
    entry->next = next;
    entry->commit.store(commit);
  }
}

void try_directories(std::string_view input) {
  static Files files;
  static const bool made = files.arena() != nullptr;  // the slabs
  TERRACE_CHECK(made);
  const std::unique_ptr<Arena> arena = files.arena();
  TERRACE_CHECK(arena->kept_count() == kSlabs);
  write_entries(input, arena->kept_directories());
  for (uint32_t slab = 0; slab < kSlabs; ++slab) arena->own_kept(slab, kTenant);
  std::vector<std::shared_ptr<ArenaSpace>> taken;
  std::vector<bool> used(kSlabs * kSlabBlocks, false);
  walk_directories(arena->kept_directories(), [&](const WalkedObject& object) {
    uint64_t bytes = 0;
    for (const Extent& extent : object.extents) {
      TERRACE_CHECK(uint64_t{extent.block} + extent.blocks <= used.size());
      bytes += extent.bytes();
    }
    auto space = arena->take_back(kTenant, bytes, object.extents);
    if (space == nullptr) return;
    for (const Extent& extent : object.extents) {
      for (uint32_t i = 0; i < extent.blocks; ++i) {
        TERRACE_CHECK(!used[extent.block + i]);
        used[extent.block + i] = true;
      }
    }
    taken.push_back(std::move(space));
  });
  arena->settle_kept();
  size_t again = 0;
  const uint64_t bad =
      walk_directories(arena->kept_directories(), [&](const WalkedObject&) { ++again; });
  TERRACE_CHECK(bad == 0 && again == taken.size());
}

void try_packets(std::string_view input) {
  if (const auto request = decode_keeper_request(input); request.ok()) {
    TERRACE_CHECK(encode(*request) == input);
  }
  if (const auto reply = decode_keeper_reply(input); reply.ok()) {
    TERRACE_CHECK(decode_keeper_reply(encode(*reply)).ok());
  }
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  terrace::try_packets(input);
  terrace::try_directories(input);
  return 0;
}

/// An object of one extent; one of two in both slabs; packets.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  ByteWriter seed;
  const auto entry = [&seed](uint16_t block, uint16_t blocks, uint32_t next, uint32_t commit) {
    seed.u16(block);
    seed.u16(blocks);
    seed.u32(next);
    seed.u32(commit);
  };
  if (i == 0) {
    entry(4, 4, SlabDirectoryEntry::kLast, 7);
  } else if (i == 1) {
    entry(0, 256, 256, 8);
    entry(256, 8, 270, 0);
    entry(270, 1, SlabDirectoryEntry::kLast, 0);
  } else if (i == 2) {
    KeeperRequest request;
    request.verb = KeeperVerb::keep;
    request.name = "slab-0";
    seed.raw(encode(request));
  } else if (i == 3) {
    seed.raw(encode(KeeperReply{StatusCode::kNotFound, "none"}));
  }
  const std::string bytes = seed.take();
  TERRACE_CHECK(bytes.size() <= out_max);
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return bytes.size();
}
