#include "base/machine_memory.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

TEST(MachineMemory, IsWhatTheTextsSay) {
  EXPECT_EQ(meminfo_available("MemTotal: 100 kB\nMemAvailable:     77 kB\nX: 1 kB\n"), 77u * 1024);
  EXPECT_EQ(meminfo_available("MemTotal: 100 kB\n"), std::nullopt);
  EXPECT_EQ(meminfo_available("MemAvailable: kB\n"), std::nullopt);
  EXPECT_EQ(meminfo_available("MemAvailable: 18446744073709551615 kB\n"), std::nullopt);
  EXPECT_EQ(group_memory_left("1000\n", "300\n"), 700u);
  EXPECT_EQ(group_memory_left("1000\n", "3000\n"), 0u);
  EXPECT_EQ(group_memory_left("max\n", "300\n"), std::nullopt);
  EXPECT_EQ(group_memory_left("", ""), std::nullopt);
}

TEST(MachineMemory, OfThisMachineIsMoreThanWhatIsAvailable) {
  ASSERT_TRUE(available_memory_bytes().has_value());
  EXPECT_GT(*available_memory_bytes(), 0u);
  EXPECT_LE(*available_memory_bytes(), machine_memory_bytes());
}
}  // namespace
}  // namespace terrace
