// Goal: a real node over two data files finds what it has on both after a kill; with one of them
// taken away it starts, misses what lay there, stores on the other, and has everything again when
// the file is back. Method: real processes and files; every fetched byte compared.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {
constexpr uint64_t kBytes = 300'000;
constexpr int kObjects = 40;

class Devices : public testing::Test {
 protected:
  std::vector<std::string> flags() const {
    return {"--data-directory", scratch_.path(),
            "--data-file",      a_ + "," + b_,
            "--nvme-bytes",     "64MiB",
            "--dram-bytes",     "32MiB",
            "--scrub-period-s", "0"};
  }
  int found(TestClient* client) {
    int count = 0;
    for (int i = 0; i < kObjects; ++i) {
      count += client->fetch(std::to_string(i), kBytes) == StatusCode::kOk ? 1 : 0;
    }
    return count;
  }
  ScratchDirectory scratch_;
  const std::string a_ = scratch_.path() + "/a.dat";
  const std::string b_ = scratch_.path() + "/b.dat";
};

TEST_F(Devices, one_of_two_files_goes_and_comes_back) {
  {
    NodeProcess node(flags());
    TestClient client(node.endpoint());
    for (int i = 0; i < kObjects; ++i) {
      ASSERT_EQ(client.put(std::to_string(i), kBytes, Durability::nvme), StatusCode::kOk) << i;
    }
    node.kill();
  }
  {
    NodeProcess node(flags());
    TestClient client(node.endpoint());
    EXPECT_EQ(found(&client), kObjects);
    node.kill();
  }
  std::filesystem::rename(b_, scratch_.path() + "/away");
  {
    NodeProcess node(flags());
    TestClient client(node.endpoint());
    const int there = found(&client);
    EXPECT_GT(there, kObjects / 5);
    EXPECT_LT(there, kObjects * 4 / 5);
    ASSERT_EQ(client.put("another", kBytes, Durability::nvme), StatusCode::kOk);
    node.kill();
  }
  EXPECT_FALSE(std::filesystem::exists(b_)) << "not made anew";
  std::filesystem::rename(scratch_.path() + "/away", b_);
  NodeProcess node(flags());
  TestClient client(node.endpoint());
  EXPECT_EQ(found(&client), kObjects);
  EXPECT_EQ(client.fetch("another", kBytes), StatusCode::kOk);
}
}  // namespace
}  // namespace terrace::e2e
