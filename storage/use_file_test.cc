// Goal: what was learned of uses survives its file, and no file harms a start. Method: golden
// bytes, round trips, every cut and every flipped bit; writers that are killed at every few bytes.
#include "storage/use_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/crc32c.h"
#include "base/prng.h"

namespace terrace {
namespace {

UseFile example() {
  UseFile file;
  file.taken_s = 1'700'000'000;
  file.memory.left_out = 3;
  file.memory.model = {0.5, 20};
  file.memory.objects = {{0x0102030405060708, 1000, {2, 5}}, {9, ~uint32_t{0}, {0xFFFF, 63}}};
  return file;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[b >> 4];
    out += "0123456789abcdef"[b & 15];
  }
  return out;
}

std::string sealed(std::string bytes) {
  const uint32_t crc = crc32c(std::as_bytes(std::span(bytes.data(), bytes.size() - 4)));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  return bytes;
}

TEST(UseFileTest, golden_bytes) {
  const std::string bytes = encode_uses(example());
  EXPECT_EQ(bytes.substr(0, 13), "terrace uses ");
  EXPECT_EQ(hex(std::string_view(bytes).substr(13, bytes.size() - 17)),
            "0100"
            "00f1536500000000"
            "0300000000000000"
            "02000000"
            "02000000"
            "000000000000e03f"
            "0000000000003440"
            "0807060504030201e803000002000500"
            "0900000000000000ffffffffffff3f00");
}

TEST(UseFileTest, comes_back_as_it_was) {
  EXPECT_EQ(*decode_uses(encode_uses(example())), example());
  EXPECT_EQ(*decode_uses(encode_uses({})), UseFile());
}

TEST(UseFileTest, damage_anywhere_is_seen) {
  const std::string bytes = encode_uses(example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const StatusCode code = decode_uses(bad).status().code();
    EXPECT_TRUE(code == StatusCode::kDataLoss || code == StatusCode::kFailedPrecondition) << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(decode_uses(bytes.substr(0, size)).status().code(), StatusCode::kDataLoss) << size;
  }
  EXPECT_EQ(decode_uses(bytes + "x").status().code(), StatusCode::kDataLoss);
}

TEST(UseFileTest, what_is_never_written_is_refused_though_its_checksum_is_right) {
  const std::string good = encode_uses(example());
  const size_t object = 13 + 2 + 8 + 8 + 4 + 4 + 16;
  const auto changed = [&](size_t at, char to) {
    std::string bytes = good;
    bytes[at] = to;
    return decode_uses(sealed(bytes)).status().code();
  };
  EXPECT_EQ(changed(object + 12, 0), StatusCode::kDataLoss) << "an object of no uses";
  EXPECT_EQ(changed(object + 14, 64), StatusCode::kDataLoss) << "a gap of no octave";
  EXPECT_EQ(changed(object + 15, 1), StatusCode::kDataLoss) << "reserved";
  EXPECT_EQ(changed(22, '\x7F'), StatusCode::kDataLoss) << "an impossible time";
  EXPECT_EQ(changed(34, '\x7F'), StatusCode::kDataLoss) << "more numbers than there may be";
  EXPECT_EQ(changed(38, '\x7F'), StatusCode::kDataLoss) << "more objects than there may be";
  EXPECT_EQ(changed(13, 0), StatusCode::kDataLoss) << "version 0";
  EXPECT_EQ(changed(13, 2), StatusCode::kFailedPrecondition) << "a later version";
}

class UseDirectory : public testing::Test {
 protected:
  UseDirectory() {
    path_ = testing::TempDir() + "terrace_uses_" + std::to_string(::getpid());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~UseDirectory() override { std::filesystem::remove_all(path_); }
  std::string path_;
};

TEST_F(UseDirectory, is_replaced_whole) {
  EXPECT_EQ(read_uses(path_).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(write_uses(path_, example()).ok());
  EXPECT_EQ(*read_uses(path_), example());
  // A node that ended in the middle of the next one.
  std::ofstream(path_ + "/" + kUseFile + ".new") << encode_uses(example()).substr(0, 40);
  EXPECT_EQ(*read_uses(path_), example());
  UseFile next = example();
  next.taken_s += 600;
  ASSERT_TRUE(write_uses(path_, next).ok());
  EXPECT_EQ(*read_uses(path_), next);
}

/// Writes in a process that the kernel kills where a file would become longer than `bytes`.
bool killed_at(uint64_t bytes, const std::function<void()>& write) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    const rlimit longest{bytes, bytes};
    (void)::setrlimit(RLIMIT_CORE, &none);
    (void)::setrlimit(RLIMIT_FSIZE, &longest);
    write();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ;
}

TEST_F(UseDirectory, a_kill_at_any_byte_leaves_the_one_before) {
  UseFile next = example();
  next.taken_s += 600;
  const std::string bytes = encode_uses(next);
  for (size_t at = 0; at < bytes.size(); at += 7) {
    ASSERT_TRUE(write_uses(path_, example()).ok());
    EXPECT_TRUE(killed_at(at, [&] { (void)write_uses(path_, next); })) << at;
    const StatusOr<UseFile> found = read_uses(path_);
    ASSERT_TRUE(found.ok()) << at << ": " << found.status().to_string();
    EXPECT_EQ(*found, example()) << at;
    // The canary: one that writes in place is seen to break it.
    EXPECT_TRUE(killed_at(at, [&] {
      std::ofstream(path_ + "/" + kUseFile, std::ios::binary | std::ios::trunc) << bytes;
    }));
    EXPECT_FALSE(read_uses(path_).ok()) << at;
  }
  EXPECT_FALSE(killed_at(bytes.size(), [&] { (void)write_uses(path_, next); }));
  EXPECT_EQ(*read_uses(path_), next);
}

TEST_F(UseDirectory, what_is_too_long_or_unreadable_is_an_error) {
  std::ofstream(path_ + "/" + kUseFile) << "x";
  std::filesystem::resize_file(path_ + "/" + kUseFile, 100 << 20);
  EXPECT_EQ(read_uses(path_).status().code(), StatusCode::kDataLoss);
  std::filesystem::remove(path_ + "/" + kUseFile);
  std::filesystem::create_directory(path_ + "/" + kUseFile);
  EXPECT_FALSE(read_uses(path_).ok());
  EXPECT_FALSE(write_uses(path_ + "/nowhere", example()).ok());
}
}  // namespace
}  // namespace terrace
