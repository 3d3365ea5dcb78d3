// Goal: a data file belongs to one directory and one process, is whole or not there, and the zeroes
// that are written ahead never land on data. Method: real files in a temporary directory; golden
// identity bytes and every bit flip; a filler raced by writes whose bytes are then compared.
#include "storage/data_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/prng.h"
#include "storage/uring_device.h"
#include "tests/sim/waiting.h"

namespace terrace {
namespace {
using testing::Waiting;

class DataFileTest : public ::testing::Test {
 protected:
  DataFileTest() {
    char name[] = "/tmp/terrace_data_XXXXXX";
    directory_ = mkdtemp(name);
    options_.path = directory_ + "/data";
    options_.bytes = 4 * kMiB;
    ours_.fill(std::byte{1});
  }
  ~DataFileTest() override { std::filesystem::remove_all(directory_); }
  StatusCode open_code() { return DataFile::open(options_, ours_).status().code(); }
  void poke(uint64_t offset, std::string bytes) {
    const Fd fd(::open(options_.path.c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string directory_;
  DataFile::Options options_;
  Uuid ours_{};
};

TEST(DataFileIdentity, GoldenBytesAndEveryBit) {
  DataFileIdentity identity;
  identity.device.fill(std::byte{0xD1});
  identity.directory.fill(std::byte{0xD2});
  identity.bytes = 1 << 20;
  identity.created_seconds = 1'700'000'000;
  std::vector<std::byte> block(DataFileIdentity::kBytes);
  encode(identity, block);
  const std::string head(reinterpret_cast<const char*>(block.data()), 8);
  EXPECT_EQ(head, std::string("TDAT\x01\0\0\0", 8));
  EXPECT_EQ(block[8], std::byte{0xD1});
  EXPECT_EQ(block[24], std::byte{0xD2});
  EXPECT_EQ(block[42], std::byte{0x10});
  StatusOr<DataFileIdentity> back = decode_identity(block);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, identity);
  identity.place = 3;
  std::vector<std::byte> other(DataFileIdentity::kBytes);
  encode(identity, other);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(other.data()), 8),
            std::string("TDAT\x02\0\x03\0", 8));
  EXPECT_EQ(*decode_identity(other), identity);
  for (size_t bit = 0; bit < 64 * 8; ++bit) {
    std::vector<std::byte> bad = block;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_FALSE(decode_identity(bad).ok()) << bit;
  }
  EXPECT_FALSE(decode_identity(std::span(block).first(20)).ok());
}

TEST_F(DataFileTest, CreatedZeroedAndOpenedAgain) {
  uint64_t told = 0;
  options_.progress = [&](uint64_t done, uint64_t) { told = done; };
  Uuid device{};
  {
    StatusOr<std::unique_ptr<DataFile>> file = DataFile::open(options_, ours_);
    ASSERT_TRUE(file.ok()) << file.status().to_string();
    EXPECT_EQ((*file)->size_bytes(), options_.bytes);
    EXPECT_EQ((*file)->zeroed_bytes(), options_.bytes);
    EXPECT_EQ((*file)->fill_guard(), nullptr);
    EXPECT_EQ(told, options_.bytes);
    device = (*file)->identity().device;
  }
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".new"));
  options_.bytes = 0;  // what is there
  StatusOr<std::unique_ptr<DataFile>> again = DataFile::open(options_, ours_);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ((*again)->identity().device, device);
  EXPECT_EQ((*again)->size_bytes(), 4 * kMiB);
}

TEST_F(DataFileTest, RefusesWhatIsNotItsOwn) {
  ASSERT_TRUE(DataFile::open(options_, ours_).ok());
  Uuid other{};
  EXPECT_EQ(DataFile::open(options_, other).status().code(), StatusCode::kFailedPrecondition);
  options_.bytes = 4097;
  EXPECT_EQ(open_code(), StatusCode::kInvalidArgument);
  options_.bytes = 4 * kMiB;
  poke(4, std::string("\x03", 1));
  EXPECT_EQ(open_code(), StatusCode::kFailedPrecondition) << "a newer version";
  poke(4, std::string("\x01", 1));
  EXPECT_EQ(open_code(), StatusCode::kOk);
  std::filesystem::resize_file(options_.path, 2 * kMiB);
  EXPECT_EQ(open_code(), StatusCode::kDataLoss);
  poke(0, "XXXX");
  EXPECT_EQ(open_code(), StatusCode::kDataLoss);
}

TEST_F(DataFileTest, OneThatIsThereKeepsItsSize) {
  ASSERT_TRUE(DataFile::open(options_, ours_).ok());
  options_.bytes = 8 * kMiB;
  const StatusOr<std::unique_ptr<DataFile>> file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ((*file)->size_bytes(), 4 * kMiB);
}

TEST_F(DataFileTest, ResizedForGoodAndReserved) {
  const auto reserved = [this] {
    struct stat info {};
    EXPECT_EQ(::stat(options_.path.c_str(), &info), 0);
    return static_cast<uint64_t>(info.st_blocks) * 512;
  };
  for (const uint64_t bytes : {12 * kMiB, 3 * kMiB, 3 * kMiB + 4096}) {
    {
      auto file = DataFile::open(options_, ours_);
      ASSERT_TRUE(file.ok()) << file.status().to_string();
      ASSERT_TRUE((*file)->resize(bytes).ok());
      EXPECT_EQ((*file)->size_bytes(), bytes);
    }
    EXPECT_EQ(std::filesystem::file_size(options_.path), bytes);
    EXPECT_GE(reserved(), bytes);
    const auto again = DataFile::open(options_, ours_);
    ASSERT_TRUE(again.ok()) << again.status().to_string();
    EXPECT_EQ((*again)->size_bytes(), bytes);
  }
}

TEST_F(DataFileTest, ResizedBeyondWhatThereIsStaysAsItWas) {
  auto file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE((*file)->resize(uint64_t{1} << 50).ok());
  EXPECT_EQ((*file)->size_bytes(), 4 * kMiB);
  EXPECT_EQ(std::filesystem::file_size(options_.path), 4 * kMiB);
  ASSERT_TRUE((*file)->resize(8 * kMiB).ok()) << "it still can";
}

TEST_F(DataFileTest, GrowthThatIsCalledOffLeavesTheOldSize) {
  for (const uint64_t last : {1u, 100u}) {  // in the first piece that is flushed, and later
    {
      auto file = DataFile::open(options_, ours_);
      ASSERT_TRUE(file.ok());
      uint64_t asked = 0;
      const Status said = (*file)->resize(256 * kMiB, [&] { return ++asked < last; });
      EXPECT_EQ(said.code(), StatusCode::kCancelled) << said.to_string();
      EXPECT_EQ(asked, last) << "once for each MiB";
      EXPECT_EQ((*file)->size_bytes(), 4 * kMiB);
      EXPECT_EQ(std::filesystem::file_size(options_.path), 4 * kMiB);
    }
    const auto again = DataFile::open(options_, ours_);
    ASSERT_TRUE(again.ok()) << again.status().to_string();
    EXPECT_EQ((*again)->size_bytes(), 4 * kMiB);
    ASSERT_TRUE((*again)->resize(8 * kMiB, [] { return true; }).ok()) << "it still can";
    ASSERT_TRUE((*again)->resize(4 * kMiB, [] { return false; }).ok()) << "nothing to write";
  }
}

/// A thread writes, and may be through before anybody calls it off: then once more.
TEST_F(DataFileTest, ADeviceThatGrowsIsCalledOff) {
  SystemClock clock;
  auto file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok());
  std::unique_ptr<Loop> loop = std::move(*Loop::create({.ring_entries = 64}, &clock));
  UringDevice device(file->get(), loop.get(), DeviceOptions{});
  device.cancel_resize();  // of none
  const auto resize = [&](uint64_t bytes, bool cancel) {
    Waiting op;
    device.resize(bytes, &op);
    if (cancel) device.cancel_resize();
    while (!op.over) loop->turn(milliseconds(10));
    return op.status;
  };
  Status said;
  for (int i = 0; i < 20 && said.code() != StatusCode::kCancelled; ++i) {
    said = resize(4 * kMiB, false);
    ASSERT_TRUE(said.ok()) << said.to_string();
    said = resize(516 * kMiB, true);
  }
  EXPECT_EQ(said.code(), StatusCode::kCancelled) << said.to_string();
  EXPECT_EQ(device.size_bytes(), 4 * kMiB);
  EXPECT_TRUE(resize(8 * kMiB, false).ok());
}

TEST_F(DataFileTest, ADeviceThatGoesWhileItGrowsIsWaitedFor) {
  SystemClock clock;
  auto file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok());
  std::unique_ptr<Loop> loop = std::move(*Loop::create({.ring_entries = 64}, &clock));
  Waiting never;
  {
    UringDevice device(file->get(), loop.get(), DeviceOptions{});
    device.resize(516 * kMiB, &never);
  }
  const uint64_t bytes = (*file)->size_bytes();
  EXPECT_TRUE(bytes == 4 * kMiB || bytes == 516 * kMiB) << bytes;
  EXPECT_EQ(std::filesystem::file_size(options_.path), bytes);
  loop->turn(milliseconds(1));
  EXPECT_FALSE(never.over);
}

/// A kill leaves a file that is longer than its identity says: before it said so, or after.
TEST_F(DataFileTest, AResizeThatWasCutShortIsCutOff) {
  ASSERT_TRUE(DataFile::open(options_, ours_).ok());
  std::filesystem::resize_file(options_.path, 9 * kMiB);
  const auto file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ((*file)->size_bytes(), 4 * kMiB);
  EXPECT_EQ(std::filesystem::file_size(options_.path), 4 * kMiB);
}

TEST_F(DataFileTest, TheFillerEndsWhenItIsResized) {
  options_.bytes = 256 * kMiB;
  options_.zero_at_creation_max = 0;
  auto file = DataFile::open(options_, ours_);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->resize(64 * kMiB).ok());
  EXPECT_EQ(std::filesystem::file_size(options_.path), 64 * kMiB) << "nobody wrote behind it";
}

TEST_F(DataFileTest, NoSpaceLeavesNothingBehind) {
  options_.bytes = uint64_t{1} << 50;
  const StatusCode code = open_code();
  EXPECT_NE(code, StatusCode::kOk);
  EXPECT_FALSE(std::filesystem::exists(options_.path));
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".new"));
}

TEST_F(DataFileTest, OneProcessPerDirectory) {
  Uuid uuid{};
  {
    StatusOr<DirectoryLock> lock = DirectoryLock::acquire(directory_ + "/node");
    ASSERT_TRUE(lock.ok()) << lock.status().to_string();
    EXPECT_EQ(DirectoryLock::acquire(directory_ + "/node").status().code(),
              StatusCode::kUnavailable);
    uuid = lock->uuid();
    EXPECT_NE(uuid, Uuid{});
  }
  StatusOr<DirectoryLock> again = DirectoryLock::acquire(directory_ + "/node");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->uuid(), uuid);
  std::filesystem::resize_file(directory_ + "/node/IDENTITY", 30);
  *again = std::move(*DirectoryLock::acquire(directory_));
  EXPECT_EQ(DirectoryLock::acquire(directory_ + "/node").status().code(), StatusCode::kDataLoss);
}

TEST_F(DataFileTest, TheFillerNeverWritesOverData) {
  options_.bytes = 96 * kMiB;
  options_.zero_at_creation_max = 0;
  SystemClock clock;
  for (uint64_t seed = 1; seed <= 3; ++seed) {  // the second and third life find what is there
    StatusOr<std::unique_ptr<DataFile>> file = DataFile::open(options_, ours_);
    ASSERT_TRUE(file.ok()) << file.status().to_string();
    std::unique_ptr<Loop> loop = std::move(*Loop::create({.ring_entries = 64}, &clock));
    {
      UringDevice device(file->get(), loop.get(), DeviceOptions{});
      AlignedBuffer out = std::move(*AlignedBuffer::allocate(64 * kKiB));
      AlignedBuffer in = std::move(*AlignedBuffer::allocate(64 * kKiB));
      Prng prng(seed);
      std::vector<std::pair<uint64_t, uint64_t>> written;
      const auto run = [&](auto&& start) {
        Waiting op;
        start(&op);
        while (!op.over) loop->turn(milliseconds(10));
        return op.status;
      };
      for (int i = 0; i < 300; ++i) {
        // Where the filler is now, or will be soon; else anywhere.
        const uint64_t near = (*file)->zeroed_bytes() + prng.below(32) * 64 * kKiB;
        const uint64_t offset = near >= kMiB && near < options_.bytes && prng.chance(80)
                                    ? near
                                    : kMiB + prng.below(94 * 16) * 64 * kKiB;
        std::erase_if(written, [&](const auto& w) { return w.first == offset; });
        written.emplace_back(offset, prng.next());
        Prng(written.back().second).fill(out.span());
        ASSERT_TRUE(run([&](Op* op) { device.write(offset, out.span(), op); }).ok());
      }
      for (int i = 0; i < 5000 && (*file)->zeroed_bytes() < options_.bytes; ++i) {
        loop->turn(milliseconds(1));
      }
      for (const auto& [where, content] : written) {
        const uint64_t offset = where;  // a binding cannot be captured
        Prng(content).fill(out.span());
        ASSERT_TRUE(run([&](Op* op) { device.read(offset, in.span(), op); }).ok());
        ASSERT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0)
            << "seed " << seed << " @ " << offset;
      }
    }
  }
}

TEST(FillGuard, OneOfTheTwoSeesTheOther) {
  FillGuard guard(100 * kMiB);
  EXPECT_TRUE(guard.enter(5));
  EXPECT_FALSE(guard.claim(5 * kMiB, 4096)) << "the filler is there";
  EXPECT_TRUE(guard.claim(6 * kMiB, kMiB));
  guard.leave();
  EXPECT_TRUE(guard.claim(5 * kMiB, 4096));
  EXPECT_FALSE(guard.enter(5)) << "claimed";
  EXPECT_FALSE(guard.enter(6));
  EXPECT_TRUE(guard.enter(7));
  EXPECT_FALSE(guard.claim(6 * kMiB + 4096, 2 * kMiB)) << "reaches into 7";
  guard.leave();
  EXPECT_TRUE(guard.claim(99 * kMiB, kMiB));
}
}  // namespace
}  // namespace terrace
