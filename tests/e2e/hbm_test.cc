// Goal: a node with device memory serves from it what dram no longer holds, over every path, and
// says so. Method: a real node with the accelerator's twin in ordinary memory; every fetched byte
// compared.
#include "tests/e2e/hbm_scenario.h"

namespace terrace::e2e {
namespace {

class HbmNode : public OverEachPath {};

TEST_P(HbmNode, WhatIsUsedMostStaysInDeviceMemory) {
  expect_served_from("host");
}

INSTANTIATE_TEST_SUITE_P(Paths, HbmNode, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
