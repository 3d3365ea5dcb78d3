// tests/sim/sim_accelerator.h - device memory under the simulation's clock, whose copies fail, hang
// and damage on demand. Used from the loop's thread.
#pragma once
#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/loop.h"
#include "kernels/accelerator.h"

namespace terrace::testing {

class SimAccelerator final : public Accelerator {
 public:
  explicit SimAccelerator(Loop* loop, Nanos latency = microseconds(300))
      : loop_(loop), latency_(latency), timer_([this] { end_due(); }) {}
  ~SimAccelerator() override { loop_->disarm(&timer_); }

  /// The next so many copies fail.
  void fail(uint32_t copies) { failing_ = copies; }
  /// From now on no copy ends; release(): those that wait do, and their bytes move only then.
  void hang() { hanging_ = true; }
  void release() {
    hanging_ = false;
    loop_->arm(&timer_, loop_->now());
  }
  uint64_t waiting() const { return copies_.size(); }
  /// All of the slab's memory.
  std::vector<std::byte>& memory() { return memory_; }
  uint64_t expected_bytes() const { return expected_bytes_; }

  std::string name() const override { return "sim"; }
  DeviceResult make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) override {
    if (bytes > kBytesMax) return {2, "the simulated device has 64 MiB"};
    memory_.assign(bytes, std::byte{0});
    *out = std::make_unique<Slab>(this);
    return {};
  }
  DeviceResult expect_host(std::span<std::byte> memory) override {
    expected_bytes_ += memory.size();
    return {};
  }
  DeviceResult forget_host(std::span<std::byte> memory) override {
    expected_bytes_ -= memory.size();
    return {};
  }
  DeviceResult open_slab(const DeviceSlabHandle&, uint64_t, std::unique_ptr<OpenedSlab>*) override {
    return {801, "one process only"};
  }

 private:
  static constexpr uint64_t kBytesMax = uint64_t{64} << 20;
  class Slab final : public DeviceSlab {
   public:
    explicit Slab(SimAccelerator* home) : home_(home) {}
    uint64_t size_bytes() const override { return home_->memory_.size(); }
    DeviceResult copy_in(std::span<const Piece> pieces, Ended ended) override {
      return home_->start(pieces, true, std::move(ended));
    }
    DeviceResult copy_out(std::span<const Piece> pieces, Ended ended) override {
      return home_->start(pieces, false, std::move(ended));
    }
    DeviceResult handle(DeviceSlabHandle* out) const override {
      *out = {};
      return {};
    }

   private:
    SimAccelerator* const home_;
  };
  struct Copy {
    std::vector<DeviceSlab::Piece> pieces;
    bool in = false;
    Nanos at{0};
    DeviceSlab::Ended ended;
  };

  DeviceResult start(std::span<const DeviceSlab::Piece> pieces, bool in, DeviceSlab::Ended ended) {
    for (const DeviceSlab::Piece& piece : pieces) {
      TERRACE_CHECK(piece.offset + piece.bytes <= memory_.size());
    }
    copies_.push_back(
        {{pieces.begin(), pieces.end()}, in, loop_->now() + latency_, std::move(ended)});
    if (!hanging_ && !timer_.armed()) loop_->arm(&timer_, copies_.front().at);
    return {};
  }
  void end_due() {
    while (!hanging_ && !copies_.empty() && copies_.front().at <= loop_->now()) {
      const Copy copy = std::move(copies_.front());
      copies_.pop_front();
      const bool fails = failing_ > 0;
      if (fails) --failing_;
      for (const DeviceSlab::Piece& piece : copy.pieces) {
        std::byte* const there = memory_.data() + piece.offset;
        const uint64_t bytes = fails ? piece.bytes / 2 : piece.bytes;
        std::memcpy(copy.in ? there : piece.host, copy.in ? piece.host : there, bytes);
      }
      copy.ended(fails ? DeviceResult{700, "an illegal memory access"} : DeviceResult());
    }
    if (!hanging_ && !copies_.empty()) loop_->arm(&timer_, copies_.front().at);
  }

  Loop* const loop_;
  const Nanos latency_;
  std::vector<std::byte> memory_;
  std::list<Copy> copies_;
  uint32_t failing_ = 0;
  bool hanging_ = false;
  uint64_t expected_bytes_ = 0;
  Timer timer_;
};
}  // namespace terrace::testing
