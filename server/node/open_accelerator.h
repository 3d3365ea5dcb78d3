// server/node/open_accelerator.h - from the name of a device to the accelerator behind the hbm
// tier. The only place of the node that knows which of them were built.
#pragma once
#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/accelerator.h"

namespace terrace {

/// "cuda:N", the GPU with that ordinal, or "host", the twin in ordinary memory, for tests. Else
/// kInvalidArgument. kFailedPrecondition: this build has no CUDA. kUnavailable: no such GPU, or it
/// cannot be used.
StatusOr<std::shared_ptr<Accelerator>> open_accelerator(const std::string& device);
/// As above, of the name alone.
Status check_accelerator_name(const std::string& device);
}  // namespace terrace
