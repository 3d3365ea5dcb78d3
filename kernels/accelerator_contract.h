// kernels/accelerator_contract.h - what every Accelerator must do, as one suite: the unit tests run
// it over the twin, gpu_check over a GPU. Needs no test library, for gpu_check has none.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/accelerator.h"

namespace terrace {

/// One promise, and whether it held.
struct ContractResult {
  std::string promise;
  bool held = false;
  std::string detail;  // when not
};

/// Bytes that two processes can make from a seed.
void fill_from(uint64_t seed, std::span<std::byte> out);

/// Opens the slab in another process, and says whether it holds what fill_from(seed) makes.
using SeenElsewhere =
    std::function<bool(const DeviceSlabHandle& handle, uint64_t bytes, uint64_t seed)>;

/// Takes at most 64 MiB of the device and some seconds. Blocks.
std::vector<ContractResult> check_accelerator(Accelerator* accelerator,
                                              const SeenElsewhere& seen_elsewhere);
}  // namespace terrace
