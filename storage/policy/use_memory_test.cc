// Goal: of more objects than there is room for, those used last are kept, and the others counted.
// Method: scans by hand, and random ages against a sort.
#include "storage/policy/use_memory.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/prng.h"

namespace terrace {
namespace {

UseMemory scan_of(const std::vector<Nanos>& last_uses, Nanos now, size_t objects_max) {
  UseScan scan(now, objects_max);
  do {
    for (size_t i = 0; i < last_uses.size(); ++i) {
      scan.add(i, last_uses[i], {static_cast<uint16_t>(i + 1), 0});
    }
  } while (scan.again());
  return scan.take({});
}

TEST(UseScanTest, all_are_kept_while_there_is_room) {
  const UseMemory memory = scan_of({seconds(90), seconds(10)}, seconds(100), 2);
  ASSERT_EQ(memory.objects.size(), 2u);
  EXPECT_EQ(memory.left_out, 0u);
  EXPECT_EQ(memory.objects[0], (UseMemory::Object{0, 10'000, {1, 0}}));
  EXPECT_EQ(memory.objects[1], (UseMemory::Object{1, 90'000, {2, 0}}));
  EXPECT_TRUE(scan_of({}, seconds(1), 2).objects.empty());
}

TEST(UseScanTest, ages_have_bounds) {
  const UseMemory memory =
      scan_of({seconds(200), seconds(100) - std::chrono::hours(24 * 365)}, seconds(100), 2);
  EXPECT_EQ(memory.objects[0].age_ms, 0u) << "used while the scan ran";
  EXPECT_EQ(memory.objects[1].age_ms, ~uint32_t{0});
}

TEST(UseScanTest, the_youngest_are_kept) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Prng prng(seed);
    std::vector<Nanos> last_uses(1 + prng.below(2000));
    const Nanos now = std::chrono::hours(2000);
    for (Nanos& each : last_uses) {
      each = now - milliseconds(prng.next() >> (32 + prng.below(30)));
    }
    const size_t room = 1 + prng.below(last_uses.size());
    const UseMemory memory = scan_of(last_uses, now, room);
    ASSERT_EQ(memory.objects.size(), room) << "seed " << seed;
    EXPECT_EQ(memory.left_out, last_uses.size() - room);
    uint32_t oldest = 0;
    for (const UseMemory::Object& each : memory.objects) oldest = std::max(oldest, each.age_ms);
    std::sort(last_uses.begin(), last_uses.end(), std::greater<>());
    const Nanos wanted = now - last_uses[room - 1];
    // Ages are told apart to a quarter of an octave.
    EXPECT_LE(milliseconds(oldest), wanted + wanted / 4 + milliseconds(1)) << "seed " << seed;
  }
}
}  // namespace
}  // namespace terrace
