// Goal: the copy of the namespaces comes back as written, and a damaged one is refused.
// Method: round trips, every length and every flipped byte.
#include "storage/namespace_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "storage/durable_file.h"

namespace terrace {
namespace {

std::vector<NamespaceRow> some_rows() {
  return {{NamespaceId{1}, "alice", "chat", std::string("\0\x01 fingerprint", 14)},
          {NamespaceId{7}, "bob", "docs", ""}};
}

TEST(NamespaceFileTest, rows_come_back) {
  const auto rows = decode_namespaces(encode_namespaces(some_rows()));
  ASSERT_TRUE(rows.ok()) << rows.status().to_string();
  EXPECT_EQ(*rows, some_rows());
  EXPECT_TRUE(decode_namespaces(encode_namespaces({}))->empty());
}

TEST(NamespaceFileTest, damage_is_refused) {
  const std::string good = encode_namespaces(some_rows());
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_EQ(decode_namespaces(good.substr(0, bytes)).status().code(), StatusCode::kDataLoss);
    std::string bad = good;
    bad[bytes] = static_cast<char>(bad[bytes] ^ 0x10);
    EXPECT_EQ(decode_namespaces(bad).status().code(), StatusCode::kDataLoss) << bytes;
  }
  EXPECT_FALSE(decode_namespaces(good + "x").ok());
}

TEST(NamespaceFileTest, a_file_is_replaced_whole) {
  const std::string directory =
      (std::filesystem::temp_directory_path() / "namespace_file_test").string();
  std::filesystem::create_directories(directory);
  EXPECT_EQ(read_namespaces(directory + "/none").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(write_namespaces(directory, {}).ok());
  ASSERT_TRUE(write_namespaces(directory, some_rows()).ok());
  EXPECT_EQ(*read_namespaces(directory), some_rows());
  EXPECT_FALSE(std::filesystem::exists(directory + "/" + kNamespaceFile + ".new"));
  EXPECT_EQ(read_whole(directory + "/" + kNamespaceFile, 3).status().code(), StatusCode::kDataLoss);
  std::filesystem::remove_all(directory);
  EXPECT_FALSE(write_namespaces(directory, {}).ok());
}
}  // namespace
}  // namespace terrace
