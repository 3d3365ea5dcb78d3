// Goal: a device that hangs, fails or ends early costs bounded time and never memory that somebody
// else uses. Method: a pipe is a disk that answers when the test writes into it; a clock that the
// test moves; a file that is cut under the device; one that is not open for writing.
#include "storage/uring_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "base/buffer.h"
#include "base/prng.h"

namespace terrace {
namespace {

class Wait final : public Op {
 public:
  void done(Status result) override {
    ++calls;
    status = std::move(result);
  }
  int calls = 0;
  Status status;
};

class UringDeviceTest : public testing::Test {
 protected:
  UringDeviceTest()
      : loop_(std::move(*Loop::create({.ring_entries = 64}, &clock_))),
        memory_(std::move(*AlignedBuffer::allocate(64 * 4096))) {
    std::array<int, 2> ends{};
    TERRACE_CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0);
    reads_.reset(ends[0]);
    writes_.reset(ends[1]);
    options_.reads_in_flight_max = 4;
    options_.io_timeout = seconds(1);
    options_.timeouts_until_hung = 2;
    options_.pending_max = 8;
  }
  std::span<std::byte> page(size_t i) { return memory_.span().subspan(i * 4096, 4096); }
  void turn() {
    for (int i = 0; i < 20; ++i) loop_->turn(Nanos(0));
  }
  /// Real time: what the kernel does in threads of its own.
  void turn_until(const Wait& op) {
    for (int i = 0; i < 1000 && op.calls == 0; ++i) loop_->turn(milliseconds(5));
  }
  void answer() {
    const std::string bytes(4096, 'a');
    ASSERT_EQ(::write(writes_.get(), bytes.data(), bytes.size()), 4096);
  }

  ManualClock clock_;
  std::unique_ptr<Loop> loop_;
  AlignedBuffer memory_;
  Fd reads_;
  Fd writes_;
  DeviceOptions options_;
};

TEST_F(UringDeviceTest, AHangEndsWithinTheDeadlineAndKeepsTheMemory) {
  UringDevice device(reads_.get(), 1 << 20, loop_.get(), options_);
  std::vector<const std::byte*> released;
  device.on_released([&](std::span<const std::byte> memory) { released.push_back(memory.data()); });
  Wait first;
  Wait second;
  device.read(0, page(0), &first);
  turn();
  clock_.advance(milliseconds(500));
  device.read(4096, page(1), &second);
  turn();
  EXPECT_EQ(first.calls, 0);
  clock_.advance(milliseconds(500));
  turn();
  EXPECT_EQ(first.calls, 1);
  EXPECT_EQ(first.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(second.calls, 0);
  EXPECT_FALSE(device.hung());
  clock_.advance(milliseconds(500));
  turn();
  EXPECT_EQ(second.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(device.hung());
  EXPECT_EQ(device.late(), 2u);
  EXPECT_TRUE(released.empty());

  Wait refused;  // at once
  device.read(0, page(2), &refused);
  EXPECT_EQ(refused.calls, 0);
  turn();
  EXPECT_EQ(refused.status.code(), StatusCode::kUnavailable);

  answer();  // it comes back
  for (int i = 0; i < 1000 && released.empty(); ++i) loop_->turn(milliseconds(5));
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(*released[0], std::byte{'a'}) << "the kernel wrote late";
  EXPECT_FALSE(device.hung());
  answer();
  for (int i = 0; i < 1000 && released.size() < 2; ++i) loop_->turn(milliseconds(5));
  EXPECT_EQ(device.late(), 0u);
  EXPECT_EQ(first.calls, 1);

  Wait again;
  device.read(0, page(3), &again);
  turn();
  answer();
  turn_until(again);
  EXPECT_TRUE(again.status.ok()) << again.status.to_string();
}

TEST_F(UringDeviceTest, WaitingRequestsOfAHungDeviceEndToo) {
  UringDevice device(reads_.get(), 1 << 20, loop_.get(), options_);
  std::array<Wait, 10> ops;
  for (size_t i = 0; i < ops.size(); ++i) device.read(0, page(i), &ops[i]);
  turn();
  clock_.advance(seconds(1));
  turn();
  for (size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(ops[i].calls, 1) << i;
    EXPECT_EQ(ops[i].status.code(),
              i < 4 ? StatusCode::kDeadlineExceeded : StatusCode::kUnavailable)
        << i;
  }
  EXPECT_EQ(device.late(), 4u);
  // Destroyed while the kernel has four requests: they must find nobody, harmlessly.
}

TEST_F(UringDeviceTest, AHungDeviceIsTriedNowAndThen) {
  UringDevice device(reads_.get(), 1 << 20, loop_.get(), options_);
  std::array<Wait, 2> lost;
  for (size_t i = 0; i < lost.size(); ++i) device.read(0, page(i), &lost[i]);
  turn();
  clock_.advance(seconds(1));
  turn();
  EXPECT_TRUE(device.hung());
  clock_.advance(seconds(2));
  Wait trial;
  Wait refused;
  device.read(0, page(2), &trial);
  device.read(0, page(3), &refused);
  turn();
  EXPECT_EQ(refused.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(trial.calls, 0) << "the kernel has it";
  for (int i = 0; i < 3; ++i) answer();
  turn_until(trial);
  EXPECT_TRUE(trial.status.ok()) << trial.status.to_string();
  EXPECT_FALSE(device.hung());
}

TEST_F(UringDeviceTest, TheQueueIsBounded) {
  UringDevice device(reads_.get(), 1 << 20, loop_.get(), options_);
  std::array<Wait, 13> ops;
  for (size_t i = 0; i < ops.size(); ++i) device.read(0, page(i), &ops[i]);
  turn();
  EXPECT_EQ(ops[12].status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ops[11].calls, 0);
  for (size_t i = 0; i < 12; ++i) answer();
  for (size_t i = 0; i < 12; ++i) {
    turn_until(ops[i]);
    EXPECT_TRUE(ops[i].status.ok()) << i;
  }
}

TEST_F(UringDeviceTest, ShortReadsGoOnUntilTheEnd) {
  UringDevice device(reads_.get(), 1 << 20, loop_.get(), options_);
  Wait op;
  device.read(0, memory_.span().first(8192), &op);
  turn();
  answer();
  for (int i = 0; i < 10; ++i) loop_->turn(milliseconds(1));
  EXPECT_EQ(op.calls, 0) << "half is not done";
  answer();
  turn_until(op);
  EXPECT_TRUE(op.status.ok());

  Wait cut;
  device.read(0, memory_.span().first(8192), &cut);
  turn();
  answer();
  writes_.reset();  // the end
  turn_until(cut);
  EXPECT_EQ(cut.status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(device.metrics().short_transfers.get(), 1u);
}

TEST_F(UringDeviceTest, AFileThatWasCut) {
  char name[] = "/tmp/terrace_uring_XXXXXX";
  Fd file(::mkstemp(name));
  ASSERT_EQ(::ftruncate(file.get(), 3 * 4096), 0);
  UringDevice device(file.get(), 64 * 4096, loop_.get(), options_);
  Wait whole;
  device.read(0, memory_.span().first(3 * 4096), &whole);
  turn_until(whole);
  EXPECT_TRUE(whole.status.ok());
  Wait partly;
  device.read(2 * 4096, memory_.span().first(2 * 4096), &partly);
  turn_until(partly);
  EXPECT_EQ(partly.status.code(), StatusCode::kDataLoss);

  Fd read_only(::open(name, O_RDONLY | O_CLOEXEC));
  UringDevice refusing(read_only.get(), 64 * 4096, loop_.get(), options_);
  Wait write;
  refusing.write(0, page(0), &write);
  turn_until(write);
  EXPECT_FALSE(write.status.ok());
  EXPECT_EQ(refusing.metrics().errors.get(), 1u);
  ::unlink(name);
}

TEST_F(UringDeviceTest, RegisteredMemoryIsUsedAndOtherMemoryWorks) {
  char name[] = "/tmp/terrace_uring_XXXXXX";
  Fd file(::mkstemp(name));
  ASSERT_EQ(::ftruncate(file.get(), 64 * 4096), 0);
  UringDevice device(file.get(), 64 * 4096, loop_.get(), options_);
  device.expect_memory(memory_.span().subspan(8 * 4096, 8 * 4096));
  device.expect_memory(memory_.span().first(4 * 4096));
  const auto copies = [&](size_t from, size_t to, size_t pages) {
    const std::span<std::byte> out = memory_.span().subspan(from * 4096, pages * 4096);
    const std::span<std::byte> in = memory_.span().subspan(to * 4096, pages * 4096);
    Prng(from * 100 + to).fill(out);
    Wait write;
    device.write(0, out, &write);
    turn_until(write);
    Wait read;
    device.read(0, in, &read);
    turn_until(read);
    EXPECT_TRUE(write.status.ok() && read.status.ok());
    return std::memcmp(out.data(), in.data(), out.size()) == 0;
  };
  EXPECT_TRUE(copies(0, 8, 4));
  EXPECT_TRUE(copies(12, 3, 1));
  EXPECT_EQ(device.metrics().unregistered.get(), 0u);
  EXPECT_TRUE(copies(2, 20, 3));  // reaches past the end of one; lies in none
  EXPECT_EQ(device.metrics().unregistered.get(), 2u);
  ::unlink(name);
}

TEST_F(UringDeviceTest, ForgottenMemoryMayBeMappedAnew) {
  char name[] = "/tmp/terrace_uring_XXXXXX";
  Fd file(::mkstemp(name));
  ASSERT_EQ(::ftruncate(file.get(), 64 * 4096), 0);
  UringDevice device(file.get(), 64 * 4096, loop_.get(), options_);
  constexpr size_t kSize = 16 * 4096;
  void* const at =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(at, MAP_FAILED);
  const std::span<std::byte> memory(static_cast<std::byte*>(at), kSize);
  for (uint8_t round = 1; round <= 5; ++round) {
    device.expect_memory(memory.first(kSize / 2));
    device.expect_memory(memory.subspan(kSize / 2));
    std::memset(at, round, kSize);
    Wait write, read;
    device.write(0, memory.first(4096), &write);
    turn_until(write);
    device.read(0, memory.subspan(kSize / 2, 4096), &read);
    turn_until(read);
    EXPECT_EQ(memory[kSize / 2], std::byte{round}) << "the pages that are mapped now";
    EXPECT_EQ(device.metrics().unregistered.get(), round - 1u);
    device.forget_memory(memory);
    ASSERT_EQ(
        ::mmap(at, kSize, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0),
        at);
    Wait again;
    device.read(0, memory.first(4096), &again);
    turn_until(again);
    EXPECT_EQ(memory[0], std::byte{round}) << "unregistered works too";
    EXPECT_EQ(device.metrics().unregistered.get(), round);
  }
  ::munmap(at, kSize);
  ::unlink(name);
}

TEST_F(UringDeviceTest, NoSpaceIsResourceExhausted) {
  const Fd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  UringDevice device(full.get(), 64 * 4096, loop_.get(), options_);
  Wait op;
  device.write(0, page(0), &op);
  turn_until(op);
  EXPECT_EQ(op.status.code(), StatusCode::kResourceExhausted) << op.status.to_string();
}
}  // namespace
}  // namespace terrace
