// kernels/cuda_said.h - what a call into CUDA returned, in words.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "kernels/device_memory.h"

namespace terrace {

inline DeviceResult cuda_said(cudaError_t code, const std::string& what) {
  if (code == cudaSuccess) return {};
  (void)cudaGetLastError();  // else the caller's next launch would be blamed for it
  return {code, what + ": " + cudaGetErrorName(code) + ": " + cudaGetErrorString(code)};
}
}  // namespace terrace
