// kernels/host_accelerator.h - the twin of the CUDA accelerator in ordinary memory: the same
// contract, threads and order, for machines without a GPU. Slabs are memory files, so that another
// process opens them as it would open device memory.
#pragma once
#include "kernels/accelerator.h"

namespace terrace {

class HostAccelerator final : public Accelerator {
 public:
  std::string name() const override { return "host"; }
  DeviceResult make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) override;
  DeviceResult expect_host(std::span<std::byte> memory) override;
  DeviceResult forget_host(std::span<std::byte> memory) override;
  DeviceResult open_slab(const DeviceSlabHandle& handle, uint64_t bytes,
                         std::unique_ptr<OpenedSlab>* out) override;
};
}  // namespace terrace
