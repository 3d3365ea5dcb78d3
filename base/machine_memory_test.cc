#include "base/machine_memory.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace terrace {
namespace {

TEST(MachineMemory, IsWhatTheTextsSay) {
  EXPECT_EQ(meminfo_available("MemTotal: 100 kB\nMemAvailable:     77 kB\nX: 1 kB\n"), 77u * 1024);
  EXPECT_EQ(meminfo_available("MemTotal: 100 kB\n"), std::nullopt);
  EXPECT_EQ(meminfo_available("MemAvailable: kB\n"), std::nullopt);
  EXPECT_EQ(meminfo_available("MemAvailable: 18446744073709551615 kB\n"), std::nullopt);
  EXPECT_EQ(group_memory_left("1000\n", "300\n", ""), 700u);
  EXPECT_EQ(group_memory_left("1000\n", "3000\n", ""), 0u);
  EXPECT_EQ(group_memory_left("max\n", "300\n", ""), std::nullopt);
  EXPECT_EQ(group_memory_left("", "", ""), std::nullopt);
}

TEST(MachineMemory, PageCacheThatNobodyUsesIsNotInTheWay) {
  const std::string stat = "anon 5\nfile 900\ninactive_anon 3\ninactive_file 800\nslab 1";
  EXPECT_EQ(group_memory_left("1000\n", "950\n", stat), 850u);
  EXPECT_EQ(group_memory_left("1000\n", "700\n", stat), 1000u) << "read at another time";
  EXPECT_EQ(group_memory_left("1000\n", "1700\n", stat), 100u);
  EXPECT_EQ(group_memory_left("1000\n", "950\n", "inactive_file 1\ntotal_inactive_file 500\n"),
            550u);
  EXPECT_EQ(group_memory_left("1000\n", "950\n", "inactive_file x\n\n"), 50u);
}

/// Files, by path.
using Tree = std::map<std::string, std::string>;

std::optional<uint64_t> left_in(const Tree& tree, const std::string& groups) {
  return groups_memory_left(groups, [&](const std::string& path) {
    const auto found = tree.find(path);
    return found == tree.end() ? std::string() : found->second;
  });
}

TEST(MachineMemory, OfAUnitIsWhatTheTightestOfItsGroupsHas) {
  const std::string groups = "0::/system.slice/terraced.service\n";
  const std::string root = "/sys/fs/cgroup";
  Tree tree = {{root + "/system.slice/terraced.service/memory.max", "5000\n"},
               {root + "/system.slice/terraced.service/memory.current", "1000\n"},
               {root + "/system.slice/memory.max", "max\n"},
               {root + "/system.slice/memory.current", "7000\n"}};
  EXPECT_EQ(left_in(tree, groups), 4000u);
  tree[root + "/system.slice/memory.max"] = "9000\n";
  EXPECT_EQ(left_in(tree, groups), 2000u) << "with all others of the slice";
  tree[root + "/system.slice/terraced.service/memory.max"] = "max\n";
  EXPECT_EQ(left_in(tree, groups), 2000u);
  EXPECT_EQ(left_in(tree, "0::/system.slice/other.service"), 2000u);
  EXPECT_EQ(left_in(tree, "0::/\n"), std::nullopt);
  EXPECT_EQ(left_in(tree, ""), std::nullopt);
  EXPECT_EQ(left_in(tree, "nonsense\n0:\n::\n"), std::nullopt);
  // A container's own group, whatever its path is called.
  tree = {{root + "/memory.max", "300\n"}, {root + "/memory.current", "100\n"}};
  for (const char* path : {"0::/\n", "0::/kubepods/pod7/abc\n", "0::/../../abc\n"}) {
    EXPECT_EQ(left_in(tree, path), 200u) << path;
  }
}

TEST(MachineMemory, OfVersionOneIsTheMemoryControllers) {
  const std::string root = "/sys/fs/cgroup/memory";
  Tree tree = {{root + "/a/b/memory.limit_in_bytes", "800\n"},
               {root + "/a/b/memory.usage_in_bytes", "300\n"},
               {root + "/memory.limit_in_bytes", "9223372036854771712\n"},
               {root + "/memory.usage_in_bytes", "900\n"},
               {root + "/c/memory.limit_in_bytes", "1\n"},
               {root + "/c/memory.usage_in_bytes", "1\n"}};
  const std::string others = "12:cpu,cpuacct:/c\n11:memory_like:/c\n1:name=systemd:/c\n0::/c\n";
  EXPECT_EQ(left_in(tree, others + "9:memory:/a/b\n"), 500u);
  EXPECT_EQ(left_in(tree, others + "9:hugetlb,memory:/a/b\n"), 500u);
  EXPECT_EQ(left_in(tree, others), std::nullopt);
  tree[root + "/a/memory.limit_in_bytes"] = "700\n";
  tree[root + "/a/memory.usage_in_bytes"] = "650\n";
  EXPECT_EQ(left_in(tree, others + "9:memory:/a/b\n"), 50u);
}

TEST(MachineMemory, OfThisMachineIsMoreThanWhatIsAvailable) {
  ASSERT_TRUE(available_memory_bytes().has_value());
  EXPECT_GT(*available_memory_bytes(), 0u);
  EXPECT_LE(*available_memory_bytes(), machine_memory_bytes());
}
}  // namespace
}  // namespace terrace
