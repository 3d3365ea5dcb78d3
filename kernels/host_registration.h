// kernels/host_registration.h - host memory that is registered with CUDA, so that a GPU's copy
// engines and kernels read it directly; without it the driver copies every byte once more through
// buffers of its own. Made for the read-only mappings that views lie in (Client::view_memory).
// Built where CUDA is found; this header needs none. Thread-safe, except for one object.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device_memory.h"

namespace terrace {

enum class HostAccess : uint8_t {
  read_only,   // of a mapping without PROT_WRITE; kernels must not write through it
  read_write,  // of a writable mapping
};

/// A registration with every device of the process. Move-only; ends with the object.
class HostRegistration {
 public:
  HostRegistration() = default;
  HostRegistration(HostRegistration&& other) noexcept;
  HostRegistration& operator=(HostRegistration&& other) noexcept;
  /// As end(), errors ignored.
  ~HostRegistration();

  /// Registers `memory`, whole pages, which must stay mapped until end(). Pins every page, and has
  /// those allocated that nobody touched yet, so it takes some 5 ms per 100 MiB: once per mapping,
  /// not per view. Errors (`out` is left alone): cudaErrorInvalidValue for an empty range, or for a
  /// read-only mapping without HostAccess::read_only; cudaErrorHostMemoryAlreadyRegistered when a
  /// page of it is registered; cudaErrorNotSupported when the device cannot register read-only
  /// memory; whatever CUDA says when so much cannot be pinned. None is a reason to stop: copies
  /// from unregistered memory are right too, and slower by far.
  static DeviceResult create(std::span<const std::byte> memory, HostAccess access,
                             HostRegistration* out);
  /// Unregisters. Whatever copies from the memory or reads it on a device must be over. A
  /// registration that is empty or has ended: fine.
  DeviceResult end();

  /// Empty: none.
  std::span<const std::byte> memory() const { return memory_; }

 private:
  std::span<const std::byte> memory_;
};

/// Whether the current device can register memory that is mapped read-only.
bool registers_read_only_memory();
}  // namespace terrace
