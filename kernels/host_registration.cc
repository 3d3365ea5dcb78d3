#include "kernels/host_registration.h"

#include <string>
#include <utility>

#include "kernels/cuda_said.h"

namespace terrace {
HostRegistration::HostRegistration(HostRegistration&& other) noexcept
    : memory_(std::exchange(other.memory_, {})) {}

HostRegistration& HostRegistration::operator=(HostRegistration&& other) noexcept {
  std::swap(memory_, other.memory_);
  return *this;
}

HostRegistration::~HostRegistration() {
  (void)end();
}

DeviceResult HostRegistration::create(std::span<const std::byte> memory, HostAccess access,
                                      HostRegistration* out) {
  const std::string what = "registering " + std::to_string(memory.size()) + " bytes of host memory";
  if (memory.empty()) return cuda_said(cudaErrorInvalidValue, what);
  unsigned flags = cudaHostRegisterPortable;
  if (access == HostAccess::read_only) {
    if (!registers_read_only_memory()) {
      return cuda_said(cudaErrorNotSupported, what + " read-only (copy from it unregistered)");
    }
    flags |= cudaHostRegisterReadOnly;
  }
  // CUDA takes a pointer to non-const whatever the flags; with ReadOnly nothing is written.
  void* const begin = const_cast<std::byte*>(memory.data());
  DeviceResult status = cuda_said(cudaHostRegister(begin, memory.size(), flags), what);
  if (!status.ok()) return status;
  HostRegistration made;
  made.memory_ = memory;
  *out = std::move(made);
  return {};
}

DeviceResult HostRegistration::end() {
  if (memory_.empty()) return {};
  const std::span<const std::byte> memory = std::exchange(memory_, {});
  return cuda_said(cudaHostUnregister(const_cast<std::byte*>(memory.data())),
                   "unregistering " + std::to_string(memory.size()) + " bytes of host memory");
}

bool registers_read_only_memory() {
  int device = 0, supported = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&supported, cudaDevAttrHostRegisterReadOnlySupported,
                                            device) == cudaSuccess;
  (void)cudaGetLastError();
  return known && supported != 0;
}
}  // namespace terrace
