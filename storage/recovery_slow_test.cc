// Goal: a million objects come back within five seconds.
// Method: their rows are written through the metadata store, then a store is opened on them.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "storage/chunk_store.h"
#include "tests/sim/store_world.h"

namespace terrace {
namespace {
using testing::StoreWorld;
using testing::Waiting;

MetadataRow row_at(uint64_t number) {
  MetadataRow row;
  row.ns = NamespaceId{1};
  row.generation = 1 + number;
  row.logical_bytes = 4096;
  row.stored_bytes = 8192;
  row.sections = 1;
  row.header_crc = 1;
  row.header_bytes = 4096;
  row.extents = {{static_cast<uint32_t>(256 + 2 * number), 2}};
  return row;
}

TEST(RecoverySlowTest, a_million_rows_come_back_in_five_seconds) {
  constexpr uint64_t kRows = 1'000'000;
  StoreWorld world(4, uint64_t{9} << 30);
  world.metadata_options.cache_bytes = 16 * kMiB;
  world.metadata_options.write_buffer_bytes = 8 * kMiB;
  {
    auto metadata = *MetadataStore::open(world.metadata_options, world.loop.get());
    ASSERT_TRUE(metadata->reserve_generations(10'000'000).ok());
    std::vector<std::unique_ptr<Waiting>> puts;
    Prng prng(1);
    for (uint64_t n = 0; n < kRows; ++n) {
      MetadataRow row = row_at(n);
      prng.fill(row.key.digest);
      puts.push_back(std::make_unique<Waiting>());
      ASSERT_TRUE(metadata->put(row, false, puts.back().get()).ok());
      while (puts.size() >= 4096) {
        world.loop->turn(milliseconds(1));
        std::erase_if(puts, [](const auto& put) { return put->over; });
      }
    }
    while (!puts.empty()) {
      world.loop->turn(milliseconds(1));
      std::erase_if(puts, [](const auto& put) { return put->over; });
    }
  }
  const SystemClock clock;
  const Nanos begin = clock.now();
  ASSERT_TRUE(world.start().ok());
  const double took = static_cast<double>((clock.now() - begin).count()) / 1e9;
  RecordProperty("seconds", std::to_string(took));
  EXPECT_EQ(world.store->metrics().recovered_objects.get(), kRows);
  EXPECT_LT(took, 5.0);
}
}  // namespace
}  // namespace terrace
