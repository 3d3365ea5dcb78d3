// tests/e2e/device_view_scenario.h - a node whose device memory is one tenant's, and an engine of
// that tenant that reads there for itself. Over the accelerator's twin and, where there is a GPU,
// over that.
#pragma once
#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/accelerator.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {

inline constexpr uint64_t kBytes = 4u << 20;

inline std::vector<std::string> flags_with_hbm(const std::string& device,
                                               std::vector<std::string> more = {}) {
  std::vector<std::string> flags = {"--dram-bytes",    "128MiB", "--hbm-bytes",  "64MiB",
                                    "--hbm-device",    device,   "--hbm-tenant", "default",
                                    "--view-grace-ms", "100",    "--slab-bytes", "64MiB"};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

inline ClientConfig config_with(const NodeProcess& node, std::shared_ptr<Accelerator> accelerator) {
  ClientConfig config = TestClient::config(node.endpoint());
  config.accelerator = std::move(accelerator);
  return config;
}

inline Completion view(TestClient* client, const std::vector<std::string>& names) {
  std::vector<ChunkKey> keys;
  for (const std::string& name : names) keys.push_back(client->key(name));
  const auto op = client->sdk().device_view(client->ns(), keys, {});
  EXPECT_TRUE(op.ok()) << op.status().to_string();
  if (!op.ok()) return {};
  auto done = client->sdk().wait(*op, std::chrono::seconds(5));
  EXPECT_TRUE(done.ok());
  return *std::move(done);
}

inline void nap() {
  (void)::poll(nullptr, 0, 20);
}

/// A young node refuses puts until enough of its slabs are populated.
inline void store_surely(TestClient* client, const std::string& name) {
  StatusCode code = StatusCode::kResourceExhausted;
  for (int i = 0; i < 500 && code == StatusCode::kResourceExhausted; ++i) {
    if (i > 0) nap();
    code = client->put(name, kBytes, Durability::memory);
  }
  EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kAlreadyExists);
}

/// Uses them until each has a copy; the views are the caller's.
inline Completion view_surely(TestClient* client, const std::vector<std::string>& names) {
  Completion done;
  for (int i = 0; i < 500; ++i) {
    done = view(client, names);
    size_t there = 0;
    for (const StatusCode code : done.key_codes) there += code == StatusCode::kOk;
    if (there == names.size()) return done;
    for (const ObjectView& each : done.views) client->sdk().release_view(each.id);
    nap();
  }
  ADD_FAILURE() << done.status.to_string();
  return done;
}

inline bool comes_to(const NodeProcess& node, const std::string& counter, uint64_t value) {
  for (int i = 0; i < 500; ++i) {
    if (node.counter(counter) == value) return true;
    nap();
  }
  return false;
}

/// Views of the node's copies in `device`, read by `read` out of what `accelerator` opened: every
/// byte is compared.
inline void expect_views_of(
    const std::string& device, std::shared_ptr<Accelerator> accelerator,
    const std::function<std::vector<std::byte>(const std::span<const std::byte>&)>& read) {
  const auto bytes_of = [&read](const ObjectView& view) {
    std::vector<std::byte> out;
    for (const ViewedSection& section : view.sections) {
      for (const auto& piece : section.pieces) {
        const std::vector<std::byte> bytes = read(piece);
        out.insert(out.end(), bytes.begin(), bytes.end());
      }
    }
    return out;
  };
  NodeProcess node(flags_with_hbm(device));
  TestClient client(config_with(node, std::move(accelerator)));
  ASSERT_EQ(client.put("a", kBytes, Durability::memory, 5), StatusCode::kOk);
  ASSERT_EQ(client.put("b", 70'001, Durability::memory), StatusCode::kOk);
  const Completion done = view_surely(&client, {"a", "b"});
  ASSERT_EQ(done.views.size(), 2u);
  EXPECT_TRUE(done.views[0].on_device);
  EXPECT_EQ(done.views[0].sections.size(), 5u);
  EXPECT_EQ(bytes_of(done.views[0]), TestClient::content("a", kBytes));
  EXPECT_EQ(bytes_of(done.views[1]), TestClient::content("b", 70'001));
  for (const ObjectView& each : done.views) {
    EXPECT_TRUE(client.sdk().view_valid(each.id));
    EXPECT_TRUE(client.sdk().verify(each.id).ok());
  }
  EXPECT_EQ(view(&client, {"never stored"}).key_codes[0], StatusCode::kNotFound);
  EXPECT_EQ(node.counter("views_device"), 2u);
  EXPECT_EQ(node.counter("device_borrowers"), 1u);
  for (const ObjectView& each : done.views) client.sdk().release_view(each.id);
  EXPECT_FALSE(client.sdk().view_valid(done.views[0].id));
  EXPECT_TRUE(comes_to(node, "view_bytes", 0));
  EXPECT_EQ(node.counter("device_borrowers"), 1u) << "open for the next";
}
}  // namespace terrace::e2e
