// Goal: lists of CPUs mean what the kernel means by them; a pinned thread stays where it was put;
// memory can be asked for on a NUMA node. Method: tables; this machine's own CPUs and node 0.
#include "base/cpu.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>

#include <thread>

namespace terrace {
namespace {

using Cpus = std::vector<uint32_t>;

TEST(CpuList, ReadsAndWritesTheKernelsForm) {
  EXPECT_EQ(*parse_cpu_list(""), Cpus{});
  EXPECT_EQ(*parse_cpu_list("0"), Cpus{0});
  EXPECT_EQ(*parse_cpu_list("8,0-3,2"), (Cpus{0, 1, 2, 3, 8}));
  EXPECT_EQ(format_cpu_list(Cpus{}), "");
  EXPECT_EQ(format_cpu_list(Cpus{0, 1, 2, 3, 8}), "0-3,8");
  EXPECT_EQ(format_cpu_list(Cpus{5, 7, 8}), "5,7-8");
}

TEST(CpuList, RefusesWhatIsNone) {
  for (const char* text : {",", "1,", ",1", "a", "1-", "-1", "3-1", "1--2", "0 ", "8192", "0-8192",
                           "99999999999999999999"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(parse_cpu_list(text).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(Pinning, AThreadStaysWhereItWasPut) {
  const Cpus all = cpus_of_this_thread();
  ASSERT_FALSE(all.empty());
  std::thread([&] {
    for (const uint32_t cpu : {all.front(), all.back()}) {
      ASSERT_TRUE(pin_this_thread(Cpus{cpu}).ok());
      EXPECT_EQ(cpus_of_this_thread(), Cpus{cpu});
      EXPECT_EQ(::sched_getcpu(), static_cast<int>(cpu));
    }
  }).join();
  EXPECT_EQ(cpus_of_this_thread(), all) << "other threads are where they were";
}

TEST(Pinning, CpusThatAreNotThereAreRefusedByName) {
  const Status status = pin_this_thread(Cpus{kCpusMax - 1});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("8191"), std::string::npos);
  EXPECT_NE(status.message().find(format_cpu_list(cpus_of_this_thread())), std::string::npos);
}

TEST(Numa, MemoryIsAskedForOnANode) {
  constexpr size_t kBytes = 1 << 20;
  void* const at =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(at, MAP_FAILED);
  const std::span memory(static_cast<std::byte*>(at), kBytes);
  const Status preferred = prefer_numa_node(memory, 0);
  if (preferred.code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << preferred.to_string();  // a container may forbid it
  }
  EXPECT_TRUE(preferred.ok()) << preferred.to_string();
  std::fill(memory.begin(), memory.end(), std::byte{1});
  EXPECT_EQ(prefer_numa_node(memory, 5000).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(prefer_numa_node(memory, 1023).code(), StatusCode::kUnavailable) << "no such node";
  ::munmap(at, kBytes);
}

TEST(Numa, NothingToChooseIsNoNode) {
  EXPECT_FALSE(numa_node_of(Cpus{}).has_value());
  EXPECT_FALSE(numa_node_of(Cpus{kCpusMax - 1}).has_value());
}
}  // namespace
}  // namespace terrace
