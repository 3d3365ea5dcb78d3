// Goal: devices of a data directory are recognised wherever they are: given in another order,
// moved, missing, replaced or foreign, they are never taken for each other, and an empty mount
// point never for a new device. Method: real small files in a temporary directory.
#include "storage/device_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace terrace {
namespace {

class DeviceFilesTest : public testing::Test {
 protected:
  DeviceFilesTest() {
    char name[] = "/tmp/terrace_devices_XXXXXX";
    root_ = mkdtemp(name);
    options_.directory = root_;
    options_.bytes = 4 * kMiB;
    uuid_.fill(std::byte{7});
  }
  ~DeviceFilesTest() override { std::filesystem::remove_all(root_); }
  std::string at(const std::string& name) const { return root_ + "/" + name; }
  StatusOr<std::vector<DeviceFile>> open(const std::vector<std::string>& names) {
    options_.paths.clear();
    for (const std::string& name : names) options_.paths.push_back(at(name));
    return open_device_files(options_, uuid_);
  }
  /// "0:a 1:b 2:-": places, and where they were found.
  std::string seen(const std::vector<std::string>& names) {
    const auto files = open(names);
    if (!files.ok()) return std::string(name_of(files.status().code()));
    std::string out;
    for (const DeviceFile& each : *files) {
      out += std::to_string(each.place) + ":";
      out += each.file == nullptr ? "-" : each.path.substr(root_.size() + 1);
      out += " ";
    }
    return out;
  }
  std::string root_;
  DeviceFilesOptions options_;
  Uuid uuid_{};
};

TEST_F(DeviceFilesTest, one_file_is_as_it_always_was) {
  options_.named = false;
  EXPECT_EQ(seen({"a"}), "0:a ");
  EXPECT_FALSE(std::filesystem::exists(at(kDeviceListFile)));
  std::filesystem::remove(at("a"));
  EXPECT_EQ(seen({"a"}), "0:a ") << "made anew";
  options_.named = true;
  options_.index_there = true;
  EXPECT_EQ(seen({"a"}), "0:a ") << "named later, and there";
}

TEST_F(DeviceFilesTest, a_named_file_on_a_mount_that_is_missing_is_not_made_anew) {
  EXPECT_EQ(seen({"a"}), "0:a ");
  EXPECT_TRUE(std::filesystem::exists(at(kDeviceListFile)));
  options_.index_there = true;
  std::filesystem::rename(at("a"), at("away"));
  EXPECT_EQ(open({"a"}).status().code(), StatusCode::kUnavailable);
  std::filesystem::remove(at(kDeviceListFile));  // of a build that wrote none for one device
  EXPECT_EQ(open({"a"}).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(open({"a", "b"}).status().code(), StatusCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(at("a")));
  EXPECT_FALSE(std::filesystem::exists(at("b")));
  EXPECT_EQ(seen({"away", "b"}), "0:away 1:b ") << "moved, and one more";
  std::filesystem::remove(at(kDeviceListFile));
  options_.forget_missing = true;
  EXPECT_EQ(seen({"a"}), "1:a ") << "rows of place 0 never mean it";
}

TEST_F(DeviceFilesTest, without_a_list_nothing_is_made_while_one_cannot_be_opened) {
  options_.named = false;
  EXPECT_EQ(seen({"old"}), "0:old ");
  options_.named = true;
  {
    std::fstream file(at("old"), std::ios::in | std::ios::out | std::ios::binary);
    file.write("garbage", 7);
  }
  EXPECT_EQ(open({"new", "old"}).status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(at("new")));
  options_.index_there = true;
  options_.forget_missing = true;
  EXPECT_EQ(seen({"new", "old"}), "1:new ");
}

TEST_F(DeviceFilesTest, the_last_place_starts_again_and_has_no_successor) {
  {
    DataFile::Options last;
    last.path = at("a");
    last.bytes = options_.bytes;
    last.place = DataFileIdentity::kPlaceMax;
    ASSERT_TRUE(DataFile::open(last, uuid_).ok());
  }
  EXPECT_EQ(seen({"a"}), "254:a ");
  EXPECT_EQ(seen({"a"}), "254:a ");
  EXPECT_EQ(open({"a", "b"}).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(DeviceFilesTest, devices_are_who_they_say_they_are) {
  EXPECT_EQ(seen({"a"}), "0:a ");
  EXPECT_EQ(seen({"b", "a"}), "0:a 1:b ") << "the old one keeps its place";
  EXPECT_EQ(seen({"c", "b", "a"}), "0:a 1:b 2:c ");
  EXPECT_EQ(seen({"a", "b", "c"}), "0:a 1:b 2:c ");
  std::filesystem::rename(at("a"), at("x"));
  std::filesystem::rename(at("b"), at("a"));
  EXPECT_EQ(seen({"x", "a", "c"}), "0:x 1:a 2:c ") << "moved";
}

TEST_F(DeviceFilesTest, what_is_missing_is_not_made_anew) {
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:b ");
  std::filesystem::rename(at("b"), at("away"));
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:- ");
  EXPECT_FALSE(std::filesystem::exists(at("b")));
  EXPECT_EQ(seen({"a"}), "0:a 1:- ") << "not configured is missing, too";
  EXPECT_EQ(seen({"a", "c"}), "0:a 1:- 2:c ") << "another one beside it";
  std::filesystem::rename(at("away"), at("b"));
  EXPECT_EQ(seen({"a", "b", "c"}), "0:a 1:b 2:c ");
}

TEST_F(DeviceFilesTest, what_is_forgotten_never_lends_its_place) {
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:b ");
  std::filesystem::rename(at("b"), at("away"));
  options_.forget_missing = true;
  EXPECT_EQ(seen({"a", "b"}), "0:a 2:b ");
  options_.forget_missing = false;
  EXPECT_EQ(seen({"a", "b"}), "0:a 2:b ");
  EXPECT_EQ(seen({"a", "b", "away"}), "0:a 1:away 2:b ") << "it has its place still";
}

TEST_F(DeviceFilesTest, none_there_is_no_start) {
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:b ");
  std::filesystem::remove(at("a"));
  std::filesystem::remove(at("b"));
  EXPECT_EQ(open({"a", "b"}).status().code(), StatusCode::kUnavailable);
  options_.forget_missing = true;
  EXPECT_EQ(seen({"a", "b"}), "2:a 3:b ");
}

TEST_F(DeviceFilesTest, copies_and_strangers_are_refused) {
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:b ");
  std::filesystem::copy_file(at("a"), at("copy"));
  EXPECT_EQ(open({"a", "b", "copy"}).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(open({"a", "a"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(open({}).status().code(), StatusCode::kInvalidArgument);
  std::swap(uuid_[0], uuid_[1]);
  uuid_[0] = std::byte{8};
  EXPECT_EQ(open({"a"}).status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(DeviceFilesTest, a_damaged_device_is_missing_and_a_damaged_list_is_loud) {
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:b ");
  {
    std::fstream file(at("b"), std::ios::in | std::ios::out | std::ios::binary);
    file.write("garbage", 7);
  }
  EXPECT_EQ(seen({"a", "b"}), "0:a 1:- ");
  {
    std::fstream file(at(kDeviceListFile), std::ios::in | std::ios::out | std::ios::binary);
    file.write("garbage", 7);
  }
  EXPECT_EQ(open({"a", "b"}).status().code(), StatusCode::kDataLoss);
}
}  // namespace
}  // namespace terrace
