// kernels/accelerator.h - device memory as a tier needs it: slabs, copies between them and host
// memory that run in the background, and handles by which other processes of the host read them.
//
// Implementations: CudaAccelerator (cuda_accelerator.h, where CUDA is found) and HostAccelerator
// (host_accelerator.h), its twin in ordinary memory. Both pass tests/contract/accelerator_contract
// and, on a GPU, gpu_check. Nothing here knows chunks.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/device_memory.h"

namespace terrace {

/// Names a slab to another process of the same host: a cudaIpcMemHandle_t, or the twin's words.
/// Whoever has it can read and write all of the slab.
struct DeviceSlabHandle {
  std::array<std::byte, 64> bytes{};
};

/// One allocation of device memory. Called from one thread at a time; copies run in the background,
/// those of one direction in the order in which they were started.
class DeviceSlab {
 public:
  struct Piece {
    uint64_t offset = 0;  // in the slab
    std::byte* host = nullptr;
    uint64_t bytes = 0;
  };
  /// Once per copy, from a thread of the accelerator: keep it short.
  using Ended = std::function<void(const DeviceResult&)>;

  /// Waits for the copies that run. One of a device that hangs: for ever; then do not destroy it.
  virtual ~DeviceSlab() = default;
  virtual uint64_t size_bytes() const = 0;
  /// Host memory to the slab. Both stay as they are until `ended`. Not OK: refused, `ended` never
  /// runs; cudaErrorInvalidValue (1): a piece lies outside of the slab.
  virtual DeviceResult copy_in(std::span<const Piece> pieces, Ended ended) = 0;
  /// The slab to host memory. As above. After `ended` with OK the bytes are in host memory.
  virtual DeviceResult copy_out(std::span<const Piece> pieces, Ended ended) = 0;
  /// For Accelerator::open_slab in another process. cudaErrorNotSupported (801): this device or
  /// system cannot share memory.
  virtual DeviceResult handle(DeviceSlabHandle* out) const = 0;
};

/// A slab of another process, mapped here; ends with the object. What the owner writes is seen.
class OpenedSlab {
 public:
  virtual ~OpenedSlab() = default;
  /// A device pointer (the twin's: an ordinary one).
  virtual std::byte* address() const = 0;
  /// Fills `into` with the slab's bytes from `offset` on, which lie inside of it. Waits, and is
  /// slow: for whoever checks, and captures no stream meanwhile. Thread-safe.
  virtual DeviceResult read(uint64_t offset, std::span<std::byte> into) const = 0;
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  /// For logs and `terrace tier status`: "cuda:0 NVIDIA H100", "host".
  virtual std::string name() const = 0;
  /// Filled with zeroes. cudaErrorMemoryAllocation (2): the device has not so much.
  virtual DeviceResult make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) = 0;
  /// From here to forget_host() copies from and to these pages go by DMA, without the driver's own
  /// copy. Whole pages that stay mapped; takes about 5 ms per 100 MiB. Not OK is no reason to stop:
  /// copies are right without it, and slower by far.
  virtual DeviceResult expect_host(std::span<std::byte> memory) = 0;
  /// Exactly what was expected; no copy of it runs.
  virtual DeviceResult forget_host(std::span<std::byte> memory) = 0;
  /// `bytes`: the slab's, as its owner says. cudaErrorInvalidValue (1): not the handle of a slab
  /// that lives, or of this very process, or of a slab of another size
  /// (CUDA's runtime does not tell: who has a handle from somebody else trusts him with the size).
  virtual DeviceResult open_slab(const DeviceSlabHandle& handle, uint64_t bytes,
                                 std::unique_ptr<OpenedSlab>* out) = 0;
};
}  // namespace terrace
