// kernels/cuda_accelerator.h - the accelerator on a GPU. Built where CUDA is found; this header
// needs none.
#pragma once
#include "kernels/accelerator.h"

namespace terrace {

/// The GPU with this ordinal. cudaErrorInvalidDevice and the like: there is none, or it cannot be
/// used; the message says what CUDA says. Makes the device's primary context in this process.
DeviceResult make_cuda_accelerator(int ordinal, std::unique_ptr<Accelerator>* out);
}  // namespace terrace
