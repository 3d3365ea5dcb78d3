#include "server/node/open_accelerator.h"

#include <charconv>
#include <optional>

#include "kernels/host_accelerator.h"
#ifdef TERRACE_HAS_CUDA
#include "kernels/cuda_accelerator.h"
#endif

namespace terrace {
namespace {

constexpr const char* kHost = "host";

/// The N of "cuda:N".
std::optional<int> ordinal_of(const std::string& device) {
  constexpr std::string_view kPrefix = "cuda:";
  if (!device.starts_with(kPrefix)) return std::nullopt;
  int ordinal = -1;
  const char* const end = device.data() + device.size();
  const auto [stopped, wrong] = std::from_chars(device.data() + kPrefix.size(), end, ordinal);
  const bool whole = wrong == std::errc() && stopped == end && ordinal >= 0 && ordinal < 1024;
  return whole ? std::optional(ordinal) : std::nullopt;
}

StatusOr<std::shared_ptr<Accelerator>> open_cuda([[maybe_unused]] int ordinal) {
#ifdef TERRACE_HAS_CUDA
  std::unique_ptr<Accelerator> made;
  const DeviceResult status = make_cuda_accelerator(ordinal, &made);
  if (!status.ok()) {
    return error(StatusCode::kUnavailable,
                 "hbm-device=cuda:" + std::to_string(ordinal) + ": " + status.message);
  }
  return std::shared_ptr<Accelerator>(std::move(made));
#else
  return error(StatusCode::kFailedPrecondition,
               "hbm-device=cuda:" + std::to_string(ordinal) +
                   ": terraced was built without CUDA (build it where nvcc is found, or leave out "
                   "hbm-bytes)");
#endif
}
}  // namespace

Status check_accelerator_name(const std::string& device) {
  if (device == kHost || ordinal_of(device)) return ok_status();
  return error(StatusCode::kInvalidArgument,
               "hbm-device=\"" + device + "\": cuda:N (a GPU by its ordinal) or host (for tests)");
}

StatusOr<std::shared_ptr<Accelerator>> open_accelerator(const std::string& device) {
  TERRACE_RETURN_IF_ERROR(check_accelerator_name(device));
  if (device == kHost) return std::shared_ptr<Accelerator>(std::make_shared<HostAccelerator>());
  return open_cuda(*ordinal_of(device));
}
}  // namespace terrace
