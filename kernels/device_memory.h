// kernels/device_memory.h - how rooms without CUDA headers speak of work on an accelerator: plain
// values only, so that whoever includes this links no CUDA.
#pragma once
#include <string>

namespace terrace {

/// A cudaStream_t. Null: the default stream.
using DeviceStream = void*;

/// What the accelerator's runtime said.
struct DeviceResult {
  int code = 0;         // a cudaError_t; 0: fine
  std::string message;  // when not: the call, the object, the runtime's words, what to do
  bool ok() const { return code == 0; }
};
}  // namespace terrace
