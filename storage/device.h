// storage/device.h - the seam between the tiers and a world that can fail.
//
// Implementations: UringDevice (O_DIRECT file or block device), SimDevice (tests/sim). Used only
// from its loop's thread. Every implementation passes tests/contract/device_contract.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/op.h"

namespace terrace {

/// A flat, sector-addressed store.
class Device {
 public:
  static constexpr uint64_t kSectorBytes = 4096;  // alignment, and the torn-write unit we assume
  static constexpr uint64_t kDiscardBytesMax = uint64_t{64} << 20;
  /// Gets exactly the span that the late read or write was started with.
  using Released = std::function<void(std::span<const std::byte> memory)>;

  virtual ~Device() = default;
  /// `offset`, sizes and buffer addresses are multiples of kSectorBytes; sizes are not 0. Buffers
  /// live until `op` is done, longer after kDeadlineExceeded (see on_released). Never a short
  /// transfer. Errors: kOutOfRange (past the end), kDataLoss (media error), kResourceExhausted (no
  /// space, or too many operations wait), kUnavailable (device gone or hanging; it does not touch
  /// the memory), kDeadlineExceeded (the device hangs).
  virtual void read(uint64_t offset, std::span<std::byte> into, Op* op) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> from, Op* op) = 0;
  /// When done OK: every write that was done before this call survives a power cut. Errors as
  /// above.
  virtual void sync(Op* op) = 0;
  /// Nobody needs what lies there any more, so the device need not keep it. Reads give anything
  /// until it is written again; nothing may be read or written there meanwhile. `bytes` is at most
  /// kDiscardBytesMax, and one runs at a time. When it ends is the device's business: there is no
  /// time limit. kFailedPrecondition: nothing is given back to this device; others as above.
  virtual void discard(uint64_t offset, uint64_t bytes, Op* op) = 0;
  virtual uint64_t size_bytes() const = 0;
  /// Another size, a multiple of kSectorBytes: what is cut off is gone, what is new reads as
  /// anything. When done OK it survives a power cut; a cut before leaves the old size or the new
  /// one. Nothing lies, is read or written beyond the smaller of both meanwhile, and one runs at a
  /// time; there is no time limit. kResourceExhausted: there is not so much space;
  /// kFailedPrecondition: this device has the size that it has.
  virtual void resize(uint64_t bytes, Op* op) = 0;
  /// The resize that runs, if one does, ends soon with kCancelled, its size as it was, unless it is
  /// nearly over: then it ends as it would have.
  virtual void cancel_resize() = 0;
  /// Memory that many requests will lie in, until forget_memory() or as long as the device lives: a
  /// hint that may make them cheaper. At any time. The pages behind the addresses must stay.
  virtual void expect_memory(std::span<std::byte> memory) = 0;
  /// What was expected that touches `memory` is expected no longer; afterwards other pages may be
  /// mapped there. No request that lies there may run, hang included.
  virtual void forget_memory(std::span<std::byte> memory) = 0;

  /// A read or write that ended with kDeadlineExceeded is still in the kernel's hands: its memory,
  /// and for a write its space on the device, must rest untouched until `released` was called with
  /// that memory. Every such operation is released at most once, on the loop's thread, after its
  /// `done` and never inside a call of this class; never, when the device never answers. nullptr
  /// unsets. One listener.
  virtual void on_released(Released released) = 0;
};
}  // namespace terrace
