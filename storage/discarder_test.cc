// Goal: a block device really gives back what was discarded, and the tier's device says so of
// itself. Method: a loop device over a file, whose blocks are counted; skipped where the test may
// not make one. A file refuses.
#include "storage/discarder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/prng.h"
#include "storage/data_file.h"
#include "storage/uring_device.h"
#include "tests/sim/waiting.h"

namespace terrace {
namespace {
using testing::Waiting;

constexpr uint64_t kBytes = 16 * kMiB;

class DiscarderTest : public ::testing::Test {
 protected:
  DiscarderTest() : loop_(std::move(*Loop::create({.ring_entries = 64}, &clock_))) {
    char name[] = "/tmp/terrace_discard_XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~DiscarderTest() override {
    if (device_) ::ioctl(device_.get(), LOOP_CLR_FD, 0);
    std::filesystem::remove_all(directory_);
  }
  std::string path() const { return directory_ + "/backing"; }
  /// Empty: there can be none here.
  std::string attach() {
    backing_.reset(::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(::ftruncate(backing_.get(), static_cast<off_t>(kBytes)), 0);
    const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return {};
    for (int tries = 0; tries < 8; ++tries) {  // others take one, too
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      const std::string device = "/dev/loop" + std::to_string(number);
      device_.reset(number < 0 ? -1 : ::open(device.c_str(), O_RDWR | O_CLOEXEC));
      if (!device_) return {};
      if (::ioctl(device_.get(), LOOP_SET_FD, backing_.get()) == 0) return device;
    }
    device_.reset();
    return {};
  }
  uint64_t backing_bytes() const {
    struct stat info {};
    EXPECT_EQ(::fsync(backing_.get()), 0);
    EXPECT_EQ(::fstat(backing_.get(), &info), 0);
    return static_cast<uint64_t>(info.st_blocks) * 512;
  }
  void wait(const Waiting& op) {
    for (int i = 0; i < 2000 && !op.over; ++i) loop_->turn(milliseconds(5));
    ASSERT_TRUE(op.over);
  }
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
  std::string directory_;
  Fd backing_, device_;
};

TEST_F(DiscarderTest, a_block_device_gives_back_what_is_free) {
  const std::string device_path = attach();
  if (device_path.empty()) GTEST_SKIP() << "no loop device can be made here";
  DataFile::Options options;
  options.path = device_path;
  options.bytes = kBytes;
  options.format_block_device = true;
  auto file = DataFile::open(options, Uuid{});
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  UringDevice device(file->get(), loop_.get(), DeviceOptions{});
  AlignedBuffer out = std::move(*AlignedBuffer::allocate(8 * kMiB));
  AlignedBuffer in = std::move(*AlignedBuffer::allocate(8 * kMiB));
  Prng(3).fill(out.span());
  Waiting written, synced, forgotten, read, outside;
  device.write(kMiB, out.span(), &written);
  wait(written);
  device.sync(&synced);
  wait(synced);
  ASSERT_TRUE(written.status.ok() && synced.status.ok());
  const uint64_t before = backing_bytes();
  device.discard(2 * kMiB, 6 * kMiB, &forgotten);
  EXPECT_FALSE(forgotten.over) << "done inside the call";
  wait(forgotten);
  if (forgotten.status.code() == StatusCode::kFailedPrecondition) {
    GTEST_SKIP() << "the file system below has no holes: " << forgotten.status.to_string();
  }
  ASSERT_TRUE(forgotten.status.ok()) << forgotten.status.to_string();
  EXPECT_LE(backing_bytes() + 6 * kMiB, before + kMiB) << "of " << before;
  device.read(kMiB, in.span(), &read);
  wait(read);
  ASSERT_TRUE(read.status.ok());
  EXPECT_TRUE(std::equal(in.data(), in.data() + kMiB, out.data()));
  EXPECT_TRUE(std::equal(in.data() + 7 * kMiB, in.data() + 8 * kMiB, out.data() + 7 * kMiB));
  EXPECT_EQ(in.data()[3 * kMiB], std::byte{0});
  device.discard(kBytes, kMiB, &outside);
  wait(outside);
  EXPECT_EQ(outside.status.code(), StatusCode::kOutOfRange);
}

TEST_F(DiscarderTest, a_file_keeps_what_was_reserved_for_it) {
  DataFile::Options options;
  options.path = path();
  options.bytes = kBytes;
  auto file = DataFile::open(options, Uuid{});
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  UringDevice device(file->get(), loop_.get(), DeviceOptions{});
  Waiting refused;
  device.discard(2 * kMiB, kMiB, &refused);
  wait(refused);
  EXPECT_EQ(refused.status.code(), StatusCode::kFailedPrecondition);
}
}  // namespace
}  // namespace terrace
