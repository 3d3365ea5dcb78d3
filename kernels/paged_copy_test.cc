// Goal: the CPU twin, which is the oracle of the kernel, puts every byte where its block table says
// and touches nothing else; what is wrong is named before it reaches a device. Method: shapes from
// seeds against an index-by-index model; each rule of the check broken once.
#include "kernels/paged_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/buffer.h"
#include "base/prng.h"

namespace terrace {
namespace {

constexpr std::byte kUntouched{0xA5};

/// A pool and chunks of some shape, with a block table without repetitions.
struct World {
  World(uint64_t seed, uint32_t planes_n, uint32_t chunks_n, uint32_t blocks, uint64_t block_bytes)
      : prng(seed), stride(block_bytes + 16 * prng.below(3)) {
    copy.plane_count = planes_n;
    copy.chunk_count = chunks_n;
    copy.blocks_per_chunk = blocks;
    copy.block_bytes = block_bytes;
    copy.pool_blocks = chunks_n * blocks + static_cast<uint32_t>(prng.below(5));
    for (uint32_t p = 0; p < planes_n; ++p) {
      pools.push_back(*AlignedBuffer::allocate(copy.pool_blocks * stride + 16));
      planes.push_back({pools.back().span().data(), stride});
    }
    for (uint32_t c = 0; c < chunks_n; ++c) {
      staged.push_back(*AlignedBuffer::allocate(planes_n * blocks * block_bytes));
      for (uint32_t p = 0; p < planes_n; ++p) {
        staged_planes.push_back(staged.back().span().data() + p * blocks * block_bytes);
      }
    }
    std::vector<uint32_t> free(copy.pool_blocks);
    for (uint32_t b = 0; b < copy.pool_blocks; ++b) free[b] = b;
    for (uint32_t i = 0; i < chunks_n * blocks; ++i) {
      const size_t at = prng.below(free.size());
      ids.push_back(free[at]);
      free.erase(free.begin() + static_cast<std::ptrdiff_t>(at));
    }
    copy.planes = planes.data();
    copy.staged = staged_planes.data();
    copy.block_ids = ids.data();
  }
  void fill(std::vector<AlignedBuffer>* buffers) {
    for (AlignedBuffer& buffer : *buffers) prng.fill(buffer.span());
  }
  static void wipe(std::vector<AlignedBuffer>* buffers) {
    for (AlignedBuffer& buffer : *buffers) {
      std::fill(buffer.span().begin(), buffer.span().end(), kUntouched);
    }
  }
  /// Byte `i` of block `b` of a plane of a chunk.
  std::byte in_chunk(uint32_t c, uint32_t p, uint32_t b, uint64_t i) const {
    return staged_planes[c * copy.plane_count + p][b * copy.block_bytes + i];
  }

  Prng prng;
  uint64_t stride;
  PagedCopy copy;
  std::vector<AlignedBuffer> pools, staged;
  std::vector<PagedPlane> planes;
  std::vector<std::byte*> staged_planes;
  std::vector<uint32_t> ids;
};

World small(uint64_t seed) {
  Prng prng(seed);
  const auto some = [&prng](uint64_t most) { return static_cast<uint32_t>(1 + prng.below(most)); };
  return World(seed, some(6), some(3), some(5), 16 * some(20));
}

TEST(PagedCopyTest, ScatterPutsEveryByteInItsBlockAndNoneElsewhere) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    World world = small(seed);
    world.fill(&world.staged);
    World::wipe(&world.pools);
    const uint32_t skipped = world.ids[0];
    if (seed % 3 == 0) world.ids[0] = kNoBlock;
    ASSERT_EQ(check_paged_copy(world.copy), "") << "seed " << seed;
    paged_copy_on_cpu(world.copy, PagedDirection::scatter);
    for (uint32_t p = 0; p < world.copy.plane_count; ++p) {
      const std::span<std::byte> pool = world.pools[p].span();
      std::vector<std::byte> wanted(pool.size(), kUntouched);
      for (uint32_t n = 0; n < world.ids.size(); ++n) {
        if (world.ids[n] == kNoBlock) continue;
        for (uint64_t i = 0; i < world.copy.block_bytes; ++i) {
          wanted[world.ids[n] * world.stride + i] = world.in_chunk(
              n / world.copy.blocks_per_chunk, p, n % world.copy.blocks_per_chunk, i);
        }
      }
      ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), pool.begin()))
          << "seed " << seed << " plane " << p << " skipped " << skipped;
    }
  }
}

TEST(PagedCopyTest, GatherIsItsInverseAndPassesOverWhatIsNotThere) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    World world = small(seed);
    world.fill(&world.staged);
    std::vector<std::vector<std::byte>> wanted;
    const uint64_t bytes =
        world.copy.block_bytes * world.copy.blocks_per_chunk * world.copy.plane_count;
    for (AlignedBuffer& chunk : world.staged) {  // which may be longer
      const std::span<std::byte> held = chunk.span().first(bytes);
      wanted.emplace_back(held.begin(), held.end());
    }
    paged_copy_on_cpu(world.copy, PagedDirection::scatter);
    World::wipe(&world.staged);
    world.ids.back() = kNoBlock;
    paged_copy_on_cpu(world.copy, PagedDirection::gather);
    const uint32_t blocks = world.copy.blocks_per_chunk;
    for (uint32_t p = 0; p < world.copy.plane_count; ++p) {
      const uint64_t at = (uint64_t{p} * blocks + blocks - 1) * world.copy.block_bytes;
      std::fill_n(wanted.back().begin() + static_cast<std::ptrdiff_t>(at), world.copy.block_bytes,
                  kUntouched);
    }
    for (size_t c = 0; c < wanted.size(); ++c) {
      ASSERT_TRUE(std::equal(wanted[c].begin(), wanted[c].end(), world.staged[c].data()))
          << "seed " << seed << " chunk " << c;
    }
  }
}

TEST(PagedCopyTest, WhatIsWrongIsNamed) {
  const auto said = [](auto change) {
    World world(1, 2, 2, 3, 64);
    change(&world);
    return check_paged_copy(world.copy);
  };
  EXPECT_EQ(said([](World*) {}), "");
  EXPECT_NE(said([](World* w) { w->copy.block_bytes = 60; }).find("60 bytes"), std::string::npos);
  EXPECT_NE(said([](World* w) { w->copy.block_bytes = 0; }), "");
  EXPECT_NE(said([](World* w) { w->planes[1].pool += 8; }).find("plane 1"), std::string::npos);
  EXPECT_NE(said([](World* w) { w->planes[1].block_stride = 48; }).find("overlap"),
            std::string::npos);
  EXPECT_NE(said([](World* w) { w->staged_planes[3] += 4; }).find("chunk 1, plane 1"),
            std::string::npos);
  EXPECT_NE(said([](World* w) { w->ids[4] = w->copy.pool_blocks; }).find("chunk 1, block 1"),
            std::string::npos);
}

TEST(PagedCopyTest, NothingIsFine) {
  World world(1, 1, 1, 1, 16);
  world.copy.chunk_count = 0;
  EXPECT_EQ(check_paged_copy(world.copy), "");
  paged_copy_on_cpu(world.copy, PagedDirection::scatter);
}
}  // namespace
}  // namespace terrace
