// Goal: over a hundred thousand transfers of random sizes, a third of them cancelled at a random
// moment, every byte arrives in its place, and none moves after a transfer is said to be over.
// Method: slots with guards on both sides. What is over is poisoned at once on this side, and
// looked at again, both sides, before the slot is used again.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/limits.h"
#include "tests/contract/transport_pair.h"

namespace terrace {
namespace {

constexpr uint64_t kTransfers = 35'000;  // of each implementation
constexpr size_t kSlots = 24;
constexpr size_t kGuard = 256;
constexpr size_t kLargest = 256 * kKiB;
constexpr size_t kStride = kLargest + 2 * kGuard;
constexpr std::byte kPoison{0xA5};

class Stress {
 public:
  Stress(Side* a, Side* b, std::vector<std::byte>* at_b, RegionId region, uint64_t seed)
      : a_(*a), b_(*b), at_b_(*at_b), region_(region), prng_(seed) {
    for (Slot& slot : slots_) slot.local.assign(kStride, kPoison);
    noise_ = random_bytes(&prng_, kLargest);
  }

  /// Starts what there is room for, and looks at what is over.
  void step() {
    for (size_t i = 0; i < kSlots; ++i) {
      Slot& slot = slots_[i];
      if (!slot.busy && started_ < kTransfers) start(i);
      if (slot.busy && !slot.asked && slot.cancel_in-- == 0) {
        slot.asked = true;
        if (slot.op->runs == 0) a_.transport->cancel(slot.op.get());
      }
      if (slot.busy && slot.op->runs > 0) settle(i);
    }
  }
  bool over() const {
    return started_ == kTransfers &&
           std::none_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.busy; });
  }
  uint64_t arrived = 0;
  uint64_t cancelled = 0;

 private:
  struct Slot {
    bool busy = false;
    bool writes = false;
    bool asked = false;  // to be cancelled; or it is not going to be
    bool poisoned = false;
    uint64_t cancel_in = 0;
    uint64_t tag = 0;
    size_t bytes = 0;
    size_t noise = 0;  // where its bytes begin in noise_
    std::vector<std::byte> local;
    std::unique_ptr<CountingOp> op;
  };
  std::byte* remote(size_t i) { return at_b_.data() + i * kStride + kGuard; }
  size_t random_size() {
    const size_t most = prng_.chance(10) ? kLargest : prng_.chance(50) ? 16 * kKiB : 200;
    return 1 + prng_.below(most);
  }

  void start(size_t i) {
    Slot& slot = slots_[i];
    slot.bytes = random_size();
    slot.noise = prng_.below(kLargest - slot.bytes + 1);
    slot.writes = prng_.chance(50);
    slot.asked = !prng_.chance(33);
    slot.cancel_in = prng_.below(6);
    slot.poisoned = false;
    slot.tag = ++started_;
    slot.op = std::make_unique<CountingOp>();
    std::byte* const here = slot.local.data() + kGuard;
    std::copy_n(noise_.data() + slot.noise, slot.bytes, slot.writes ? here : remote(i));
    const RemoteSpan there{region_, i * kStride + kGuard, slot.bytes};
    const iovec local{here, slot.bytes};
    const Status status = slot.writes ? a_.write(slot.tag, there, local, slot.op.get())
                                      : a_.read(slot.tag, there, local, slot.op.get());
    slot.busy = status.ok();
    ASSERT_TRUE(slot.busy) << status.to_string();
  }

  void settle(size_t i) {
    Slot& slot = slots_[i];
    const bool ok = slot.op->result.ok();
    ASSERT_EQ(slot.op->runs, 1);
    ASSERT_TRUE(ok || slot.op->result.code() == StatusCode::kCancelled);
    std::byte* const here = slot.local.data() + kGuard;
    if (!std::exchange(slot.poisoned, true)) {
      if (!slot.writes && ok) expect_noise(slot, here);
      std::fill_n(here, slot.bytes, kPoison);
    }
    if (slot.writes && ok && !b_.writes.contains(slot.tag)) return;  // free here, under way there
    if (slot.writes && ok) expect_noise(slot, remote(i));
    ASSERT_EQ(b_.writes.contains(slot.tag), slot.writes && ok) << slot.tag;
    b_.writes.erase(slot.tag);
    if (slot.writes && !ok) expect_poison({remote(i), slot.bytes});
    if (!slot.writes) expect_noise(slot, remote(i));
    std::fill_n(remote(i), slot.bytes, kPoison);
    expect_poison({slot.local.data(), kStride});
    expect_poison({at_b_.data() + i * kStride, kStride});
    ++(ok ? arrived : cancelled);
    slot.busy = false;
  }
  void expect_noise(const Slot& slot, const std::byte* got) {
    ASSERT_EQ(std::memcmp(got, noise_.data() + slot.noise, slot.bytes), 0) << slot.tag;
  }
  static void expect_poison(std::span<const std::byte> memory) {
    // Equal to itself shifted by one, and its first byte is right: all of it is.
    ASSERT_EQ(memory[0], kPoison);
    if (memory.size() == 1) return;
    ASSERT_EQ(std::memcmp(memory.data(), memory.data() + 1, memory.size() - 1), 0);
  }

  Side& a_;
  Side& b_;
  std::vector<std::byte>& at_b_;
  const RegionId region_;
  Prng prng_;
  std::vector<std::byte> noise_;
  std::array<Slot, kSlots> slots_;
  uint64_t started_ = 0;
};

TEST_P(TransportContract, ManyTransfersCancelledAtRandomMoveTheirBytesAndNoOther) {
  open();
  std::vector<std::byte> at_b(kSlots * kStride, kPoison);
  const StatusOr<RegionId> region = b.register_region(at_b);
  ASSERT_TRUE(region.ok());
  Stress stress(&a, &b, &at_b, *region, 20);
  Prng prng(21);
  const Nanos end = clock.now() + seconds(240);
  while (!stress.over() && !HasFatalFailure() && clock.now() < end) {
    stress.step();
    turn_random(&prng, 4);
    turn();
  }
  EXPECT_TRUE(stress.over());
  EXPECT_EQ(stress.arrived + stress.cancelled, kTransfers);
  EXPECT_GT(stress.cancelled, kTransfers / 100) << "cancels that came in time";
}
}  // namespace
}  // namespace terrace
