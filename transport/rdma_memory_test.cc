// Goal: a card that is slow to learn memory delays nothing else on the loop; what it was asked for
// ends once, whatever is forgotten, refused or closed meanwhile, and nothing stays registered.
// Method: cards that block until the test lets them go, on real workers and a real loop.
#include "transport/rdma_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "transport/bench_parts.h"
#include "transport/tcp_transport.h"

namespace terrace {
namespace {

/// Threads enter, and wait in it while it is shut.
class SlowCard final : public RdmaCard {
 public:
  StatusOr<std::unique_ptr<RdmaKeys>> learn(std::span<std::byte> memory,
                                            RdmaAccess) const override {
    std::unique_lock lock(mutex_);
    ++inside_;
    most_inside_ = std::max(most_inside_, inside_);
    changed_.notify_all();
    changed_.wait(lock, [this] { return !shut_; });
    --inside_;
    if (memory.size() > bytes_max_) return error(StatusCode::kResourceExhausted, "RLIMIT_MEMLOCK");
    ++learned_;
    ++known_;
    return std::unique_ptr<RdmaKeys>(std::make_unique<Keys>(this, ++next_key_));
  }
  StatusOr<std::unique_ptr<RdmaKeys>> learn_dmabuf(int dmabuf, uint64_t offset,
                                                   std::span<std::byte> addresses,
                                                   RdmaAccess access) const override {
    const std::lock_guard lock(mutex_);
    if (!takes_dmabufs_) return error(StatusCode::kUnimplemented, "host memory only");
    dmabufs_.push_back({dmabuf, offset, addresses.size(), access});
    ++learned_;
    ++known_;
    return std::unique_ptr<RdmaKeys>(std::make_unique<Keys>(this, ++next_key_));
  }
  struct Dmabuf {
    int file;
    uint64_t offset;
    size_t bytes;
    RdmaAccess access;
  };
  std::vector<Dmabuf> dmabufs() const {
    const std::lock_guard lock(mutex_);
    return dmabufs_;
  }
  void take_no_dmabufs() {
    const std::lock_guard lock(mutex_);
    takes_dmabufs_ = false;
  }
  void shut(bool is) {
    const std::lock_guard lock(mutex_);
    shut_ = is;
    changed_.notify_all();
  }
  void limit(size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_max_ = bytes;
  }
  void wait_inside(int threads) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return inside_ == threads; });
  }
  int learned() const { return locked(&SlowCard::learned_); }
  int known() const { return locked(&SlowCard::known_); }
  int most_inside() const { return locked(&SlowCard::most_inside_); }

 private:
  struct Keys final : RdmaKeys {
    Keys(const SlowCard* of, uint32_t key) : RdmaKeys(key, key + 1000), card(of) {}
    ~Keys() override {
      const std::lock_guard lock(card->mutex_);
      --card->known_;
    }
    const SlowCard* const card;
  };
  int locked(int SlowCard::*field) const {
    const std::lock_guard lock(mutex_);
    return this->*field;
  }
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool shut_ = false;  // all guarded by mutex_
  size_t bytes_max_ = SIZE_MAX;
  mutable int inside_ = 0;
  mutable int most_inside_ = 0;
  mutable int learned_ = 0;
  mutable int known_ = 0;
  mutable uint32_t next_key_ = 0;
  bool takes_dmabufs_ = true;
  mutable std::vector<Dmabuf> dmabufs_;
};

/// Addresses that nobody touches.
class Addresses {
 public:
  explicit Addresses(size_t bytes)
      : bytes_(bytes),
        at_(::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    TERRACE_CHECK(at_ != MAP_FAILED);
  }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
  ~Addresses() { ::munmap(at_, bytes_); }
  std::span<std::byte> span() const { return {static_cast<std::byte*>(at_), bytes_}; }

 private:
  const size_t bytes_;
  void* const at_;
};

constexpr RegionId kOne{1};
constexpr RegionId kTwo{2};
constexpr int kBounce = 2;  // registrations of every card from the start

class RdmaMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made =
        RdmaMemory::create({}, loop.get(), {&cards[0], &cards[1]}, &metrics, [this] { ++settled; });
    ASSERT_TRUE(made.ok());
    memory = *std::move(made);
  }
  void TearDown() override {
    shut(false);
    memory->close();
    EXPECT_TRUE(turn_until([&] { return memory->idle(); }));
    EXPECT_EQ(metrics.registrations_flying.get(), 0u);
    memory.reset();
    for (const SlowCard& card : cards) EXPECT_EQ(card.known(), 0);
  }
  void shut(bool is) {
    for (SlowCard& card : cards) card.shut(is);
  }
  bool turn_until(const std::function<bool()>& there) {
    for (const Nanos end = clock.now() + seconds(20); clock.now() < end;) {
      if (there()) return true;
      loop->turn(milliseconds(1));
    }
    return false;
  }
  Status known(RegionId region) {
    Flag flag;
    memory->when_known(region, &flag);
    EXPECT_FALSE(flag.finished);
    EXPECT_TRUE(turn_until([&] { return flag.finished; }));
    return flag.result;
  }
  bool covers(std::span<const std::byte> part) {
    return memory->find_local(0, part).bytes == part.size();
  }
  SystemClock clock;
  std::unique_ptr<Loop> loop = *Loop::create({}, &clock);
  RdmaMetrics metrics;
  SlowCard cards[2];
  std::unique_ptr<RdmaMemory> memory;
  int settled = 0;
  std::vector<std::byte> bytes = std::vector<std::byte>(64 * kKiB);
};

struct Echo final : Quiet {
  void on_message(PeerId, const Message&) override { ++messages; }
  void on_peer(PeerId id, std::span<const std::byte, 16>) override { peer = id; }
  PeerId peer{};
  int messages = 0;
};

TEST_F(RdmaMemoryTest, MessagesOfTheSameLoopDoNotWaitForASlowCard) {
  Echo here;
  Echo there;
  TcpTransport a(loop.get(), &here, {});
  TcpTransport b(loop.get(), &there, {});
  const auto port = b.listen("127.0.0.1:0", [](std::span<const std::byte, 16>) { return true; });
  ASSERT_TRUE(port.ok()) << port.status().to_string();
  Flag connected;
  const auto peer = a.connect("127.0.0.1:" + std::to_string(*port), kSecret, 2,
                              clock.now() + seconds(5), &connected);
  ASSERT_TRUE(peer.ok());
  ASSERT_TRUE(turn_until([&] { return connected.finished && there.peer != PeerId{}; }));
  shut(true);
  memory->add_region(kOne, bytes);
  for (SlowCard& card : cards) card.wait_inside(1);
  for (int i = 1; i <= 100; ++i) {
    ASSERT_TRUE(a.send_message(*peer, {.body = {}}).ok());
    ASSERT_TRUE(turn_until([&] { return there.messages == i; }));
    ASSERT_TRUE(b.send_message(there.peer, {.body = {}}).ok());
    ASSERT_TRUE(turn_until([&] { return here.messages == i; }));
  }
  EXPECT_EQ(memory->state(kOne), RdmaMemory::State::flying);
  EXPECT_FALSE(covers(bytes));  // it would be bounced
  EXPECT_EQ(metrics.registrations_flying.get(), 1u);
  EXPECT_EQ(settled, 0);
  shut(false);
  EXPECT_TRUE(known(kOne).ok());
  EXPECT_TRUE(covers(bytes));
  EXPECT_EQ(settled, 1);
  for (Transport* transport : {static_cast<Transport*>(&a), static_cast<Transport*>(&b)}) {
    close_and_wait(loop.get(), transport);
  }
}

TEST_F(RdmaMemoryTest, SlicesAndCardsAreLearnedAtOnceByAFewThreads) {
  const Addresses large(5 * RdmaMemory::kSliceBytes - 4096);
  shut(true);
  memory->add_region(kOne, large.span());  // 5 slices with 2 cards: 10 jobs
  for (SlowCard& card : cards) card.wait_inside(RdmaMemory::kThreadsMax / 2);
  shut(false);
  ASSERT_TRUE(known(kOne).ok());
  for (SlowCard& card : cards) {
    EXPECT_EQ(card.known(), kBounce + 5);
    EXPECT_LE(card.most_inside(), 5);
  }
  EXPECT_EQ(metrics.registrations.get(), 2u * (kBounce + 5));
  std::vector<RdmaGrantEntry> entries;
  memory->find_remote(1, kOne, large.span().subspan(RdmaMemory::kSliceBytes - 100, 300), &entries);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].length, 100u);
  EXPECT_NE(entries[0].key, entries[1].key);
  memory->remove_region(kOne);
  for (SlowCard& card : cards) EXPECT_EQ(card.known(), kBounce);  // at once: peers have keys
}

TEST_F(RdmaMemoryTest, TheSameMemoryIsLearnedOnce) {
  memory->add_region(kOne, bytes);
  ASSERT_TRUE(known(kOne).ok());
  memory->add_region(kTwo, bytes);
  ASSERT_TRUE(known(kTwo).ok());
  EXPECT_EQ(cards[0].learned(), kBounce + 1);
  memory->remove_region(kOne);
  EXPECT_TRUE(covers(bytes));
  memory->remove_region(kTwo);
  EXPECT_FALSE(covers(bytes));
  EXPECT_EQ(cards[0].known(), kBounce);
  // Own use and peers' are two rights, and two registrations.
  memory->add_region(RegionId{3}, bytes);
  memory->expect(bytes);
  memory->expect(bytes);
  ASSERT_TRUE(turn_until([&] { return metrics.registrations.get() == 2u * (kBounce + 2); }));
  memory->forget(bytes);
  memory->forget(bytes);
  ASSERT_TRUE(turn_until([&] { return cards[1].known() == kBounce + 1; }));
  EXPECT_TRUE(covers(bytes));
}

/// Who registered first may have given up, unmapped the memory and mapped other pages there.
TEST_F(RdmaMemoryTest, ARegionThatFliesIsNotShared) {
  shut(true);
  memory->add_region(kOne, bytes);
  for (SlowCard& card : cards) card.wait_inside(1);
  memory->add_region(kTwo, bytes);
  for (SlowCard& card : cards) card.wait_inside(2);
  shut(false);
  ASSERT_TRUE(known(kOne).ok());
  ASSERT_TRUE(known(kTwo).ok());
  EXPECT_EQ(cards[0].learned(), kBounce + 2);
  std::vector<RdmaGrantEntry> first, second;
  memory->find_remote(0, kOne, bytes, &first);
  memory->find_remote(0, kTwo, bytes, &second);
  EXPECT_NE(first[0].key, second[0].key);
  memory->remove_region(kOne);
  EXPECT_TRUE(covers(bytes));
  memory->remove_region(kTwo);
  EXPECT_EQ(cards[0].known(), kBounce);
}

TEST_F(RdmaMemoryTest, WhatIsForgottenWhileItFliesIsNeverUsed) {
  shut(true);
  memory->expect(bytes);
  for (SlowCard& card : cards) card.wait_inside(1);
  memory->forget(bytes);
  memory->expect(bytes);  // the same addresses may be other memory now
  for (SlowCard& card : cards) card.wait_inside(2);
  shut(false);
  ASSERT_TRUE(turn_until([&] { return covers(bytes); }));
  ASSERT_TRUE(turn_until([&] { return cards[0].known() == kBounce + 1 && memory->idle(); }));
  EXPECT_EQ(cards[0].learned(), kBounce + 2);
  EXPECT_EQ(metrics.registrations.get(), 2u * (kBounce + 1));
  EXPECT_EQ(metrics.registration_failures.get(), 0u);
  memory->forget(bytes);
  EXPECT_FALSE(covers(bytes));
  ASSERT_TRUE(turn_until([&] { return memory->idle(); }));
  EXPECT_EQ(cards[0].known(), kBounce);
}

TEST_F(RdmaMemoryTest, ARefusalReachesWhoAskedAndLeavesNothing) {
  const Addresses large(2 * RdmaMemory::kSliceBytes + 4096);  // its last slice is small enough
  cards[1].limit(kMiB);
  memory->add_region(kOne, large.span());
  const Status refused = known(kOne);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("RLIMIT_MEMLOCK"), std::string::npos);
  EXPECT_EQ(memory->state(kOne), RdmaMemory::State::failed);
  EXPECT_EQ(known(kOne).code(), StatusCode::kResourceExhausted);  // also later
  EXPECT_EQ(metrics.registration_failures.get(), 1u);
  ASSERT_TRUE(turn_until([&] { return memory->idle(); }));
  for (SlowCard& card : cards) EXPECT_EQ(card.known(), kBounce);
  cards[1].limit(SIZE_MAX);
  memory->add_region(kTwo, large.span());  // asked anew, it is tried anew
  EXPECT_TRUE(known(kTwo).ok());
  memory->remove_region(kOne);
  EXPECT_EQ(memory->state(kTwo), RdmaMemory::State::known);
}

TEST_F(RdmaMemoryTest, DeviceMemoryIsLearnedInSlicesOfItsDmabufOrRefused) {
  const Addresses of_device(2 * RdmaMemory::kSliceBytes);
  Fd file(::memfd_create("dmabuf", MFD_CLOEXEC));
  const int number = file.get();
  memory->add_region(kOne, of_device.span(), std::move(file), 8192);
  ASSERT_TRUE(known(kOne).ok());
  std::vector<SlowCard::Dmabuf> asked = cards[0].dmabufs();
  ASSERT_EQ(asked.size(), 2u);
  std::sort(asked.begin(), asked.end(),
            [](const auto& left, const auto& right) { return left.offset < right.offset; });
  for (size_t slice = 0; slice < 2; ++slice) {
    EXPECT_EQ(asked[slice].file, number);
    EXPECT_EQ(asked[slice].offset, 8192 + slice * RdmaMemory::kSliceBytes);
    EXPECT_EQ(asked[slice].bytes, RdmaMemory::kSliceBytes);
    EXPECT_EQ(asked[slice].access, RdmaAccess::peers);
  }
  std::vector<RdmaGrantEntry> entries;
  memory->find_remote(0, kOne, of_device.span().subspan(4096, 100), &entries);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].address, reinterpret_cast<uint64_t>(of_device.span().data()) + 4096);
  memory->remove_region(kOne);
  cards[1].take_no_dmabufs();
  memory->add_region(kTwo, of_device.span(), Fd(::memfd_create("dmabuf", MFD_CLOEXEC)), 0);
  EXPECT_EQ(known(kTwo).code(), StatusCode::kUnimplemented);
}

TEST_F(RdmaMemoryTest, ClosingGivesUpWhatHasNotBegun) {
  const Addresses large(10 * RdmaMemory::kSliceBytes);
  shut(true);
  memory->add_region(kOne, large.span());
  memory->expect(bytes);
  for (SlowCard& card : cards) card.wait_inside(RdmaMemory::kThreadsMax / 2);
  Flag flag;
  memory->when_known(kOne, &flag);
  memory->close();
  shut(false);
  ASSERT_TRUE(turn_until([&] { return flag.finished && memory->idle(); }));
  EXPECT_EQ(flag.result.code(), StatusCode::kUnavailable);
  EXPECT_EQ(cards[0].learned(), kBounce + static_cast<int>(RdmaMemory::kThreadsMax / 2));
  memory->expect(bytes);  // too late: nothing flies any more
  memory->forget(bytes);
  EXPECT_TRUE(memory->idle());
}

TEST_F(RdmaMemoryTest, ExpectationsAreBounded) {
  shut(true);
  const Addresses large((RdmaMemory::kExpectedMax + 1) * 4096);
  for (size_t i = 0; i <= RdmaMemory::kExpectedMax; ++i) {
    memory->expect(large.span().subspan(i * 4096, 4096));
  }
  EXPECT_EQ(metrics.registrations_flying.get(), RdmaMemory::kExpectedMax);
  EXPECT_EQ(metrics.registration_failures.get(), 1u);
  shut(false);
  ASSERT_TRUE(turn_until([&] { return memory->idle(); }));
  EXPECT_EQ(cards[0].known(), kBounce + static_cast<int>(RdmaMemory::kExpectedMax));
}
}  // namespace
}  // namespace terrace
