// Goal: every Device keeps the promises of storage/device.h, so that what is tested over the
// simulated one holds over the real one. Method: the same tests over both, each operation compared
// with a plain array.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/prng.h"
#include "storage/data_file.h"
#include "storage/uring_device.h"
#include "tests/sim/sim_device.h"

namespace terrace {
namespace {

constexpr uint64_t kBytes = 8 * kMiB;

/// A device, the loop it lives on, and what both need.
class World {
 public:
  World() : loop_(std::move(*Loop::create({.ring_entries = 64}, &clock_))) {}
  virtual ~World() = default;
  virtual Device& device() = 0;
  Loop& loop() { return *loop_; }

 protected:
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
};

class UringWorld final : public World {
 public:
  explicit UringWorld(bool registered) {
    char name[] = "/tmp/terrace_contract_XXXXXX";
    directory_ = mkdtemp(name);
    DataFile::Options options;
    options.path = directory_ + "/data";
    options.bytes = kBytes;
    file_ = std::move(*DataFile::open(options, Uuid{}));
    device_ = std::make_unique<UringDevice>(file_.get(), loop_.get(), DeviceOptions{});
    memory_ = std::move(*AlignedBuffer::allocate(4 * kMiB));
    if (registered) device_->expect_memory(memory_.span());
  }
  ~UringWorld() override {
    device_.reset();
    std::filesystem::remove_all(directory_);
  }
  Device& device() override { return *device_; }

 private:
  std::string directory_;
  std::unique_ptr<DataFile> file_;
  AlignedBuffer memory_;
  std::unique_ptr<UringDevice> device_;
};

class SimWorld final : public World {
 public:
  SimWorld() : disk_(7), device_(&disk_, kBytes, loop_.get()) {}
  Device& device() override { return device_; }

 private:
  sim::SimDisk disk_;
  sim::SimDevice device_;
};

class Wait final : public Op {
 public:
  void done(Status result) override {
    ++calls;
    status = std::move(result);
    if (then) then();
  }
  int calls = 0;
  Status status;
  std::function<void()> then;
};

struct Maker {
  const char* name;
  std::unique_ptr<World> (*make)();
};

void PrintTo(const Maker& maker, std::ostream* out) {
  *out << maker.name;
}

class DeviceContract : public testing::TestWithParam<Maker> {
 protected:
  DeviceContract() : world_(GetParam().make()) {}
  Device& device() { return world_->device(); }
  void wait(Wait* op) {
    for (int i = 0; i < 2000 && op->calls == 0; ++i) world_->loop().turn(milliseconds(5));
    ASSERT_EQ(op->calls, 1);
  }
  Status write(uint64_t offset, std::span<const std::byte> from) {
    Wait op;
    device().write(offset, from, &op);
    EXPECT_EQ(op.calls, 0) << "done inside the call";
    wait(&op);
    return op.status;
  }
  Status read(uint64_t offset, std::span<std::byte> into) {
    Wait op;
    device().read(offset, into, &op);
    EXPECT_EQ(op.calls, 0) << "done inside the call";
    wait(&op);
    return op.status;
  }
  static AlignedBuffer filled(size_t bytes, uint64_t seed) {
    AlignedBuffer out = std::move(*AlignedBuffer::allocate(bytes));
    Prng(seed).fill(out.span());
    return out;
  }
  std::unique_ptr<World> world_;
};

TEST_P(DeviceContract, ReadsWhatWasWritten) {
  EXPECT_EQ(device().size_bytes(), kBytes);
  for (const size_t bytes : {size_t{4096}, size_t{12'288}, size_t{kMiB}, size_t{3 * kMiB}}) {
    AlignedBuffer out = filled(bytes, bytes);
    AlignedBuffer in = filled(bytes, 1);
    ASSERT_TRUE(write(kMiB + 4096, out.span()).ok());
    ASSERT_TRUE(read(kMiB + 4096, in.span()).ok());
    EXPECT_EQ(std::memcmp(in.data(), out.data(), bytes), 0) << bytes;
  }
}

TEST_P(DeviceContract, TheLastSectorAndNothingBehindIt) {
  AlignedBuffer out = filled(8192, 3);
  AlignedBuffer in = filled(8192, 4);
  const std::span<std::byte> one = out.span().first(4096);
  EXPECT_TRUE(write(kBytes - 4096, one).ok());
  EXPECT_TRUE(read(kBytes - 4096, in.span().first(4096)).ok());
  EXPECT_EQ(std::memcmp(in.data(), out.data(), 4096), 0);
  for (const uint64_t offset : {kBytes - 4096, kBytes, kBytes + 4096, uint64_t{1} << 62}) {
    EXPECT_EQ(write(offset, out.span()).code(), StatusCode::kOutOfRange) << offset;
    EXPECT_EQ(read(offset, in.span()).code(), StatusCode::kOutOfRange) << offset;
  }
}

TEST_P(DeviceContract, ForgottenMemoryMayBeUsedAgain) {
  AlignedBuffer memory = filled(kMiB, 5);
  for (uint64_t round = 0; round < 3; ++round) {
    device().expect_memory(memory.span());
    Prng(round).fill(memory.span());
    ASSERT_TRUE(write(kMiB, memory.span()).ok());
    device().forget_memory(memory.span().first(4096));
    AlignedBuffer in = filled(kMiB, 6);
    ASSERT_TRUE(read(kMiB, in.span()).ok());
    EXPECT_EQ(std::memcmp(in.data(), memory.data(), kMiB), 0) << round;
    ASSERT_TRUE(read(2 * kMiB, memory.span()).ok());
  }
}

TEST_P(DeviceContract, ManyAtOnceEndOnceEach) {
  constexpr size_t kOps = 400;  // far more than run at a time
  constexpr size_t kEach = 16'384;
  AlignedBuffer out = filled(kOps * kEach, 9);
  AlignedBuffer in = filled(kOps * kEach, 10);
  std::deque<Wait> ops(kOps);
  for (size_t i = 0; i < kOps; ++i) {
    device().write(kMiB + i * kEach, out.span().subspan(i * kEach, kEach), &ops[i]);
  }
  for (Wait& op : ops) wait(&op);
  std::deque<Wait> reads(kOps);
  for (size_t i = kOps; i-- > 0;) {
    device().read(kMiB + i * kEach, in.span().subspan(i * kEach, kEach), &reads[i]);
  }
  for (Wait& op : reads) wait(&op);
  for (int i = 0; i < 10; ++i) world_->loop().turn(Nanos(0));
  for (size_t i = 0; i < kOps; ++i) {
    EXPECT_EQ(ops[i].calls, 1);
    EXPECT_EQ(reads[i].calls, 1);
    EXPECT_TRUE(ops[i].status.ok() && reads[i].status.ok());
  }
  EXPECT_EQ(std::memcmp(in.data(), out.data(), in.size()), 0);
}

TEST_P(DeviceContract, AnOpMayStartTheNext) {
  AlignedBuffer out = filled(4096, 11);
  AlignedBuffer in = filled(4096, 12);
  Wait sync;
  Wait second;
  Wait first;
  first.then = [&] { device().read(0 + kMiB, in.span(), &second); };
  second.then = [&] { device().sync(&sync); };
  device().write(kMiB, out.span(), &first);
  wait(&first);
  wait(&second);
  wait(&sync);
  EXPECT_TRUE(first.status.ok() && second.status.ok() && sync.status.ok());
  EXPECT_EQ(std::memcmp(in.data(), out.data(), 4096), 0);
}

TEST_P(DeviceContract, WhatIsDiscardedIsWrittenAgainAndItsNeighboursStay) {
  AlignedBuffer out = filled(3 * kMiB, 21);
  AlignedBuffer in = filled(3 * kMiB, 22);
  ASSERT_TRUE(write(kMiB, out.span()).ok());
  Wait op;
  device().discard(2 * kMiB, kMiB, &op);
  EXPECT_EQ(op.calls, 0) << "done inside the call";
  wait(&op);
  EXPECT_TRUE(op.status.ok() || op.status.code() == StatusCode::kFailedPrecondition)
      << op.status.to_string();
  ASSERT_TRUE(read(kMiB, in.span()).ok());
  EXPECT_EQ(std::memcmp(in.data(), out.data(), kMiB), 0);
  EXPECT_EQ(std::memcmp(in.data() + 2 * kMiB, out.data() + 2 * kMiB, kMiB), 0);
  ASSERT_TRUE(write(2 * kMiB, in.span().first(kMiB)).ok());
  ASSERT_TRUE(read(2 * kMiB, out.span().first(kMiB)).ok());
  EXPECT_EQ(std::memcmp(in.data(), out.data(), kMiB), 0);
}

TEST_P(DeviceContract, UnwrittenSpaceReadsWithoutError) {
  AlignedBuffer in = filled(65'536, 5);
  EXPECT_TRUE(read(6 * kMiB, in.span()).ok());
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceContract,
    testing::Values(Maker{"uring", [] { return std::unique_ptr<World>(new UringWorld(false)); }},
                    Maker{"uring_registered",
                          [] { return std::unique_ptr<World>(new UringWorld(true)); }},
                    Maker{"sim", [] { return std::unique_ptr<World>(new SimWorld); }}),
    [](const auto& each) { return std::string(each.param.name); });
}  // namespace
}  // namespace terrace
