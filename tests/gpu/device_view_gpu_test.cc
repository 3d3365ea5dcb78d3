// Goal: what tests/e2e/device_view_test shows over the twin holds over a GPU: another process opens
// the node's memory by CUDA IPC and reads every byte. Method: the same scenario.
#include <cuda_runtime.h>

#include "kernels/cuda_accelerator.h"
#include "tests/e2e/device_view_scenario.h"

namespace terrace::e2e {
namespace {

TEST(DeviceViewGpuTest, is_the_object_where_it_lies_in_device_memory) {
  std::unique_ptr<Accelerator> accelerator;
  const DeviceResult found = make_cuda_accelerator(0, &accelerator);
  if (!found.ok()) GTEST_SKIP() << found.message;
  expect_views_of("cuda:0", std::move(accelerator), [](const auto& piece) {
    std::vector<std::byte> bytes(piece.size());
    EXPECT_EQ(cudaMemcpy(bytes.data(), piece.data(), piece.size(), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return bytes;
  });
}
}  // namespace
}  // namespace terrace::e2e
