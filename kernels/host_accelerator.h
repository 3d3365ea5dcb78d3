// kernels/host_accelerator.h - the twin of the CUDA accelerator in ordinary memory: the same
// contract, threads and order, for machines without a GPU. Slabs are memory files, so that another
// process opens them as it would open device memory.
#pragma once
#include "kernels/accelerator.h"

namespace terrace {

class HostAccelerator final : public Accelerator {
 public:
  std::string name() const override { return "host"; }
  DeviceStatus make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) override;
  DeviceStatus expect_host(std::span<std::byte> memory) override;
  DeviceStatus forget_host(std::span<std::byte> memory) override;
  DeviceStatus open_slab(const DeviceSlabHandle& handle, std::unique_ptr<OpenedSlab>* out) override;
};
}  // namespace terrace
