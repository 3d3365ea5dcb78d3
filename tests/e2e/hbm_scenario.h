// tests/e2e/hbm_scenario.h - a node with device memory: what is fetched gets a copy there, and is
// served from it once dram has dropped it. Over the accelerator's twin and, where there is a GPU,
// over that.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "tests/e2e/harness.h"

namespace terrace::e2e {

/// Every fetched byte is compared.
inline void expect_served_from(const std::string& hbm_device) {
  ScratchDirectory scratch;
  NodeProcess node({"--data-directory", scratch.path(), "--nvme-bytes", "512MiB", "--dram-bytes",
                    "128MiB", "--slab-bytes", "64MiB", "--promote-hits", "0", "--hbm-bytes",
                    "64MiB", "--hbm-device", hbm_device});
  TestClient client(node.endpoint());
  constexpr uint64_t kBytes = 8u << 20;
  const auto name = [](int i) { return "o" + std::to_string(i); };
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(client.put(name(i), kBytes, Durability::nvme, 16), StatusCode::kOk) << i;
    ASSERT_EQ(client.fetch(name(i), kBytes), StatusCode::kOk) << i;
  }
  for (int i = 4; i < 28; ++i) {  // 192 MiB more through 128 MiB of dram, never fetched
    ASSERT_EQ(client.put(name(i), kBytes, Durability::nvme, 16), StatusCode::kOk) << i;
  }
  uint64_t from_hbm = 0;
  for (int i = 0; i < 28; ++i) {
    Completion completion;
    ASSERT_EQ(client.fetch(name(i), kBytes, &completion), StatusCode::kOk) << i;
    from_hbm += completion.tier_bytes[static_cast<size_t>(Tier::hbm)];
  }
  EXPECT_GE(from_hbm, 2 * kBytes);
  EXPECT_EQ(node.counter("hbm_errors"), 0u);
}
}  // namespace terrace::e2e
