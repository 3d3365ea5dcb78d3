// Goal: what tests/e2e/hbm_test shows over the twin holds over a GPU. Method: the same scenario.
#include "kernels/cuda_accelerator.h"
#include "tests/e2e/hbm_scenario.h"

namespace terrace::e2e {
namespace {

class HbmGpuNode : public OverEachPath {};

TEST_P(HbmGpuNode, WhatIsUsedMostStaysInDeviceMemory) {
  std::unique_ptr<Accelerator> accelerator;
  const DeviceResult found = make_cuda_accelerator(0, &accelerator);
  if (!found.ok()) GTEST_SKIP() << found.message;
  expect_served_from("cuda:0");
}

INSTANTIATE_TEST_SUITE_P(Paths, HbmGpuNode, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
