// tests/sim/sim_device.h - a disk made of memory, a seed, and bad luck. Used from one thread.
//
// Faults are those that the design promises to survive: a power cut keeps, loses or garbles each
// 4 KiB sector of each write that was not synced, in flight or done; an operation fails once or
// from then on; the disk hangs and answers late. Operations end in an order that the seed picks.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/loop.h"
#include "storage/device.h"
#include "tests/sim/sim_disk.h"

namespace terrace::sim {

class SimDevice final : public Device {
 public:
  /// With a loop every operation ends by itself on a later turn; without one, with step(). While it
  /// hangs, operations time out after `io_timeout` of the loop's clock.
  SimDevice(SimDisk* disk, uint64_t bytes, Loop* loop = nullptr, Nanos io_timeout = seconds(5));
  ~SimDevice() override;

  void read(uint64_t offset, std::span<std::byte> into, Op* op) override;
  void write(uint64_t offset, std::span<const std::byte> from, Op* op) override;
  void sync(Op* op) override;
  /// What was there reads as zeroes or as garbage, each sector on its own.
  void discard(uint64_t offset, uint64_t bytes, Op* op) override;
  uint64_t size_bytes() const override { return bytes_; }
  /// A power cut before it ends leaves either size.
  void resize(uint64_t bytes, Op* op) override;
  void cancel_resize() override;
  void expect_memory(std::span<std::byte>) override {}
  void forget_memory(std::span<std::byte>) override {}
  void on_released(Released released) override { released_ = std::move(released); }

  /// Ends one pending operation, chosen by the seed. False: none is pending, or nothing moves any
  /// more (no power, or it hangs).
  bool step();
  size_t pending() const { return pending_.size(); }

  /// After a power cut: what survived is what is there. Nothing pending ever ends. Then, with a new
  /// loop or none, the next life begins; every object that waited is gone by now.
  void restart(Loop* loop);

  /// The operation after `skip` more that end fails with `error`, and when `persistent` all after
  /// it.
  void fail(uint64_t skip, Status error, bool persistent = false);
  void heal() { failure_.reset(); }
  /// Answers nothing until let_go(). Operations end with kDeadlineExceeded when they time out, or
  /// all at once with time_out().
  void hang() { hanging_ = true; }
  void time_out();
  /// The late operations happen now, writes and reads of memory included, and are released.
  void let_go();
  /// Answers what comes from now on; what timed out is never released.
  void answer_again();
  /// Changes one bit of what is stored.
  void flip_bit(uint64_t offset, unsigned bit);
  /// Only in a canary test: a discard takes so many bytes more on either side.
  void discard_too_much(uint64_t bytes) { too_much_ = bytes; }
  /// Only in a canary test: a resize to less leaves so many bytes less than asked for.
  void cut_too_much(uint64_t bytes) { cut_too_much_ = bytes; }
  /// Sectors that hold something.
  size_t sectors_kept() const { return durable_.size(); }
  /// False only in a canary test: sync() then ends OK and keeps nothing.
  void keep_promises(bool keep) { honest_ = keep; }

 private:
  using Sector = std::array<std::byte, kSectorBytes>;
  using Medium = std::unordered_map<uint64_t, std::unique_ptr<Sector>>;  // absent: zeroes
  enum class Kind : uint8_t { read, write, sync, discard, resize };
  struct Pending {
    Kind kind = Kind::read;
    uint64_t at = 0;
    std::span<std::byte> into;
    std::span<const std::byte> from;
    uint64_t discarded = 0;  // bytes, of a discard
    uint64_t size = 0;       // of a resize: the new one
    bool cancelled = false;  // a resize
    Op* op = nullptr;
    uint64_t writes_before = 0;  // of a sync: writes that were done when it was asked for
    Nanos since{0};
  };
  struct Written {
    uint64_t at = 0;
    std::vector<std::byte> bytes;
    uint64_t number = 0;
  };
  void start(Pending pending);
  void end(Pending* pending);
  void arm_timeout();
  void time_out_before(Nanos limit);
  static Sector& sector_of(Medium* medium, uint64_t number);
  static void copy_to(Medium* medium, uint64_t at, std::span<const std::byte> bytes);
  void copy_from_current(uint64_t at, std::span<std::byte> into) const;
  void survive(const Written& written);
  void forget(uint64_t at, uint64_t bytes);
  void become(uint64_t bytes);

  SimDisk* const disk_;
  uint64_t bytes_;
  Loop* loop_;
  const Nanos io_timeout_;
  Medium durable_;   // what survives a power cut
  Medium volatile_;  // newer sectors that reads see
  std::vector<Pending> pending_;
  std::vector<Pending> late_;      // timed out
  std::vector<Written> unsynced_;  // done, in order
  uint64_t writes_done_ = 0;
  uint64_t ended_ = 0;
  struct Failure {
    uint64_t at = 0;
    Status error;
    bool persistent = false;
  };
  std::optional<Failure> failure_;
  bool hanging_ = false;
  bool honest_ = true;
  uint64_t too_much_ = 0;
  uint64_t cut_too_much_ = 0;
  Released released_;
  std::shared_ptr<bool> alive_;  // the loop's tasks look whether this life is over
  Timer timeout_;
};
}  // namespace terrace::sim
